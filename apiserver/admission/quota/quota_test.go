package quota

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func quota(hard, used corev1.ResourceList, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: "ns"}, Spec: corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes},
		Status: corev1.ResourceQuotaStatus{Hard: hard, Used: used},
	}
}

func pod(change func(*corev1.PodSpec), requests, limits corev1.ResourceList) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits},
	}}}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func claim(class, size string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{Requests: list("storage", size)},
	}}
}

func service(kind corev1.ServiceType, allocate *bool, ports ...int32) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: kind, AllocateLoadBalancerNodePorts: allocate}}
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{NodePort: p})
	}
	return s
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

func ptr[T any](v T) *T { return &v }

// TestCheck shows what quotas allow, what they then say is used, and the words in which they refuse.
func TestCheck(t *testing.T) {
	podsOf, deployments := schema.GroupResource{Resource: "pods"}, schema.GroupResource{Group: "apps", Resource: "deployments"}
	configMaps := schema.GroupResource{Resource: "configmaps"}
	deadline := func(s *corev1.PodSpec) { s.ActiveDeadlineSeconds = ptr(int64(5)) }
	tests := map[string]struct {
		quota     *corev1.ResourceQuota
		resource  schema.GroupResource
		sub       string
		obj, old  registry.Object
		used      corev1.ResourceList // nil: the quota is not concerned
		forbidden string
	}{
		"a pod": {quota: quota(list("pods", "3"), list("pods", "2")), resource: podsOf, obj: pod(nil, nil, nil), used: list("pods", "3")},
		"one pod too many": {quota: quota(list("pods", "2"), list("pods", "2")), resource: podsOf, obj: pod(nil, nil, nil),
			forbidden: "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"},
		"compute": {quota: quota(list("requests.cpu", "1", "limits.memory", "1Gi", "cpu", "1", "count/pods", "9"), list("requests.cpu", "0", "limits.memory", "0", "cpu", "0", "count/pods", "0")),
			resource: podsOf, obj: pod(nil, list("cpu", "500m"), list("memory", "1Gi")), used: list("requests.cpu", "500m", "limits.memory", "1Gi", "cpu", "500m", "count/pods", "1")},
		"several exceeded": {quota: quota(list("requests.cpu", "1", "requests.memory", "1Gi", "pods", "5"), list("requests.cpu", "900m", "requests.memory", "1Gi", "pods", "1")),
			resource: podsOf, obj: pod(nil, list("cpu", "200m", "memory", "1Mi"), nil),
			forbidden: "exceeded quota: q, requested: requests.cpu=200m,requests.memory=1Mi, used: requests.cpu=900m,requests.memory=1Gi, limited: requests.cpu=1,requests.memory=1Gi"},
		"nothing said": {quota: quota(list("limits.cpu", "1", "requests.memory", "1"), list("limits.cpu", "0", "requests.memory", "0")), resource: podsOf, obj: pod(nil, nil, nil),
			forbidden: "failed quota: q: must specify limits.cpu for: c; requests.memory for: c"},
		"said for the pod": {quota: quota(list("requests.cpu", "1"), list("requests.cpu", "0")), resource: podsOf,
			obj: pod(func(s *corev1.PodSpec) { s.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "700m")} }, nil, nil), used: list("requests.cpu", "700m")},
		"init container and overhead": {quota: quota(list("requests.cpu", "9"), list("requests.cpu", "0")), resource: podsOf, obj: pod(func(s *corev1.PodSpec) {
			s.Overhead = list("cpu", "100m")
			s.InitContainers = []corev1.Container{{Name: "i", Resources: corev1.ResourceRequirements{Requests: list("cpu", "2")}}}
		}, list("cpu", "1"), nil), used: list("requests.cpu", "2100m")},
		"extended and huge": {quota: quota(list("requests.example.com/gpu", "2", "requests.hugepages-2Mi", "4Mi"), list("requests.example.com/gpu", "1", "requests.hugepages-2Mi", "0")), resource: podsOf,
			obj: pod(nil, list("example.com/gpu", "1", "hugepages-2Mi", "2Mi"), nil), used: list("requests.example.com/gpu", "2", "requests.hugepages-2Mi", "2Mi")},
		"ephemeral storage": {quota: quota(list("requests.ephemeral-storage", "1Gi"), list("requests.ephemeral-storage", "1Gi")), resource: podsOf, obj: pod(nil, list("ephemeral-storage", "1"), nil),
			forbidden: "exceeded quota: q, requested: requests.ephemeral-storage=1, used: requests.ephemeral-storage=1Gi, limited: requests.ephemeral-storage=1Gi"},
		"not counted yet":     {quota: quota(list("pods", "2"), nil), resource: podsOf, obj: pod(nil, nil, nil), forbidden: "status unknown for quota: q, resources: pods"},
		"limits not seen yet": {quota: &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: list("pods", "0")}}, resource: podsOf, obj: pod(nil, nil, nil)},
		"resize": {quota: quota(list("requests.cpu", "2"), list("requests.cpu", "1")), resource: podsOf, sub: "resize", obj: pod(nil, list("cpu", "1500m"), nil), old: pod(nil, list("cpu", "1"), nil),
			used: list("requests.cpu", "1500m")},
		"resize beyond": {quota: quota(list("requests.cpu", "2"), list("requests.cpu", "1")), resource: podsOf, sub: "resize", obj: pod(nil, list("cpu", "2500m"), nil), old: pod(nil, list("cpu", "1"), nil),
			forbidden: "exceeded quota: q, requested: requests.cpu=1500m, used: requests.cpu=1, limited: requests.cpu=2"},
		"resize to less":  {quota: quota(list("requests.cpu", "2"), list("requests.cpu", "5")), resource: podsOf, sub: "resize", obj: pod(nil, list("cpu", "1"), nil), old: pod(nil, list("cpu", "3"), nil)},
		"status of a pod": {quota: quota(list("pods", "0"), list("pods", "0")), resource: podsOf, sub: "status", obj: pod(nil, nil, nil), old: pod(nil, nil, nil)},
		"best effort":     {quota: quota(list("pods", "5"), list("pods", "0"), corev1.ResourceQuotaScopeBestEffort), resource: podsOf, obj: pod(nil, nil, nil), used: list("pods", "1")},
		"not best effort": {quota: quota(list("pods", "5"), list("pods", "0"), corev1.ResourceQuotaScopeNotBestEffort), resource: podsOf, obj: pod(nil, nil, nil)},
		"terminating":     {quota: quota(list("pods", "5"), list("pods", "0"), corev1.ResourceQuotaScopeTerminating), resource: podsOf, obj: pod(deadline, nil, nil), used: list("pods", "1")},
		"not terminating": {quota: quota(list("pods", "5"), list("pods", "0"), corev1.ResourceQuotaScopeNotTerminating), resource: podsOf, obj: pod(deadline, nil, nil)},
		"gets a deadline": {quota: quota(list("pods", "5"), list("pods", "0"), corev1.ResourceQuotaScopeTerminating), resource: podsOf, obj: pod(deadline, nil, nil), old: pod(nil, nil, nil), used: list("pods", "1")},
		"has a deadline":  {quota: quota(list("pods", "5"), list("pods", "1"), corev1.ResourceQuotaScopeTerminating), resource: podsOf, obj: pod(deadline, nil, nil), old: pod(deadline, nil, nil)},
		"of no scope":     {quota: quota(list("configmaps", "0"), list("configmaps", "0"), corev1.ResourceQuotaScopeNotTerminating), resource: configMaps, obj: &corev1.ConfigMap{}},
		"affinity": {quota: quota(list("pods", "0"), list("pods", "0"), corev1.ResourceQuotaScopeCrossNamespacePodAffinity), resource: podsOf, forbidden: "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0", obj: pod(func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{PodAffinityTerm: corev1.PodAffinityTerm{NamespaceSelector: &metav1.LabelSelector{}}}}}}
		}, nil, nil)},
		"objects":          {quota: quota(list("count/deployments.apps", "1"), list("count/deployments.apps", "1")), resource: deployments, obj: &corev1.Endpoints{}, forbidden: "exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1"},
		"old names":        {quota: quota(list("configmaps", "2", "count/configmaps", "3"), list("configmaps", "1", "count/configmaps", "1")), resource: configMaps, obj: &corev1.ConfigMap{}, used: list("configmaps", "2", "count/configmaps", "2")},
		"objects changed":  {quota: quota(list("configmaps", "0"), list("configmaps", "0")), resource: configMaps, obj: &corev1.ConfigMap{}, old: &corev1.ConfigMap{}},
		"node ports":       {quota: quota(list("services.nodeports", "1"), list("services.nodeports", "0")), resource: services, obj: service(corev1.ServiceTypeNodePort, nil, 0, 0), forbidden: "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"},
		"load balancer":    {quota: quota(list("services.nodeports", "9", "services.loadbalancers", "1", "services", "1"), list("services.nodeports", "0", "services.loadbalancers", "0", "services", "0")), resource: services, obj: service(corev1.ServiceTypeLoadBalancer, ptr(false), 0, 30000), used: list("services.nodeports", "1", "services.loadbalancers", "1", "services", "1")},
		"becomes balanced": {quota: quota(list("services.loadbalancers", "0"), list("services.loadbalancers", "0")), resource: services, obj: service(corev1.ServiceTypeLoadBalancer, nil, 0), old: service(corev1.ServiceTypeClusterIP, nil, 0), forbidden: "exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=0, limited: services.loadbalancers=0"},
		"claim": {quota: quota(list("persistentvolumeclaims", "2", "requests.storage", "9Gi", "gold.storageclass.storage.k8s.io/requests.storage", "5Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1", "iron.storageclass.storage.k8s.io/persistentvolumeclaims", "0"),
			list("persistentvolumeclaims", "1", "requests.storage", "1Gi", "gold.storageclass.storage.k8s.io/requests.storage", "0", "gold.storageclass.storage.k8s.io/persistentvolumeclaims", "0", "iron.storageclass.storage.k8s.io/persistentvolumeclaims", "0")),
			resource: claims, obj: claim("gold", "5Gi"), used: list("persistentvolumeclaims", "2", "requests.storage", "6Gi", "gold.storageclass.storage.k8s.io/requests.storage", "5Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1", "iron.storageclass.storage.k8s.io/persistentvolumeclaims", "0")},
		"devices": {quota: quota(list("gpu.deviceclass.resource.k8s.io/devices", "9", "nic.deviceclass.resource.k8s.io/devices", "40", "slow.deviceclass.resource.k8s.io/devices", "3", "count/resourceclaims.resource.k8s.io", "1"),
			list("gpu.deviceclass.resource.k8s.io/devices", "1", "nic.deviceclass.resource.k8s.io/devices", "0", "slow.deviceclass.resource.k8s.io/devices", "0", "count/resourceclaims.resource.k8s.io", "0")),
			resource: deviceClaims, obj: deviceClaim(), used: list("gpu.deviceclass.resource.k8s.io/devices", "3", "nic.deviceclass.resource.k8s.io/devices", "32", "slow.deviceclass.resource.k8s.io/devices", "3", "count/resourceclaims.resource.k8s.io", "1")},
		"too many devices": {quota: quota(list("gpu.deviceclass.resource.k8s.io/devices", "1"), list("gpu.deviceclass.resource.k8s.io/devices", "0")), resource: deviceClaims, obj: deviceClaim(),
			forbidden: "exceeded quota: q, requested: gpu.deviceclass.resource.k8s.io/devices=2, used: gpu.deviceclass.resource.k8s.io/devices=0, limited: gpu.deviceclass.resource.k8s.io/devices=1"},
		"claim grows": {quota: quota(list("requests.storage", "9Gi"), list("requests.storage", "5Gi")), resource: claims, obj: claim("gold", "10Gi"), old: claim("gold", "5Gi"), forbidden: "exceeded quota: q, requested: requests.storage=5Gi, used: requests.storage=5Gi, limited: requests.storage=9Gi"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Check([]*corev1.ResourceQuota{tt.quota}, &Write{Resource: tt.resource, Subresource: tt.sub, Object: tt.obj, Old: tt.old}, time.Time{})
			switch {
			case (err == nil) != (tt.forbidden == "") || err != nil && err.Error() != tt.forbidden:
				t.Errorf("got %v, want %s", err, tt.forbidden)
			case len(got) != min(len(tt.used), 1):
				t.Errorf("%d quotas are charged", len(got))
			case len(got) == 1 && !same(got[0].Status.Used, tt.used):
				t.Errorf("used %v, want %v", got[0].Status.Used, tt.used)
			}
		})
	}
}

func same(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		if w, ok := b[name]; !ok || q.Cmp(w) != 0 {
			return false
		}
	}
	return true
}

// TestScopeSelector shows which priority classes a selector selects.
func TestScopeSelector(t *testing.T) {
	high := pod(func(s *corev1.PodSpec) { s.PriorityClassName = "high" }, nil, nil)
	none := pod(nil, nil, nil)
	tests := map[string]struct {
		operator   corev1.ScopeSelectorOperator
		values     string
		high, none bool
	}{
		"in":             {corev1.ScopeSelectorOpIn, "high,top", true, false},
		"not in":         {corev1.ScopeSelectorOpNotIn, "high", false, true},
		"exists":         {corev1.ScopeSelectorOpExists, "", true, false},
		"does not exist": {corev1.ScopeSelectorOpDoesNotExist, "", false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
				{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: tt.operator, Values: strings.Split(tt.values, ",")},
			}}}}
			if inScopes(q, high) != tt.high || inScopes(q, none) != tt.none {
				t.Errorf("high %t, none %t", inScopes(q, high), inScopes(q, none))
			}
		})
	}
}
