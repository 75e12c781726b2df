package engine

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/controllermanager/plan"
)

// Followers tell of the kinds that they were given last, and of no others; none is left running after Stop.
func TestFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		f := NewFollowers(s.NewClient())
		var seen []string
		handler := func(k plan.Kind) MetaHandler {
			return MetaHandler{
				Snapshot: func(all []*Meta) { seen = append(seen, k.Resource+" snapshot") },
				Changed:  func(m *Meta) { seen = append(seen, k.Resource+" "+m.Name) },
				Deleted:  func(m *Meta) { seen = append(seen, k.Resource+" gone "+m.Name) },
			}
		}
		put := func(name string) {
			meta := metav1.ObjectMeta{Namespace: "ns", Name: name}
			clienttest.Put(s, client.ConfigMaps(), &corev1.ConfigMap{ObjectMeta: meta})
			clienttest.Put(s, client.Secrets(), &corev1.Secret{ObjectMeta: meta})
			time.Sleep(time.Second)
		}
		f.Follow(t.Context(), []plan.Kind{plan.ConfigMaps}, handler)
		time.Sleep(time.Second)
		put("a")
		f.Follow(t.Context(), []plan.Kind{plan.Secrets}, handler)
		time.Sleep(time.Second)
		put("b")
		f.Stop()
		put("c")
		if want := []string{"configmaps snapshot", "configmaps a", "secrets snapshot", "secrets b"}; !slices.Equal(seen, want) {
			t.Errorf("seen %q, want %q", seen, want)
		}
	})
}

// A pod uses the claims that its volumes name, and those of its ephemeral volumes.
func TestPodsByClaim(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{
		{Name: "a", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		{Name: "b", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
		{Name: "c"},
	}}}
	if got := PodsByClaim.Keys(pod); !slices.Equal(got, []string{"ns/data", "ns/p-b"}) {
		t.Errorf("claims %q", got)
	}
}
