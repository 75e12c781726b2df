package why

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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
	if got := Service(svc, 0, []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}}}); len(got) != 1 || !strings.Contains(got[0].Text, "none of which is ready") {
		t.Errorf("without ready pods: %v", got)
	}
	if got := Service(svc, 1, nil); len(got) != 0 {
		t.Errorf("with endpoints: %v", got)
	}
}

func pending(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	change(p)
	return p
}

func asking(cpu string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
}

// TestPlacement shows the figure, the taint or the label that keeps a pod off a node, and what would let it run there.
func TestPlacement(t *testing.T) {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"disk": "hdd"}},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("110")}},
	}
	tainted := node.DeepCopy()
	tainted.Spec.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
	cordoned := node.DeepCopy()
	cordoned.Spec.Unschedulable = true
	bound := pending(func(p *corev1.Pod) { p.Spec.NodeName = "n"; p.Spec.Containers[0].Resources = asking("3") })
	tests := map[string]struct {
		node *corev1.Node
		pod  *corev1.Pod
		want string
	}{
		"fits":     {node, pending(func(*corev1.Pod) {}), ""},
		"free":     {node, pending(func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asking("2") }), "asks for cpu 2, and 1 of 4 are free"},
		"too big":  {node, pending(func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asking("50") }), "can ever run on this node"},
		"taint":    {tainted, pending(func(*corev1.Pod) {}), "kctl taint node n gpu:NoSchedule-"},
		"tolerant": {tainted, pending(func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "gpu", Value: "yes"}} }), ""},
		"cordon":   {cordoned, pending(func(*corev1.Pod) {}), "kctl uncordon n"},
		"selector": {node, pending(func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), "has disk=hdd, and the pod's nodeSelector wants disk=ssd"},
		"affinity": {node, pending(func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}}}}}}}}
		}), "node affinity: disk In ssd"},
		"sidecar": {node, pending(func(p *corev1.Pod) {
			always := corev1.ContainerRestartPolicyAlways
			p.Spec.InitContainers = []corev1.Container{{Resources: asking("1"), RestartPolicy: &always}}
			p.Spec.Containers[0].Resources = asking("1")
		}), "asks for cpu 2, and 1 of 4"},
	}
	for name, tt := range tests {
		text := ""
		for _, f := range Placement(tt.pod, []*corev1.Node{tt.node}, []*corev1.Pod{bound}) {
			text += f.Subject + " " + f.Text + " " + f.Hint
		}
		if (tt.want == "") != (text == "") || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %q, want %q", name, text, tt.want)
		}
	}
}

// TestEndings shows that a container's end is told in words.
func TestEndings(t *testing.T) {
	pod := pending(func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	})
	for want, end := range map[string]corev1.ContainerStateTerminated{
		"more memory than its limit of 64Mi": {Reason: "OOMKilled", ExitCode: 137},
		"its command was not found":          {Reason: "Error", ExitCode: 127},
		"signal 11, segmentation fault":      {Reason: "Error", ExitCode: 139},
		"exit code 3: no database":           {Reason: "Error", ExitCode: 3, Message: "no database\n"},
	} {
		if got := Ending(pod, "c", &end); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestProbesSayWhy shows that a failing probe's own words stand beside it, once.
func TestProbesSayWhy(t *testing.T) {
	pod := pending(func(p *corev1.Pod) {
		p.Spec.NodeName = "n"
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	})
	events := []*corev1.Event{{Type: "Warning", Reason: "Unhealthy", Message: "Readiness probe failed: HTTP probe failed with statuscode: 500"}}
	got := Pod(pod, events)
	if len(got) != 1 || !strings.Contains(got[0].Text, "statuscode: 500") {
		t.Errorf("findings: %+v", got)
	}
}

// TestNode shows what keeps pods from a node.
func TestNode(t *testing.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse},
	}}}
	if got := Node(n); len(got) > 0 {
		t.Errorf("a healthy node: %v", got)
	}
	n.Status.Conditions[0].Status = corev1.ConditionUnknown
	n.Spec.Unschedulable = true
	if got := Node(n); len(got) != 2 || !strings.Contains(got[0].Hint, "kubelet.log") || !strings.Contains(got[1].Hint, "uncordon") {
		t.Errorf("a lost, cordoned node: %v", got)
	}
}

// TestServicesNearMisses shows that the label or port name that misses is named.
func TestServicesNearMisses(t *testing.T) {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web", "tier": "front"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"app": "web", "tier": "back"}}}
	if got := Service(svc, 0, []*corev1.Pod{pod}); len(got) != 1 || !strings.Contains(got[0].Text, "pod p, has tier=back") {
		t.Errorf("near miss: %v", got)
	}
	pod.Labels["tier"] = "front"
	if got := Service(svc, 0, []*corev1.Pod{pod}); len(got) != 1 || !strings.Contains(got[0].Text, `targetPort is "http"`) {
		t.Errorf("port: %v", got)
	}
}
