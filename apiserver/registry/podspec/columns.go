package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry"
)

// TemplateColumns follow a workload's own columns with -o wide: its containers and their images.
func TemplateColumns[T registry.Object](template func(T) *corev1.PodTemplateSpec) []registry.Column {
	joined := func(part func(corev1.Container) string) func(T) string {
		return func(o T) string {
			var parts []string
			for _, c := range template(o).Spec.Containers {
				parts = append(parts, part(c))
			}
			return strings.Join(parts, ",")
		}
	}
	return []registry.Column{
		registry.Text("Containers", "Names of each container in the template.", joined(func(c corev1.Container) string { return c.Name })).Wide(),
		registry.Text("Images", "Images referenced by each container in the template.", joined(func(c corev1.Container) string { return c.Image })).Wide(),
	}
}
