// Package resourcequota keeps status.used of ResourceQuotas true, by counting anew whatever is there. To keep anybody from going
// beyond a quota is for admission, which charges what it lets in; what goes, and what changes otherwise, is counted here.
//
// Usage and Reconcile are pure.
package resourcequota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"

	"bareboat.dev/controllermanager/pods"
)

// storageClassSuffix is between a storage class and what of it is limited: "gold.storageclass.storage.k8s.io/requests.storage".
const storageClassSuffix = ".storageclass.storage.k8s.io/"

// Contents are the things in a namespace that quotas may count.
type Contents struct {
	Pods     []*corev1.Pod
	Services []*corev1.Service
	Claims   []*corev1.PersistentVolumeClaim
	Devices  []*resourcev1.ResourceClaim
	// Count returns how many objects of a kind there are, by its name as in "count/<name>": "deployments.apps".
	Count func(name string) int64
}

// legacyCounts are the kinds whose number may be limited without "count/".
var legacyCounts = []corev1.ResourceName{corev1.ResourceConfigMaps, corev1.ResourceSecrets, corev1.ResourceReplicationControllers, corev1.ResourceQuotas}

// Counts says of which kinds a quota's hard limits count objects.
type Counts struct{ Pods, Services, Claims, Devices bool }

// CountsOf tells the kinds.
func CountsOf(q *corev1.ResourceQuota) (c Counts) {
	for name := range q.Spec.Hard {
		kind, counted := strings.CutPrefix(string(name), "count/")
		switch text := string(name); {
		case counted:
			c.Pods, c.Services, c.Claims = c.Pods || kind == "pods", c.Services || kind == "services", c.Claims || kind == "persistentvolumeclaims"
		case slices.Contains(legacyCounts, name):
		case text == "services" || strings.HasPrefix(text, "services."):
			c.Services = true
		case name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage || strings.Contains(text, storageClassSuffix):
			c.Claims = true
		case strings.HasSuffix(text, corev1.ResourceClaimsPerClass):
			c.Devices = true
		default:
			c.Pods = true
		}
	}
	return c
}

// CountedBy lists the kinds whose number a quota limits, beyond those of Counts, by their names as in "count/<name>".
func CountedBy(q *corev1.ResourceQuota) (kinds []string) {
	if scoped(q) {
		return nil
	}
	for name := range q.Spec.Hard {
		kind, counted := strings.CutPrefix(string(name), "count/")
		if slices.Contains(legacyCounts, name) {
			kind, counted = string(name), true
		}
		if counted && kind != "pods" && kind != "services" && kind != "persistentvolumeclaims" {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// Usage computes what a quota's hard limits count.
func Usage(q *corev1.ResourceQuota, c Contents, now time.Time) corev1.ResourceList {
	used := corev1.ResourceList{}
	for name := range q.Spec.Hard {
		used[name] = zero(name)
	}
	for _, pod := range c.Pods {
		if matchesScopes(q, pod) {
			addPod(used, pod, now)
		}
	}
	for _, claim := range c.Claims {
		if claimMatchesScopes(q, claim) {
			addClaim(used, claim)
		}
	}
	if scoped(q) {
		return used // Nothing else has scopes, so a quota with scopes counts nothing else.
	}
	for _, s := range c.Services {
		addService(used, s)
	}
	for _, claim := range c.Devices {
		addDevices(used, claim)
	}
	for _, kind := range CountedBy(q) {
		for _, name := range []corev1.ResourceName{corev1.ResourceName(kind), corev1.ResourceName("count/" + kind)} {
			if _, limited := used[name]; limited {
				used[name] = *resource.NewQuantity(c.Count(kind), resource.DecimalSI)
			}
		}
	}
	return used
}

// zero is nothing of a resource, in the notation that fits it.
func zero(name corev1.ResourceName) resource.Quantity {
	if strings.HasSuffix(string(name), "memory") || strings.HasSuffix(string(name), "storage") {
		return *resource.NewQuantity(0, resource.BinarySI)
	}
	return *resource.NewQuantity(0, resource.DecimalSI)
}

// add adds to a resource if the quota limits it.
func add(used corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	if sum, ok := used[name]; ok {
		sum.Add(q)
		used[name] = sum
	}
}

func one(used corev1.ResourceList, name corev1.ResourceName) {
	add(used, name, *resource.NewQuantity(1, resource.DecimalSI))
}

func addPod(used corev1.ResourceList, pod *corev1.Pod, now time.Time) {
	one(used, "count/pods")
	if !charged(pod, now) {
		return
	}
	one(used, corev1.ResourcePods)
	for name, q := range podresource.PodRequests(pod, podresource.PodResourcesOptions{UseStatusResources: true}) {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			add(used, name, q) // "cpu" is an old name of "requests.cpu".
		}
		if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			add(used, name, q)
		}
		add(used, corev1.ResourceName(corev1.DefaultResourceRequestsPrefix)+name, q)
	}
	for name, q := range podresource.PodLimits(pod, podresource.PodResourcesOptions{UseStatusResources: true}) {
		add(used, "limits."+name, q)
	}
}

// charged reports whether a pod still takes what it was given: not once it has finished, nor when its grace period is long
// over on a node that does not answer.
func charged(pod *corev1.Pod, now time.Time) bool {
	if pods.Finished(pod) {
		return false
	}
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		return now.Before(pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second))
	}
	return true
}

func addService(used corev1.ResourceList, s *corev1.Service) {
	one(used, "count/services")
	one(used, corev1.ResourceServices)
	ports := int64(len(s.Spec.Ports))
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		add(used, corev1.ResourceServicesNodePorts, *resource.NewQuantity(ports, resource.DecimalSI))
	case corev1.ServiceTypeLoadBalancer:
		one(used, corev1.ResourceServicesLoadBalancers)
		if s.Spec.AllocateLoadBalancerNodePorts != nil && !*s.Spec.AllocateLoadBalancerNodePorts {
			ports = 0 // None is allocated; what the user chose counts.
			for i := range s.Spec.Ports {
				if s.Spec.Ports[i].NodePort != 0 {
					ports++
				}
			}
		}
		add(used, corev1.ResourceServicesNodePorts, *resource.NewQuantity(ports, resource.DecimalSI))
	}
}

func addClaim(used corev1.ResourceList, claim *corev1.PersistentVolumeClaim) {
	one(used, "count/persistentvolumeclaims")
	one(used, corev1.ResourcePersistentVolumeClaims)
	storage, asked := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if given, ok := claim.Status.AllocatedResources[corev1.ResourceStorage]; ok && asked && given.Cmp(storage) > 0 {
		storage = given // It shrinks back from an expansion that failed.
	}
	if asked {
		add(used, corev1.ResourceRequestsStorage, storage)
	}
	class := claim.Annotations[corev1.BetaStorageClassAnnotation]
	if class == "" && claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
	}
	if class == "" {
		return
	}
	one(used, corev1.ResourceName(class+storageClassSuffix+"persistentvolumeclaims"))
	if asked {
		add(used, corev1.ResourceName(class+storageClassSuffix+"requests.storage"), storage)
	}
}

func scoped(q *corev1.ResourceQuota) bool {
	return len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil && len(q.Spec.ScopeSelector.MatchExpressions) > 0
}

// matchesScopes reports whether a pod is of all the kinds that the quota is for.
func matchesScopes(q *corev1.ResourceQuota, pod *corev1.Pod) bool {
	for _, s := range q.Spec.Scopes {
		if !inScope(pod, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists}) {
			return false
		}
	}
	if q.Spec.ScopeSelector == nil {
		return true
	}
	for _, e := range q.Spec.ScopeSelector.MatchExpressions {
		if !inScope(pod, e) {
			return false
		}
	}
	return true
}

// claimMatchesScopes is matchesScopes for claims, whose one scope is that of their VolumeAttributesClass (KEP-3751).
func claimMatchesScopes(q *corev1.ResourceQuota, claim *corev1.PersistentVolumeClaim) bool {
	classes := attributesClasses(claim)
	matches := func(e corev1.ScopedResourceSelectorRequirement) bool {
		return e.ScopeName == corev1.ResourceQuotaScopeVolumeAttributesClass && slices.ContainsFunc(classes, func(class string) bool { return selects(e, class) })
	}
	for _, scope := range q.Spec.Scopes {
		if !matches(corev1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: corev1.ScopeSelectorOpExists}) {
			return false
		}
	}
	return q.Spec.ScopeSelector == nil || !slices.ContainsFunc(q.Spec.ScopeSelector.MatchExpressions, func(e corev1.ScopedResourceSelectorRequirement) bool { return !matches(e) })
}

// attributesClasses are the classes that a claim has, asks for and is being changed to; "" stands for none at all.
func attributesClasses(c *corev1.PersistentVolumeClaim) []string {
	var out []string
	for _, name := range []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName} {
		if name != nil && *name != "" {
			out = append(out, *name)
		}
	}
	if m := c.Status.ModifyVolumeStatus; m != nil && m.TargetVolumeAttributesClassName != "" {
		out = append(out, m.TargetVolumeAttributesClassName)
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

// selects reports whether a requirement selects an object of a class; "" if it has none.
func selects(e corev1.ScopedResourceSelectorRequirement, class string) bool {
	switch e.Operator {
	case corev1.ScopeSelectorOpIn:
		return class != "" && slices.Contains(e.Values, class)
	case corev1.ScopeSelectorOpNotIn:
		return !slices.Contains(e.Values, class)
	case corev1.ScopeSelectorOpDoesNotExist:
		return class == ""
	}
	return class != ""
}

func inScope(pod *corev1.Pod, e corev1.ScopedResourceSelectorRequirement) bool {
	deadline := pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
	switch e.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return deadline
	case corev1.ResourceQuotaScopeNotTerminating:
		return !deadline
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(pod)
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(pod)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossNamespace(pod)
	case corev1.ResourceQuotaScopePriorityClass:
		return selects(e, pod.Spec.PriorityClassName)
	}
	return false
}

func bestEffort(pod *corev1.Pod) bool {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass == corev1.PodQOSBestEffort
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				if q, ok := list[name]; ok && !q.IsZero() {
					return false
				}
			}
		}
	}
	return true
}

// crossNamespace reports whether a pod's affinity looks into other namespaces.
func crossNamespace(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	weighted := func(in []corev1.WeightedPodAffinityTerm) {
		for _, w := range in {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	if a.PodAffinity != nil {
		terms = append(terms, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a.PodAntiAffinity != nil {
		terms = append(terms, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}

// addDevices counts the devices of each class that a claim may get: of alternatives the most.
func addDevices(used corev1.ResourceList, claim *resourcev1.ResourceClaim) {
	for i := range claim.Spec.Devices.Requests {
		r := &claim.Spec.Devices.Requests[i]
		most := map[string]int64{}
		if x := r.Exactly; x != nil {
			most[x.DeviceClassName] = devices(x.AllocationMode, x.Count)
		}
		for _, x := range r.FirstAvailable {
			most[x.DeviceClassName] = max(most[x.DeviceClassName], devices(x.AllocationMode, x.Count))
		}
		for class, n := range most {
			add(used, corev1.ResourceName(class+corev1.ResourceClaimsPerClass), *resource.NewQuantity(n, resource.DecimalSI))
		}
	}
}

// devices is the most that a request gets: nobody knows beforehand how many all are, but for what a claim can hold.
func devices(mode resourcev1.DeviceAllocationMode, count int64) int64 {
	switch mode {
	case resourcev1.DeviceAllocationModeExactCount:
		return count
	case resourcev1.DeviceAllocationModeAll:
		return resourcev1.AllocationResultsMaxSize
	}
	return 0
}
