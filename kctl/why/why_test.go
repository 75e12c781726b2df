package why

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPod shows the one line that matters for each common trouble.
func TestPod(t *testing.T) {
	scheduled := corev1.PodSpec{NodeName: "host"}
	waiting := func(reason, message string) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
	}
	oom := waiting("CrashLoopBackOff", "back-off 10s")
	oom[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}
	tests := map[string]struct {
		pod  corev1.Pod
		want []string
	}{
		"unschedulable": {corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available: 1 Insufficient cpu."}}}}, []string{"Insufficient cpu"}},
		"no scheduler":  {corev1.Pod{Spec: corev1.PodSpec{SchedulerName: "mine"}}, []string{`"mine" has not looked`}},
		"image":         {corev1.Pod{Spec: scheduled, Status: corev1.PodStatus{ContainerStatuses: waiting("ImagePullBackOff", "no such host")}}, []string{"no such host", "image load"}},
		"memory":        {corev1.Pod{Spec: scheduled, Status: corev1.PodStatus{ContainerStatuses: oom}}, []string{"OOMKilled", "raise the container's memory limit"}},
		"unready":       {corev1.Pod{Spec: scheduled, Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}}, []string{"readiness probe"}},
	}
	for name, tt := range tests {
		var text string
		for _, f := range Pod(&tt.pod, nil) {
			text += f.Subject + ": " + f.Text + " " + f.Hint + "\n"
		}
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in:\n%s", name, want, text)
			}
		}
	}
	fine := corev1.Pod{Spec: scheduled, Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	if got := Pod(&fine, []*corev1.Event{{Type: "Warning", Message: "old trouble"}}); len(got) > 0 {
		t.Errorf("a ready pod has findings: %v", got)
	}
}

// TestService shows why a service has no endpoints.
func TestService(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}}
	if got := Service(svc, 0, nil); len(got) != 1 || !strings.Contains(got[0].Text, "matches no pod") {
		t.Errorf("without pods: %v", got)
	}
	if got := Service(svc, 0, []*corev1.Pod{{}}); len(got) != 1 || !strings.Contains(got[0].Text, "none of which is ready") {
		t.Errorf("without ready pods: %v", got)
	}
	if got := Service(svc, 1, nil); len(got) != 0 {
		t.Errorf("with endpoints: %v", got)
	}
}
