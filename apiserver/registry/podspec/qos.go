package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"
)

// QOSClass is the quality of service that a pod's requests and limits of CPU and memory amount to: Guaranteed if every
// container's limits are set and equal its requests, BestEffort if nothing is asked for, Burstable else. A pod with resources
// of its own is judged by those.
func QOSClass(p *corev1.Pod) corev1.PodQOSClass {
	if podresource.IsPodLevelResourcesSet(p) {
		return classOf([]corev1.ResourceRequirements{*p.Spec.Resources})
	}
	var all []corev1.ResourceRequirements
	for _, c := range p.Spec.Containers {
		all = append(all, c.Resources)
	}
	for _, c := range p.Spec.InitContainers {
		all = append(all, c.Resources)
	}
	return classOf(all)
}

func classOf(all []corev1.ResourceRequirements) corev1.PodQOSClass {
	requests, limits := map[corev1.ResourceName]resource.Quantity{}, map[corev1.ResourceName]resource.Quantity{}
	guaranteed := true
	add := func(sum map[corev1.ResourceName]resource.Quantity, list corev1.ResourceList) (names int) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if q, set := list[name]; set && q.Sign() > 0 {
				total := sum[name]
				total.Add(q)
				sum[name] = total
				names++
			}
		}
		return names
	}
	for _, r := range all {
		add(requests, r.Requests)
		if add(limits, r.Limits) != 2 {
			guaranteed = false
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	for name, request := range requests {
		if limit, set := limits[name]; !set || limit.Cmp(request) != 0 {
			guaranteed = false
		}
	}
	if guaranteed && len(requests) == len(limits) {
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}
