package describe

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/kctl/why"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func describe(t *testing.T, obj runtime.Object, apiVersion, kind string, rel Related) string {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	var out strings.Builder
	if err := Object(&out, u, rel, noon); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "n", Labels: map[string]string{"app": "web", "tier": "front"}, CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour))}
}

// TestDeployment shows a deployment with its replica sets and pods, those that are not ready first.
func TestDeployment(t *testing.T) {
	three := int32(3)
	d := &appsv1.Deployment{ObjectMeta: meta("web"), Spec: appsv1.DeploymentSpec{Replicas: &three, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "team/web:2"}}
	rs := &appsv1.ReplicaSet{ObjectMeta: meta("web-1"), Spec: appsv1.ReplicaSetSpec{Replicas: &three, Template: d.Spec.Template}}
	rs.Annotations = map[string]string{"deployment.kubernetes.io/revision": "7"}
	good := &corev1.Pod{ObjectMeta: meta("web-1-good"), Spec: d.Spec.Template.Spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Ready: true}}}}
	bad := &corev1.Pod{ObjectMeta: meta("web-1-bad"), Spec: d.Spec.Template.Spec, Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "c", RestartCount: 4, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}}}
	got := describe(t, d, "apps/v1", "Deployment", Related{ReplicaSets: []*appsv1.ReplicaSet{rs}, Pods: []*corev1.Pod{good, bad}})
	for _, want := range []string{"3 desired | 0 updated", "web-1  7         0/3    60m  team/web:2", "web-1-bad   0/1    CrashLoopBackOff  4"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Index(got, "web-1-bad") > strings.Index(got, "web-1-good") {
		t.Errorf("the pod that is not ready is not first:\n%s", got)
	}
}

// TestService shows each port with the endpoints behind it, and why there are none.
func TestService(t *testing.T) {
	name, number, no := "http", int32(8080), false
	svc := &corev1.Service{ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{Type: "ClusterIP", ClusterIPs: []string{"10.96.0.5"}, Ports: []corev1.ServicePort{{Name: name, Port: 80, Protocol: "TCP", TargetPort: intstr.FromString("http")}}}}
	slice := &discoveryv1.EndpointSlice{
		Ports:     []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.2"}}, {Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}}},
	}
	got := describe(t, svc, "v1", "Service", Related{EndpointSlices: []*discoveryv1.EndpointSlice{slice}, Findings: []why.Finding{{Subject: "service", Text: "is unwell", Hint: "wait"}}})
	for _, want := range []string{"http  80/TCP  http    <none>     10.0.0.2:8080  10.0.0.3:8080", "service: is unwell\n    → wait"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

// TestNode shows what a node has left: pods that have ended hold nothing, and the larger of init and other containers counts.
func TestNode(t *testing.T) {
	cpu := func(s string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s)}
	}
	n := &corev1.Node{ObjectMeta: meta("host-1"), Status: corev1.NodeStatus{Capacity: cpu("4"), Allocatable: cpu("4")}}
	pod := &corev1.Pod{ObjectMeta: meta("p"), Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: cpu("2")}}},
		Containers:     []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: cpu("1")}}},
	}}
	ended := pod.DeepCopy()
	ended.Status.Phase = corev1.PodSucceeded
	got := describe(t, n, "v1", "Node", Related{Pods: []*corev1.Pod{pod, ended}})
	if !strings.Contains(got, "cpu       4         4            2 (50%)   0 (0%)  2") {
		t.Errorf("the node's resources are wrong:\n%s", got)
	}
}

// TestOtherKinds shows that every field of an unknown kind is there, that its users' keys are as they wrote them, and that secrets are not.
func TestOtherKinds(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: meta("s"), Data: map[string][]byte{"password": []byte("hunter2")}}
	if got := describe(t, secret, "v1", "Secret", Related{}); strings.Contains(got, "hunter2") || strings.Contains(got, "aHVudGVyMg") || !strings.Contains(got, "password:  7 bytes") {
		t.Errorf("a secret is described as\n%s", got)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "x/v1", "kind": "Gizmo", "metadata": map[string]any{"name": "g"},
		"spec": map[string]any{"nodeSelector": map[string]any{"diskType": "ssd"}, "steps": []any{map[string]any{"args": []any{"a"}, "name": "s"}}}}}
	var out strings.Builder
	if err := Object(&out, u, Related{}, noon); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"diskType:  ssd", "- a", "Name:  s", "Events:  <none>"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}
