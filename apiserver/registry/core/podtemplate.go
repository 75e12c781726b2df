package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func podTemplates() *registry.Resource {
	template := func(t *corev1.PodTemplate) *corev1.PodTemplateSpec { return &t.Template }
	columns := []registry.Column{registry.NameColumn()}
	for _, c := range podspec.TemplateColumns(template) {
		c.Priority = 0
		columns = append(columns, c)
	}
	columns = append(columns, registry.Text("Pod Labels", "The labels for the pod template.",
		func(t *corev1.PodTemplate) string { return registry.LabelsText(t.Template.Labels) }))
	return &registry.Resource{
		Kind: kind("PodTemplate"), Plural: "podtemplates", Singular: "podtemplate",
		Namespaced: true, KeyPrefix: "/registry/podtemplates/",
		New:     func() registry.Object { return &corev1.PodTemplate{} },
		NewList: func() runtime.Object { return &corev1.PodTemplateList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(t *corev1.PodTemplate) { podspec.Default(&t.Template.Spec) }),
			Validate: registry.Checks(func(e *check.Errors, t *corev1.PodTemplate) {
				podspec.ValidateTemplate(e, &t.Template, field.NewPath("template"))
			}),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, t, _ *corev1.PodTemplate) {
				podspec.ValidateTemplate(e, &t.Template, field.NewPath("template"))
			}),
			ValidateName: dnsSubdomain,
			SpecChanged: registry.Differs(func(t, old *corev1.PodTemplate) bool {
				return !equality.Semantic.DeepEqual(t.Template, old.Template)
			}),

			AllowUnconditionalUpdate: true,
		},
		Columns: columns,
	}
}
