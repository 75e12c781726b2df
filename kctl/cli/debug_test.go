package cli

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The container that debug adds has what the flags say, and its state is found among the pod's.
func TestDebugContainer(t *testing.T) {
	got, err := debugContainer(debugOptions{image: "busybox", container: "d", target: "web", env: []string{"A=b"}, stdin: true, tty: true}, []string{"sh", "-l"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"command":["sh","-l"],"env":[{"name":"A","value":"b"}],"image":"busybox","name":"d","stdin":true,"targetContainerName":"web","terminationMessagePolicy":"File","tty":true}`
	if flat, _ := json.Marshal(got); string(flat) != want {
		t.Errorf("%s, want %s", flat, want)
	}
	if got, _ = debugContainer(debugOptions{argsOnly: true}, []string{"-l"}); got["args"] == nil || got["command"] != nil {
		t.Errorf("arguments only: %v", got)
	}
	if _, err := debugContainer(debugOptions{env: []string{"A"}}, nil); err == nil {
		t.Error("a variable without a value was taken")
	}
	running := map[string]any{"name": "d", "state": map[string]any{"running": map[string]any{}}}
	u := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"ephemeralContainerStatuses": []any{running}}}}
	for name, want := range map[string]bool{"d": true, "other": false} {
		if state, err := ephemeralState(u, name); err != nil || (state != corev1.ContainerState{}) != want {
			t.Errorf("%s: %+v, %v", name, state, err)
		}
	}
}
