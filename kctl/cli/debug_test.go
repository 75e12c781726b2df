package cli

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The container that debug adds has what the flags say, and its state is found among the pod's.
func TestDebugContainer(t *testing.T) {
	got, err := debugContainer(debugOptions{image: "busybox", container: "d", target: "web", profile: "general", env: []string{"A=b"}, stdin: true, tty: true}, []string{"sh", "-l"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"command":["sh","-l"],"env":[{"name":"A","value":"b"}],"image":"busybox","name":"d","securityContext":{"capabilities":{"add":["SYS_PTRACE"]}},"stdin":true,"targetContainerName":"web","terminationMessagePolicy":"File","tty":true}`
	if flat, _ := json.Marshal(got); string(flat) != want {
		t.Errorf("%s, want %s", flat, want)
	}
	if got, _ = debugContainer(debugOptions{argsOnly: true, profile: "baseline"}, []string{"-l"}); got["args"] == nil || got["command"] != nil {
		t.Errorf("arguments only: %v", got)
	}
	if _, err := debugContainer(debugOptions{env: []string{"A"}}, nil); err == nil {
		t.Error("a variable without a value was taken")
	}
	running := map[string]any{"name": "d", "state": map[string]any{"running": map[string]any{}}}
	u := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"ephemeralContainerStatuses": []any{running}}}}
	for name, want := range map[string]bool{"d": true, "other": false} {
		if state, err := startedState(u.Object, name); err != nil || (state != corev1.ContainerState{}) != want {
			t.Errorf("%s: %+v, %v", name, state, err)
		}
	}
}

// A copy has the flags' image and command, no probes and no labels unless they are kept; a node's pod sees the node as far as
// the profile lets it.
func TestDebugPods(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Labels = map[string]string{"app": "web"}
	pod.Spec = corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "a", Image: "1", Args: []string{"x"}, LivenessProbe: &corev1.Probe{}}, {Name: "b", Image: "2"}}}
	o := debugOptions{profile: "general", container: "a", copy: copyOptions{name: "c", share: true, setImage: []string{"b=3"}}}
	made, name, err := copyOf(pod, o, []string{"sh"})
	if err != nil {
		t.Fatal(err)
	}
	a := made.Spec.Containers[0]
	if name != "a" || made.Name != "c" || len(made.Labels) != 0 || made.Spec.NodeName != "" || !*made.Spec.ShareProcessNamespace || a.LivenessProbe != nil || a.Command[0] != "sh" || a.Args != nil || made.Spec.Containers[1].Image != "3" {
		t.Errorf("%s: %+v", name, made)
	}
	if pod.Spec.Containers[1].Image != "2" || pod.Spec.Containers[0].LivenessProbe == nil {
		t.Errorf("the pod has become %+v", pod)
	}
	o.container, o.image, o.copy.sameNode, o.copy.labels = "", "busybox", true, true
	if made, name, err = copyOf(pod, o, nil); err != nil || len(made.Spec.Containers) != 3 || made.Spec.Containers[2].Name != name || made.Spec.NodeName != "n" || made.Labels["app"] != "web" {
		t.Errorf("%s: %+v %v", name, made, err)
	}
	o.image = ""
	if _, _, err := copyOf(pod, o, []string{"sh"}); err == nil {
		t.Error("a command was taken without a container to run it")
	}
	if _, err := nodePod("n", "x", debugOptions{profile: "mine", image: "i"}, nil); err == nil {
		t.Error("an unknown profile was taken")
	}
	for profile, want := range map[string][2]bool{"general": {true, true}, "sysadmin": {true, true}, "netadmin": {true, false}, "restricted": {false, false}, "baseline": {false, false}} {
		pod, err := nodePod("n", "x", debugOptions{profile: profile, image: "i"}, nil)
		if err != nil || pod.Name != "node-debugger-n-x" || pod.Spec.HostPID != want[0] || (len(pod.Spec.Volumes) > 0) != want[1] {
			t.Errorf("%s: %+v %v", profile, pod, err)
		}
	}
}
