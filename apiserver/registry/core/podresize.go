package core

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// resizePod takes the body's resources and resize policies, container by container (KEP-1287), and nothing else: what else
// the body changes is left as it was.
func resizePod(old registry.Object, body runtime.Object, _ time.Time) (registry.Object, error) {
	p, from := old.DeepCopyObject().(*corev1.Pod), body.DeepCopyObject().(*corev1.Pod)
	take := func(to, from []corev1.Container) {
		byName := map[string]*corev1.Container{}
		for i := range from {
			byName[from[i].Name] = &from[i]
		}
		for i := range to {
			if c := byName[to[i].Name]; c != nil {
				to[i].Resources, to[i].ResizePolicy = c.Resources, c.ResizePolicy
			}
		}
	}
	take(p.Spec.Containers, from.Spec.Containers)
	take(p.Spec.InitContainers, from.Spec.InitContainers)
	return p, nil
}

func checkResize(e *check.Errors, p, old *corev1.Pod) {
	whole := field.NewPath("")
	if _, mirror := old.Annotations[podspec.MirrorAnnotation]; mirror {
		e.Forbidden(whole, "static pods cannot be resized")
		return
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		e.Forbidden(whole, "windows pods cannot be resized")
		return
	}
	checkPod(e, p)
	if podspec.QOSClass(p) != old.Status.QOSClass && old.Status.QOSClass != "" {
		e.Invalid(specPath, old.Status.QOSClass, "Pod QOS Class may not change as a result of resizing")
	}
	if !resizable(old) {
		e.Forbidden(specPath, "Pod running on node without support for resize")
	}
	checkResized(e, p.Spec.Containers, old.Spec.Containers, specPath.Child("containers"))
	checkResized(e, p.Spec.InitContainers, old.Spec.InitContainers, specPath.Child("initContainers"))
}

// resizable: the kubelet reports the resources of running containers if it knows how to change them.
func resizable(p *corev1.Pod) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running != nil {
			return c.Resources != nil
		}
	}
	return true
}

func checkResized(e *check.Errors, is, was []corev1.Container, at *field.Path) {
	init := at.String() == specPath.Child("initContainers").String()
	for i := range is {
		here := at.Index(i).Child("resources")
		sidecar := was[i].RestartPolicy != nil && *was[i].RestartPolicy == corev1.ContainerRestartPolicyAlways
		if init && !sidecar {
			if !equality.Semantic.DeepEqual(is[i], was[i]) {
				e.Forbidden(specPath, "resources for non-sidecar init containers are immutable")
			}
			continue
		}
		if lost(is[i].Resources.Requests, was[i].Resources.Requests) {
			e.Forbidden(here.Child("requests"), "resource requests cannot be removed")
		}
		if lost(is[i].Resources.Limits, was[i].Resources.Limits) {
			e.Forbidden(here.Child("limits"), "resource limits cannot be removed")
		}
		if !equality.Semantic.DeepEqual(otherThanCompute(is[i].Resources.Requests), otherThanCompute(was[i].Resources.Requests)) ||
			!equality.Semantic.DeepEqual(otherThanCompute(is[i].Resources.Limits), otherThanCompute(was[i].Resources.Limits)) {
			detail := "only cpu and memory resources are mutable"
			if init {
				detail = "only cpu and memory resources for sidecar containers are mutable"
			}
			e.Forbidden(specPath, detail)
		}
		if !equality.Semantic.DeepEqual(is[i].ResizePolicy, was[i].ResizePolicy) {
			e.Forbidden(specPath, fmt.Sprintf("only cpu and memory resources are mutable: resizePolicy of container %q changed", is[i].Name))
		}
	}
}

func lost(is, was corev1.ResourceList) bool {
	for name := range was {
		if _, kept := is[name]; !kept {
			return true
		}
	}
	return false
}

func otherThanCompute(list corev1.ResourceList) corev1.ResourceList {
	rest := corev1.ResourceList{}
	for name, q := range list {
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory {
			rest[name] = q
		}
	}
	return rest
}
