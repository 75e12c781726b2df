package pods

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// existing is the pods that there are, namespace/name.
type existing map[string]bool

func (e existing) Taken(namespace string) func(string) bool {
	return func(name string) bool { return e[namespace+"/"+name] }
}

// A name is taken while a pod has it and for a while after, in its own namespace only; the memory is bounded.
func TestRecentTaken(t *testing.T) {
	r := NewRecent()
	note := func(name string) {
		r.Note(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}, nil)
	}
	note("gone")
	for _, tt := range []struct {
		namespace, name string
		want            bool
	}{{"ns", "there", true}, {"ns", "gone", true}, {"ns", "free", false}, {"other", "gone", false}} {
		if got := r.Taken(existing{"ns/there": true}, tt.namespace)(tt.name); got != tt.want {
			t.Errorf("%s/%s taken: %t", tt.namespace, tt.name, got)
		}
	}
	for i := range maxRecent {
		note(fmt.Sprint(i))
	}
	if r.Taken(existing{}, "ns")("gone") || len(r.names) != maxRecent {
		t.Errorf("%d names are remembered, want the last %d", len(r.names), maxRecent)
	}
}
