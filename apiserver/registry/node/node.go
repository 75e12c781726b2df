// Package node is node.k8s.io/v1. Nodes themselves are of the core group.
package node

import (
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{runtimeClasses()} }

func runtimeClasses() *registry.Resource {
	return &registry.Resource{
		Kind:   nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		Plural: "runtimeclasses", Singular: "runtimeclass",
		KeyPrefix: "/registry/runtimeclasses/",
		New:       func() registry.Object { return &nodev1.RuntimeClass{} },
		NewList:   func() runtime.Object { return &nodev1.RuntimeClassList{} },
		Strategy: registry.Strategy{
			AnyFinalizer: true,
			Default: registry.On(func(c *nodev1.RuntimeClass) {
				if c.Overhead != nil {
					podspec.DefaultResources(c.Overhead.PodFixed)
				}
			}),
			Validate: registry.Checks(checkRuntimeClass),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, old *nodev1.RuntimeClass) {
				checkRuntimeClass(e, c)
				e.Immutable(field.NewPath("handler"), c.Handler, old.Handler)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			Warnings:     registry.Warns(classWarnings),
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Handler", "", func(c *nodev1.RuntimeClass) string { return c.Handler }),
			registry.AgeColumn(),
		},
	}
}

func checkRuntimeClass(e *check.Errors, c *nodev1.RuntimeClass) {
	e.Label(field.NewPath("handler"), c.Handler)
	if c.Overhead != nil {
		podspec.ValidateResources(e, &corev1.ResourceRequirements{Limits: c.Overhead.PodFixed}, nil, field.NewPath("overhead"))
	}
	if c.Scheduling == nil {
		return
	}
	at := field.NewPath("scheduling")
	e.Labels(at.Child("nodeSelector"), c.Scheduling.NodeSelector)
	at = at.Child("tolerations")
	podspec.ValidateTolerations(e, c.Scheduling.Tolerations, at)
	seen := map[corev1.Toleration]bool{}
	for i, t := range c.Scheduling.Tolerations {
		key := corev1.Toleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if seen[key] {
			e.Duplicate(at.Index(i), t)
		}
		seen[key] = true
	}
}

// classWarnings are about deprecated labels of nodes.
func classWarnings(c *nodev1.RuntimeClass) []string {
	if c.Scheduling == nil {
		return nil
	}
	var list []string
	for key := range c.Scheduling.NodeSelector {
		if why := podspec.DeprecatedLabel(key); why != "" {
			list = append(list, field.NewPath("scheduling", "nodeSelector").String()+": "+why)
		}
	}
	return list
}
