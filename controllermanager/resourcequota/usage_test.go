package resourcequota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func quota(names ...corev1.ResourceName) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q", UID: "q", ResourceVersion: "1"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{}}}
	for _, n := range names {
		q.Spec.Hard[n] = resource.MustParse("100")
	}
	return q
}

func pod(cpu, memory string, f func(*corev1.Pod)) *corev1.Pod {
	list := corev1.ResourceList{}
	if cpu != "" {
		list[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		list[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list, Limits: list}}}}}
	if f != nil {
		f(p)
	}
	return p
}

// deviceClaim asks for two devices of class gpu, all there are of nic, and one of fast or else three of slow.
func deviceClaim() *resourcev1.ResourceClaim {
	exact, all := resourcev1.DeviceAllocationModeExactCount, resourcev1.DeviceAllocationModeAll
	return &resourcev1.ResourceClaim{Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
		{Name: "a", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: exact, Count: 2}},
		{Name: "b", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "nic", AllocationMode: all}},
		{Name: "c", FirstAvailable: []resourcev1.DeviceSubRequest{
			{Name: "x", DeviceClassName: "fast", AllocationMode: exact, Count: 1}, {Name: "y", DeviceClassName: "slow", AllocationMode: exact, Count: 3},
			{Name: "z", DeviceClassName: "slow", AllocationMode: exact, Count: 2},
		}},
	}}}}
}

func print(used corev1.ResourceList) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(used)) {
		q := used[name]
		out = append(out, fmt.Sprintf("%s=%s", name, q.String()))
	}
	return strings.Join(out, " ")
}

// What each limit counts, and what it does not.
func TestUsage(t *testing.T) {
	deadline, gold := int64(5), "gold"
	past := metav1.NewTime(now.Add(-time.Hour))
	grace := int64(30)
	contents := Contents{
		Pods: []*corev1.Pod{
			pod("500m", "1Gi", nil), pod("1", "", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &deadline }), pod("", "", func(p *corev1.Pod) { p.Spec.PriorityClassName = "high" }),
			pod("4", "4Gi", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
			pod("4", "4Gi", func(p *corev1.Pod) { p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &past, &grace }),
		},
		Services: []*corev1.Service{{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: make([]corev1.ServicePort, 2)}}, {Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: make([]corev1.ServicePort, 1)}}},
		Claims: []*corev1.PersistentVolumeClaim{{Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &gold, Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("5Gi")}},
		}}},
		Devices: []*resourcev1.ResourceClaim{deviceClaim(), deviceClaim()},
		Count:   func(name string) int64 { return int64(len(name)) },
	}
	for _, c := range []struct {
		q    *corev1.ResourceQuota
		want string
	}{
		{quota("pods", "count/pods", "requests.cpu", "cpu", "limits.memory"), "count/pods=5 cpu=1500m limits.memory=1Gi pods=3 requests.cpu=1500m"},
		{quota("services", "services.nodeports", "services.loadbalancers"), "services=2 services.loadbalancers=1 services.nodeports=3"},
		{quota("persistentvolumeclaims", "requests.storage", "gold.storageclass.storage.k8s.io/requests.storage", "tin.storageclass.storage.k8s.io/persistentvolumeclaims"),
			"gold.storageclass.storage.k8s.io/requests.storage=5Gi persistentvolumeclaims=1 requests.storage=5Gi tin.storageclass.storage.k8s.io/persistentvolumeclaims=0"},
		{quota("gpu.deviceclass.resource.k8s.io/devices", "nic.deviceclass.resource.k8s.io/devices", "fast.deviceclass.resource.k8s.io/devices", "slow.deviceclass.resource.k8s.io/devices"),
			"fast.deviceclass.resource.k8s.io/devices=2 gpu.deviceclass.resource.k8s.io/devices=4 nic.deviceclass.resource.k8s.io/devices=64 slow.deviceclass.resource.k8s.io/devices=6"},
		{quota("secrets", "count/deployments.apps"), "count/deployments.apps=16 secrets=7"},
	} {
		if got := print(Usage(c.q, contents, now)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	for scope, want := range map[corev1.ResourceQuotaScope]string{
		corev1.ResourceQuotaScopeTerminating: "pods=1", corev1.ResourceQuotaScopeNotTerminating: "pods=2", corev1.ResourceQuotaScopeBestEffort: "pods=1", corev1.ResourceQuotaScopeNotBestEffort: "pods=2",
		corev1.ResourceQuotaScopePriorityClass: "pods=1", corev1.ResourceQuotaScopeCrossNamespacePodAffinity: "pods=0",
	} {
		q := quota("pods")
		q.Spec.Scopes = []corev1.ResourceQuotaScope{scope}
		if got := print(Usage(q, contents, now)); got != want {
			t.Errorf("%s: %s, want %s", scope, got, want)
		}
	}
}

// A status that is true is not written again, and is recounted in five minutes.
func TestReconcile(t *testing.T) {
	q := quota("pods")
	c := Contents{Pods: []*corev1.Pod{pod("1", "", nil)}}
	p := Reconcile(q, c, now)
	if len(p.Writes) != 1 {
		t.Fatalf("%d writes", len(p.Writes))
	}
	if again := Reconcile(p.Writes[0].Object.(*corev1.ResourceQuota), c, now); !again.Empty() || again.After != recount {
		t.Errorf("%d writes, looks again after %v", len(again.Writes), again.After)
	}
}

// Which kinds a quota counts is told by its limits.
func TestCountsOf(t *testing.T) {
	for name, want := range map[corev1.ResourceName]Counts{
		"requests.cpu": {Pods: true}, "count/pods": {Pods: true}, "requests.example.com/gpu": {Pods: true}, "services.nodeports": {Services: true}, "services": {Services: true},
		"requests.storage": {Claims: true}, "gold.storageclass.storage.k8s.io/requests.storage": {Claims: true}, "count/deployments.apps": {}, "secrets": {}, "gpu.deviceclass.resource.k8s.io/devices": {Devices: true},
	} {
		if got := CountsOf(&corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{name: {}}}}); got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A quota for volumes of an attributes class counts claims of that class and nothing else.
func TestAttributesClassScope(t *testing.T) {
	q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{"persistentvolumeclaims": {}, "pods": {}},
		ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
			{ScopeName: corev1.ResourceQuotaScopeVolumeAttributesClass, Operator: corev1.ScopeSelectorOpIn, Values: []string{"gold"}},
		}},
	}}
	claim := func(class string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{VolumeAttributesClassName: &class}}
	}
	used := Usage(q, Contents{Pods: []*corev1.Pod{{}}, Claims: []*corev1.PersistentVolumeClaim{claim("gold"), claim("silver"), {}}}, time.Now())
	claims, pods := used["persistentvolumeclaims"], used["pods"]
	if claims.Value() != 1 || pods.Value() != 0 {
		t.Errorf("used %v", used)
	}
}
