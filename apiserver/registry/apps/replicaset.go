package apps

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func replicaSets() *registry.Resource {
	doc, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	columns := []registry.Column{
		registry.NameColumn(),
		registry.Number("Desired", doc["replicas"], func(r *appsv1.ReplicaSet) int64 { return int64(*r.Spec.Replicas) }),
		registry.Number("Current", status["replicas"], func(r *appsv1.ReplicaSet) int64 { return int64(r.Status.Replicas) }),
		registry.Number("Ready", status["readyReplicas"], func(r *appsv1.ReplicaSet) int64 { return int64(r.Status.ReadyReplicas) }),
		registry.AgeColumn(),
	}
	columns = append(columns, podspec.TemplateColumns(func(r *appsv1.ReplicaSet) *corev1.PodTemplateSpec { return &r.Spec.Template })...)
	columns = append(columns, registry.Text("Selector", doc["selector"],
		func(r *appsv1.ReplicaSet) string { return metav1.FormatLabelSelector(r.Spec.Selector) }).Wide())
	warnings, changeWarnings := podspec.TemplateWarnings(func(r *appsv1.ReplicaSet) *corev1.PodTemplateSpec { return &r.Spec.Template }, nil, field.NewPath("spec", "template"))
	return &registry.Resource{
		Kind: kind("ReplicaSet"), Plural: "replicasets", Singular: "replicaset", ShortNames: []string{"rs"}, Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/replicasets/",
		New:     func() registry.Object { return &appsv1.ReplicaSet{} },
		NewList: func() runtime.Object { return &appsv1.ReplicaSetList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(r *appsv1.ReplicaSet) {
				setIfNil(&r.Spec.Replicas, 1)
				podspec.Default(&r.Spec.Template.Spec)
			}),
			PrepareCreate:  registry.On(func(r *appsv1.ReplicaSet) { r.Status = appsv1.ReplicaSetStatus{} }),
			PrepareUpdate:  registry.OnChange(func(r, old *appsv1.ReplicaSet) { r.Status = old.Status }),
			Validate:       registry.Checks(checkReplicaSet),
			ValidateUpdate: registry.ChecksChange(checkReplicaSetUpdate),
			ValidateName:   apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(r, old *appsv1.ReplicaSet) bool {
				return !equality.Semantic.DeepEqual(r.Spec, old.Spec)
			}),

			Warnings:                 warnings,
			ChangeWarnings:           changeWarnings,
			AllowUnconditionalUpdate: true,
		},
		Columns: columns,
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(r, body *appsv1.ReplicaSet) { r.Status = body.Status }, checkReplicaSetStatus),
			"scale": registry.ScaleSubresource(registry.Scaled[*appsv1.ReplicaSet]{
				Replicas: func(r *appsv1.ReplicaSet) (desired **int32, current int32, selector *metav1.LabelSelector) {
					return &r.Spec.Replicas, r.Status.Replicas, r.Spec.Selector
				},
				Validate: checkReplicaSetUpdate,
			}),
		},
	}
}

var spec = field.NewPath("spec")

func checkReplicaSet(e *check.Errors, r *appsv1.ReplicaSet) {
	e.NonNegative(spec.Child("replicas"), int64(*r.Spec.Replicas))
	e.NonNegative(spec.Child("minReadySeconds"), int64(r.Spec.MinReadySeconds))
	checkSelected(e, r.Spec.Selector, &r.Spec.Template, "ReplicaSet", "invalid label selector for replica set")
}

// checkSelected checks a workload's selector and its template, and the one against the other. kind is what the messages
// about the template call the workload, and wrong what is said of a selector that cannot be read.
func checkSelected(e *check.Errors, s *metav1.LabelSelector, t *corev1.PodTemplateSpec, kind, wrong string) {
	at := spec.Child("selector")
	if s == nil {
		e.Required(at, "")
	} else {
		e.Selector(at, s)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			e.Invalid(at, s, "empty selector is invalid for "+emptyFor(kind))
		}
	}
	template := spec.Child("template")
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		e.Invalid(at, s, wrong)
		return
	}
	if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		e.Invalid(template.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`")
	}
	podspec.ValidateSelected(e, t, kind, template)
}

// emptyFor is how the messages about selectors call a kind: those of replica sets speak of deployments, and those about
// deployments' templates of replica sets.
func emptyFor(kind string) string {
	if kind == "ReplicaSet" {
		return "deployment"
	}
	return strings.ToLower(kind)
}

func checkReplicaSetUpdate(e *check.Errors, r, old *appsv1.ReplicaSet) {
	checkReplicaSet(e, r)
	e.Immutable(spec.Child("selector"), r.Spec.Selector, old.Spec.Selector)
}

func checkReplicaSetStatus(e *check.Errors, r, _ *appsv1.ReplicaSet) {
	s, at := r.Status, field.NewPath("status")
	e.NonNegative(at.Child("replicas"), int64(s.Replicas))
	e.NonNegative(at.Child("fullyLabeledReplicas"), int64(s.FullyLabeledReplicas))
	e.NonNegative(at.Child("readyReplicas"), int64(s.ReadyReplicas))
	e.NonNegative(at.Child("availableReplicas"), int64(s.AvailableReplicas))
	e.NonNegative(at.Child("observedGeneration"), s.ObservedGeneration)
	const most = "cannot be greater than status.replicas"
	if s.FullyLabeledReplicas > s.Replicas {
		e.Invalid(at.Child("fullyLabeledReplicas"), s.FullyLabeledReplicas, most)
	}
	if s.ReadyReplicas > s.Replicas {
		e.Invalid(at.Child("readyReplicas"), s.ReadyReplicas, most)
	}
	if s.AvailableReplicas > s.Replicas {
		e.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, most)
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		e.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas")
	}
	if s.TerminatingReplicas != nil {
		e.NonNegative(at.Child("terminatingReplicas"), int64(*s.TerminatingReplicas))
	}
}
