package quota

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/podspec"
)

// inScopes reports whether the quota is for objects such as this one. A quota without scopes is for all; scopes are of pods and, one of
// them, of claims.
func inScopes(q *corev1.ResourceQuota, obj registry.Object) bool {
	for _, s := range q.Spec.Scopes {
		if !inScope(obj, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists}) {
			return false
		}
	}
	if q.Spec.ScopeSelector == nil {
		return true
	}
	return !slices.ContainsFunc(q.Spec.ScopeSelector.MatchExpressions, func(r corev1.ScopedResourceSelectorRequirement) bool { return !inScope(obj, r) })
}

func inScope(obj registry.Object, r corev1.ScopedResourceSelectorRequirement) bool {
	switch o := obj.(type) {
	case *corev1.Pod:
		return podInScope(o, r)
	case *corev1.PersistentVolumeClaim:
		return r.ScopeName == corev1.ResourceQuotaScopeVolumeAttributesClass && slices.ContainsFunc(attributesClasses(o), func(class string) bool { return selects(r, class) })
	}
	return false
}

// terminating says whether an object is a pod with a deadline.
func terminating(obj registry.Object) bool {
	pod, ok := obj.(*corev1.Pod)
	return ok && pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
}

func podInScope(pod *corev1.Pod, r corev1.ScopedResourceSelectorRequirement) bool {
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating(pod)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating(pod)
	case corev1.ResourceQuotaScopeBestEffort:
		return podspec.QOSClass(pod) == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return podspec.QOSClass(pod) != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopePriorityClass:
		return selects(r, pod.Spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossNamespace(pod.Spec.Affinity)
	}
	return false
}

// selects reports whether a requirement selects an object with that class; empty means that it has none.
func selects(r corev1.ScopedResourceSelectorRequirement, class string) bool {
	switch r.Operator {
	case corev1.ScopeSelectorOpIn:
		return class != "" && slices.Contains(r.Values, class)
	case corev1.ScopeSelectorOpNotIn:
		return !slices.Contains(r.Values, class)
	case corev1.ScopeSelectorOpDoesNotExist:
		return class == ""
	}
	return class != ""
}

// attributesClasses are the classes that a claim has, asks for and is being changed to.
func attributesClasses(c *corev1.PersistentVolumeClaim) []string {
	var all []string
	for _, class := range []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName} {
		if class != nil && *class != "" {
			all = append(all, *class)
		}
	}
	if s := c.Status.ModifyVolumeStatus; s != nil && s.TargetVolumeAttributesClassName != "" {
		all = append(all, s.TargetVolumeAttributesClassName)
	}
	if len(all) == 0 {
		return []string{""}
	}
	return all
}

// crossNamespace reports whether an affinity looks into other namespaces.
func crossNamespace(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	var required [][]corev1.PodAffinityTerm
	var preferred [][]corev1.WeightedPodAffinityTerm
	if p := a.PodAffinity; p != nil {
		required, preferred = append(required, p.RequiredDuringSchedulingIgnoredDuringExecution), append(preferred, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		required, preferred = append(required, p.RequiredDuringSchedulingIgnoredDuringExecution), append(preferred, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	elsewhere := func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil }
	return slices.ContainsFunc(slices.Concat(required...), elsewhere) ||
		slices.ContainsFunc(slices.Concat(preferred...), func(w corev1.WeightedPodAffinityTerm) bool { return elsewhere(w.PodAffinityTerm) })
}
