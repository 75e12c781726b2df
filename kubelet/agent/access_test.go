package agent

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/pod"
)

// TestWordsOfRefusal shows that who asks for a container that is not there gets the API's own words and nothing before them.
func TestWordsOfRefusal(t *testing.T) {
	spec := corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "setup"}},
		Containers:     []corev1.Container{{Name: "main"}, {Name: "side"}, {Name: "pulling"}},
	}
	p := &corev1.Pod{Spec: spec}
	p.Namespace, p.Name, p.UID = "default", "web", "u1"
	w := &worker{uid: "u1", pod: p, waiters: map[string]chan struct{}{}, status: &corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
		{Name: "pulling", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
	}}}
	w.seen.Containers = []pod.Container{{Name: "main", ID: "c1", State: pod.Running}}
	a := &Agent{workers: map[types.UID]*worker{"u1": w}}
	w.a = a
	for _, c := range []struct {
		pod, container string
		previous       bool
		want           string
		kind           error
	}{
		{"web", "nonsense", false, "container nonsense is not valid for pod web", ErrInvalid},
		{"web", "main", true, `previous terminated container "main" in pod "web" not found`, ErrInvalid},
		{"web", "side", true, `previous terminated container "side" in pod "web" not found`, ErrInvalid},
		{"web", "side", false, `container "side" in pod "web" is waiting to start: ContainerCreating`, ErrInvalid},
		{"web", "pulling", false, `container "pulling" in pod "web" is waiting to start: trying and failing to pull image`, ErrInvalid},
		{"web", "", false, "a container name must be specified for pod web, choose one of: [main side pulling] or one of the init containers: [setup]", ErrInvalid},
		{"other", "", false, `pod "default/other" not found on this node`, ErrNotFound},
	} {
		_, err := a.Instance("default", c.pod, c.container, c.previous)
		if err == nil || err.Error() != c.want || !errors.Is(err, c.kind) {
			t.Errorf("%s/%s previous=%v: %v, want %s", c.pod, c.container, c.previous, err, c.want)
		}
	}
}
