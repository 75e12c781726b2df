package admission

import (
	"context"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
)

// nodeReader has one node.
type nodeReader struct{ Reader }

func (nodeReader) Object(_ context.Context, _, _, _, name string, _ bool) (registry.Object, bool, error) {
	if name != "here" {
		return nil, false, nil
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{
		corev1.LabelTopologyZone: "z", corev1.LabelTopologyRegion: "r", corev1.LabelHostname: "h"}}}, true, nil
}

// A pod learns the zone and the region of the node that it is bound to, and nothing else of it.
func TestPodTopologyLabels(t *testing.T) {
	pod := func(node string) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: node}}
		p.Labels = map[string]string{"a": "b", corev1.LabelTopologyZone: "mine"}
		return p
	}
	binding := func(kind, node string) *corev1.Binding {
		return &corev1.Binding{Target: corev1.ObjectReference{Kind: kind, Name: node}}
	}
	place := map[string]string{corev1.LabelTopologyZone: "z", corev1.LabelTopologyRegion: "r"}
	both := map[string]string{"a": "b", corev1.LabelTopologyZone: "z", corev1.LabelTopologyRegion: "r"}
	for name, c := range map[string]struct {
		a       Attributes
		want    map[string]string
		changed bool
	}{
		"binding":             {Attributes{Operation: Update, Subresource: "binding", Body: binding("Node", "here")}, place, true},
		"binding to nowhere":  {Attributes{Operation: Update, Subresource: "binding", Body: binding("Node", "gone")}, nil, false},
		"binding to no node":  {Attributes{Operation: Update, Subresource: "binding", Body: binding("Minion", "here")}, nil, false},
		"pod made bound":      {Attributes{Operation: Create, Object: pod("here")}, both, false},
		"pod made bound away": {Attributes{Operation: Create, Object: pod("gone")}, pod("").Labels, false},
		"pod":                 {Attributes{Operation: Create, Object: pod("")}, pod("").Labels, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := PodTopologyLabels(nodeReader{}).Mutate(t.Context(), &c.a); err != nil {
				t.Fatal(err)
			}
			var got map[string]string
			if b, ok := c.a.Body.(*corev1.Binding); ok {
				got = b.Labels
			} else {
				got = c.a.Object.GetLabels()
			}
			if !maps.Equal(got, c.want) || c.a.BodyChanged != c.changed {
				t.Errorf("%v, body changed %t", got, c.a.BodyChanged)
			}
		})
	}
}
