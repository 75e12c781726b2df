package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/registry"
)

// componentStatuses are computed when they are read; see server/componentstatus.go.
func componentStatuses() *registry.Resource {
	type status = *corev1.ComponentStatus
	healthy := func(pick func(*corev1.ComponentCondition) string) func(status) string {
		return func(s status) string {
			for i := range s.Conditions {
				if s.Conditions[i].Type == corev1.ComponentHealthy {
					return pick(&s.Conditions[i])
				}
			}
			return ""
		}
	}
	return &registry.Resource{
		Kind: kind("ComponentStatus"), Plural: "componentstatuses", Singular: "componentstatus", ShortNames: []string{"cs"},
		Verbs:   []string{"get", "list"},
		New:     func() registry.Object { return &corev1.ComponentStatus{} },
		NewList: func() runtime.Object { return &corev1.ComponentStatusList{} },
		Strategy: registry.Strategy{
			Warnings: func(registry.Object) []string { return []string{"v1 ComponentStatus is deprecated in v1.19+"} },
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Status", "Status of the component conditions", healthy(func(c *corev1.ComponentCondition) string {
				switch c.Status {
				case corev1.ConditionTrue:
					return "Healthy"
				case corev1.ConditionFalse:
					return "Unhealthy"
				}
				return "Unknown"
			})),
			registry.Text("Message", "Message of the component conditions", healthy(func(c *corev1.ComponentCondition) string { return c.Message })),
			registry.Text("Error", "Error of the component conditions", healthy(func(c *corev1.ComponentCondition) string { return c.Error })),
		},
	}
}

// bindings are the old way to bind a pod, before there was pods/binding; see server/binding.go.
func bindings() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Binding"), Plural: "bindings", Singular: "binding", Namespaced: true,
		Verbs: []string{"create"},
		New:   func() registry.Object { return &corev1.Binding{} },
	}
}
