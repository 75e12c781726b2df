package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func deployments() *registry.Resource {
	doc := appsv1.DeploymentStatus{}.SwaggerDoc()
	columns := []registry.Column{
		registry.NameColumn(),
		registry.Text("Ready", "Number of the pod with ready state", func(d *appsv1.Deployment) string {
			return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, *d.Spec.Replicas)
		}),
		registry.NumericText("Up-to-date", doc["updatedReplicas"], func(d *appsv1.Deployment) string { return fmt.Sprint(d.Status.UpdatedReplicas) }),
		registry.NumericText("Available", doc["availableReplicas"], func(d *appsv1.Deployment) string { return fmt.Sprint(d.Status.AvailableReplicas) }),
		registry.AgeColumn(),
	}
	columns = append(columns, podspec.TemplateColumns(func(d *appsv1.Deployment) *corev1.PodTemplateSpec { return &d.Spec.Template })...)
	columns = append(columns, registry.Text("Selector", appsv1.DeploymentSpec{}.SwaggerDoc()["selector"],
		func(d *appsv1.Deployment) string { return metav1.FormatLabelSelector(d.Spec.Selector) }).Wide())
	warnings, changeWarnings := podspec.TemplateWarnings(func(d *appsv1.Deployment) *corev1.PodTemplateSpec { return &d.Spec.Template }, nil, field.NewPath("spec", "template"))
	return &registry.Resource{
		Kind: kind("Deployment"), Plural: "deployments", Singular: "deployment", ShortNames: []string{"deploy"}, Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/deployments/",
		New:     func() registry.Object { return &appsv1.Deployment{} },
		NewList: func() runtime.Object { return &appsv1.DeploymentList{} },
		Strategy: registry.Strategy{
			Default:       registry.On(defaultDeployment),
			PrepareCreate: registry.On(func(d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} }),
			PrepareUpdate: registry.OnChange(func(d, old *appsv1.Deployment) { d.Status = old.Status }),
			Validate:      registry.Checks(checkDeployment),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, d, old *appsv1.Deployment) {
				checkDeployment(e, d)
				e.Immutable(spec.Child("selector"), d.Spec.Selector, old.Spec.Selector)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(d, old *appsv1.Deployment) bool {
				return !equality.Semantic.DeepEqual(d.Spec, old.Spec) || !equality.Semantic.DeepEqual(d.Annotations, old.Annotations)
			}),

			Warnings:                 warnings,
			ChangeWarnings:           changeWarnings,
			AllowUnconditionalUpdate: true,
		},
		Columns: columns,
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(d, body *appsv1.Deployment) { d.Status = body.Status }, checkDeploymentStatus),
			"scale": registry.ScaleSubresource(registry.Scaled[*appsv1.Deployment]{
				Replicas: func(d *appsv1.Deployment) (desired **int32, current int32, selector *metav1.LabelSelector) {
					return &d.Spec.Replicas, d.Status.Replicas, d.Spec.Selector
				},
				Validate: func(e *check.Errors, d, _ *appsv1.Deployment) { checkDeployment(e, d) },
			}),
		},
	}
}

func defaultDeployment(d *appsv1.Deployment) {
	setIfNil(&d.Spec.Replicas, 1)
	setIfNil(&d.Spec.RevisionHistoryLimit, 10)
	setIfNil(&d.Spec.ProgressDeadlineSeconds, 600)
	s := &d.Spec.Strategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if s.Type == appsv1.RollingUpdateDeploymentStrategyType {
		setIfNil(&s.RollingUpdate, appsv1.RollingUpdateDeployment{})
		setIfNil(&s.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setIfNil(&s.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	podspec.Default(&d.Spec.Template.Spec)
}

func checkDeployment(e *check.Errors, d *appsv1.Deployment) {
	e.NonNegative(spec.Child("replicas"), int64(*d.Spec.Replicas))
	checkSelected(e, d.Spec.Selector, &d.Spec.Template, "ReplicaSet", "invalid label selector")
	checkDeploymentStrategy(e, &d.Spec.Strategy, spec.Child("strategy"))
	e.NonNegative(spec.Child("minReadySeconds"), int64(d.Spec.MinReadySeconds))
	if d.Spec.RevisionHistoryLimit != nil {
		e.NonNegative(spec.Child("revisionHistoryLimit"), int64(*d.Spec.RevisionHistoryLimit))
	}
	if p := d.Spec.ProgressDeadlineSeconds; p != nil {
		e.NonNegative(spec.Child("progressDeadlineSeconds"), int64(*p))
		if *p <= d.Spec.MinReadySeconds {
			e.Invalid(spec.Child("progressDeadlineSeconds"), *p, "must be greater than minReadySeconds")
		}
	}
}

func checkDeploymentStrategy(e *check.Errors, s *appsv1.DeploymentStrategy, at *field.Path) {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			e.Forbidden(at.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			e.Required(at.Child("rollingUpdate"), "this should be defaulted and never be nil")
			return
		}
		checkRollingUpdate(e, s.RollingUpdate, at.Child("rollingUpdate"))
	default:
		check.Supported(e, at, s.Type, appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType)
	}
}

func checkRollingUpdate(e *check.Errors, r *appsv1.RollingUpdateDeployment, at *field.Path) {
	unavailable, surge := intstr.FromInt32(0), intstr.FromInt32(0)
	if r.MaxUnavailable != nil {
		unavailable = *r.MaxUnavailable
	}
	if r.MaxSurge != nil {
		surge = *r.MaxSurge
	}
	e.NonNegativeIntOrPercent(at.Child("maxUnavailable"), unavailable)
	e.NonNegativeIntOrPercent(at.Child("maxSurge"), surge)
	if check.IsZeroIntOrPercent(unavailable) && check.IsZeroIntOrPercent(surge) {
		e.Invalid(at.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0")
	}
	e.AtMostAllPercent(at.Child("maxUnavailable"), unavailable)
}

func checkDeploymentStatus(e *check.Errors, d, old *appsv1.Deployment) {
	s, at := d.Status, field.NewPath("status")
	e.NonNegative(at.Child("observedGeneration"), s.ObservedGeneration)
	e.NonNegative(at.Child("replicas"), int64(s.Replicas))
	e.NonNegative(at.Child("updatedReplicas"), int64(s.UpdatedReplicas))
	e.NonNegative(at.Child("readyReplicas"), int64(s.ReadyReplicas))
	e.NonNegative(at.Child("availableReplicas"), int64(s.AvailableReplicas))
	e.NonNegative(at.Child("unavailableReplicas"), int64(s.UnavailableReplicas))
	if s.TerminatingReplicas != nil {
		e.NonNegative(at.Child("terminatingReplicas"), int64(*s.TerminatingReplicas))
	}
	checkCollisions(e, s.CollisionCount, old.Status.CollisionCount, at.Child("collisionCount"))
	const most = "cannot be greater than status.replicas"
	if s.UpdatedReplicas > s.Replicas {
		e.Invalid(at.Child("updatedReplicas"), s.UpdatedReplicas, most)
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
}
