// Package apps is the apps group, /apis/apps/v1: each file one kind.
package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"strings"

	"bareboat.dev/apiserver/registry"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	return []*registry.Resource{deployments(), replicaSets(), statefulSets(), daemonSets(), controllerRevisions()}
}

func kind(name string) schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind(name) }

func setIfNil[T any](dst **T, value T) {
	if *dst == nil {
		*dst = &value
	}
}

// containerNames and containerImages are the columns that workloads share.
func containerNames(t *corev1.PodTemplateSpec) string {
	return joined(t, func(c corev1.Container) string { return c.Name })
}

func containerImages(t *corev1.PodTemplateSpec) string {
	return joined(t, func(c corev1.Container) string { return c.Image })
}

func joined(t *corev1.PodTemplateSpec, part func(corev1.Container) string) string {
	var parts []string
	for _, c := range t.Spec.Containers {
		parts = append(parts, part(c))
	}
	return strings.Join(parts, ",")
}

// workloadColumns follow a workload's own columns with -o wide.
func workloadColumns[T registry.Object](template func(T) *corev1.PodTemplateSpec) []registry.Column {
	return []registry.Column{
		registry.Text("Containers", "Names of each container in the template.", func(o T) string { return containerNames(template(o)) }).Wide(),
		registry.Text("Images", "Images referenced by each container in the template.", func(o T) string { return containerImages(template(o)) }).Wide(),
	}
}
