package core

import (
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func replicationControllers() *registry.Resource {
	type controller = *corev1.ReplicationController
	doc, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	columns := []registry.Column{
		registry.NameColumn(),
		registry.Number("Desired", doc["replicas"], func(c controller) int64 { return int64(*c.Spec.Replicas) }),
		registry.Number("Current", status["replicas"], func(c controller) int64 { return int64(c.Status.Replicas) }),
		registry.Number("Ready", status["readyReplicas"], func(c controller) int64 { return int64(c.Status.ReadyReplicas) }),
		registry.AgeColumn(),
	}
	columns = append(columns, podspec.TemplateColumns(controllerTemplate)...)
	columns = append(columns, registry.Text("Selector", doc["selector"],
		func(c controller) string { return registry.LabelsText(c.Spec.Selector) }).Wide())
	warnings, changeWarnings := podspec.TemplateWarnings(controllerTemplate, nil, field.NewPath("spec", "template"))
	return &registry.Resource{
		Kind: kind("ReplicationController"), Plural: "replicationcontrollers", Singular: "replicationcontroller",
		ShortNames: []string{"rc"}, Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/controllers/",
		New:     func() registry.Object { return &corev1.ReplicationController{} },
		NewList: func() runtime.Object { return &corev1.ReplicationControllerList{} },
		Strategy: registry.Strategy{
			Default: registry.On(defaultController),
			PrepareCreate: registry.On(func(c controller) {
				c.Status = corev1.ReplicationControllerStatus{}
			}),
			PrepareUpdate: registry.OnChange(func(c, old controller) { c.Status = old.Status }),
			Validate:      registry.Checks(checkController),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, _ controller) {
				checkController(e, c)
			}),
			ValidateName: dnsSubdomain,
			SpecChanged: registry.Differs(func(c, old controller) bool {
				return !equality.Semantic.DeepEqual(c.Spec, old.Spec)
			}),
			DefaultPropagation: metav1.DeletePropagationOrphan,

			Warnings:                 warnings,
			ChangeWarnings:           changeWarnings,
			AllowUnconditionalUpdate: true,
		},
		Fields: map[string]func(registry.Object) string{
			"status.replicas": registry.Field(func(c controller) string { return strconv.Itoa(int(c.Status.Replicas)) }),
		},
		Columns: columns,
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(c, body controller) { c.Status = body.Status }, checkControllerStatus),
			"scale": registry.ScaleSubresource(registry.Scaled[controller]{
				Replicas: func(c controller) (desired **int32, current int32, selector *metav1.LabelSelector) {
					return &c.Spec.Replicas, c.Status.Replicas, &metav1.LabelSelector{MatchLabels: c.Spec.Selector}
				},
				Validate: func(e *check.Errors, c, _ controller) { checkController(e, c) },
			}),
		},
	}
}

// defaultController: the template's labels are the controller's own and its selector, where it has none.
// controllerTemplate is empty while there is none.
func controllerTemplate(c *corev1.ReplicationController) *corev1.PodTemplateSpec {
	if c.Spec.Template == nil {
		return &corev1.PodTemplateSpec{}
	}
	return c.Spec.Template
}

func defaultController(c *corev1.ReplicationController) {
	if c.Spec.Replicas == nil {
		one := int32(1)
		c.Spec.Replicas = &one
	}
	if c.Spec.Template == nil {
		return
	}
	if l := c.Spec.Template.Labels; l != nil {
		if len(c.Spec.Selector) == 0 {
			c.Spec.Selector = maps.Clone(l)
		}
		if len(c.Labels) == 0 {
			c.Labels = maps.Clone(l)
		}
	}
	podspec.Default(&c.Spec.Template.Spec)
}

func checkController(e *check.Errors, c *corev1.ReplicationController) {
	at := field.NewPath("spec")
	e.NonNegative(at.Child("minReadySeconds"), int64(c.Spec.MinReadySeconds))
	if len(c.Spec.Selector) == 0 {
		e.Required(at.Child("selector"), "")
	}
	e.NonNegative(at.Child("replicas"), int64(*c.Spec.Replicas))
	template := at.Child("template")
	if c.Spec.Template == nil {
		e.Required(template, "")
		return
	}
	if selector := labels.SelectorFromSet(c.Spec.Selector); !selector.Empty() && !selector.Matches(labels.Set(c.Spec.Template.Labels)) {
		e.Invalid(template.Child("metadata", "labels"), c.Spec.Template.Labels, "`selector` does not match template `labels`")
	}
	podspec.ValidateSelected(e, c.Spec.Template, "ReplicationController", template)
}

func checkControllerStatus(e *check.Errors, c, _ *corev1.ReplicationController) {
	s, at := c.Status, field.NewPath("status")
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"replicas", s.Replicas}, {"fullyLabeledReplicas", s.FullyLabeledReplicas},
		{"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas},
	} {
		e.NonNegative(at.Child(n.name), int64(n.value))
		if n.value > s.Replicas {
			e.Invalid(at.Child(n.name), n.value, "cannot be greater than status.replicas")
		}
	}
	e.NonNegative(at.Child("observedGeneration"), s.ObservedGeneration)
	if s.AvailableReplicas > s.ReadyReplicas {
		e.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas")
	}
}
