package quota

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	podresource "k8s.io/component-helpers/resource"

	"bareboat.dev/apiserver/registry"
)

// limitedBy returns the names of a quota's limits that objects of the written resource count against.
func limitedBy(q *corev1.ResourceQuota, w *Write) []corev1.ResourceName {
	var found []corev1.ResourceName
	for name := range q.Status.Hard {
		if limits(name, w.Resource) {
			found = append(found, name)
		}
	}
	return found
}

func limits(name corev1.ResourceName, gr schema.GroupResource) bool {
	if kind, ok := strings.CutPrefix(string(name), countPrefix); ok {
		return kind == gr.String()
	}
	if gr == deviceClaims {
		return strings.HasSuffix(string(name), corev1.ResourceClaimsPerClass)
	}
	if gr.Group != "" {
		return false
	}
	switch gr {
	case pods:
		return limitsPods(name)
	case services:
		return name == corev1.ResourceServices || name == corev1.ResourceServicesNodePorts || name == corev1.ResourceServicesLoadBalancers
	case claims:
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage || strings.Contains(string(name), classSuffix)
	}
	switch name {
	case corev1.ResourceConfigMaps, corev1.ResourceSecrets, corev1.ResourceReplicationControllers, corev1.ResourceQuotas:
		return string(name) == gr.Resource
	}
	return false
}

func limitsPods(name corev1.ResourceName) bool {
	if name == corev1.ResourcePods || basic(name) || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
		return true
	}
	if limited, ok := strings.CutPrefix(string(name), "limits."); ok {
		return basic(corev1.ResourceName(limited))
	}
	asked, ok := strings.CutPrefix(string(name), requestsPrefix)
	asks := corev1.ResourceName(asked)
	return ok && (basic(asks) || extended(asks) || strings.HasPrefix(asked, corev1.ResourceHugePagesPrefix))
}

// mustSay are the limits that oblige each container to say what it wants.
var mustSay = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
}

// demand holds a pod to say what its containers use of CPU and memory, where these are limited.
func demand(obj registry.Object, limited []corev1.ResourceName) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok || podresource.IsPodLevelResourcesSet(pod) {
		return nil
	}
	missing := map[corev1.ResourceName][]string{}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		says := corev1.ResourceList{}
		useCompute(says, c.Resources.Requests, c.Resources.Limits)
		for _, name := range limited {
			if _, said := says[name]; !said && slices.Contains(mustSay, name) {
				missing[name] = append(missing[name], c.Name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		slices.Sort(missing[name])
		lines = append(lines, fmt.Sprintf("%s for: %s", name, strings.Join(missing[name], ",")))
	}
	return errors.New("must specify " + strings.Join(lines, "; "))
}
