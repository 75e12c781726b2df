package autoscaling

import (
	"maps"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func autoscalers() *registry.Resource {
	return &registry.Resource{
		Kind:   autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Plural: "horizontalpodautoscalers", Singular: "horizontalpodautoscaler", ShortNames: []string{"hpa"}, Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/horizontalpodautoscalers/",
		New:     func() registry.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
		NewList: func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		Strategy: registry.Strategy{
			Default: registry.On(defaultAutoscaler),
			PrepareCreate: registry.On(func(a *autoscalingv2.HorizontalPodAutoscaler) {
				a.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
			}),
			PrepareUpdate: registry.OnChange(func(a, old *autoscalingv2.HorizontalPodAutoscaler) { a.Status = old.Status }),
			Validate: registry.Checks(func(e *check.Errors, a *autoscalingv2.HorizontalPodAutoscaler) {
				checkAutoscaler(e, a, allowancesFor(a, nil))
			}),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, a, old *autoscalingv2.HorizontalPodAutoscaler) {
				checkAutoscaler(e, a, allowancesFor(a, old))
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(a, old *autoscalingv2.HorizontalPodAutoscaler) bool {
				return !equality.Semantic.DeepEqual(a.Spec, old.Spec)
			}),

			AllowUnconditionalUpdate: true,
		},
		Columns: autoscalerColumns(),
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(a, body *autoscalingv2.HorizontalPodAutoscaler) { a.Status = body.Status },
				func(e *check.Errors, a, _ *autoscalingv2.HorizontalPodAutoscaler) {
					at := field.NewPath("status")
					for i, c := range a.Status.Conditions {
						if c.ObservedGeneration != nil {
							e.NonNegative(at.Child("conditions").Index(i).Child("observedGeneration"), *c.ObservedGeneration)
						}
					}
					e.NonNegative(at.Child("currentReplicas"), int64(a.Status.CurrentReplicas))
					e.NonNegative(at.Child("desiredReplicas"), int64(a.Status.DesiredReplicas))
				}),
		},
	}
}

// What is assumed where the spec says nothing.
const (
	defaultMinReplicas    = 1
	defaultCPUUtilization = 80
	defaultPolicyPeriod   = 15
)

func defaultAutoscaler(a *autoscalingv2.HorizontalPodAutoscaler) {
	if carriesV1(a.Annotations) {
		a.Annotations = maps.Clone(a.Annotations)
		for _, key := range roundTripAnnotations {
			delete(a.Annotations, key)
		}
	}
	setIfNil(&a.Spec.MinReplicas, defaultMinReplicas)
	if len(a.Spec.Metrics) == 0 {
		a.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(defaultCPUUtilization)}
	}
	if b := a.Spec.Behavior; b != nil {
		up := []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: defaultPolicyPeriod},
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: defaultPolicyPeriod},
		}
		down := up[1:]
		b.ScaleUp, b.ScaleDown = withRules(b.ScaleUp, up), withRules(b.ScaleDown, down)
		setIfNil(&b.ScaleUp.StabilizationWindowSeconds, 0)
	}
}

// withRules completes the rules of one direction.
func withRules(r *autoscalingv2.HPAScalingRules, policies []autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if r == nil {
		r = &autoscalingv2.HPAScalingRules{}
	}
	setIfNil(&r.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if r.Policies == nil {
		r.Policies = append(r.Policies, policies...)
	}
	return r
}

func cpuUtilization(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
		},
	}
}

func setIfNil[T any](dst **T, value T) {
	if *dst == nil {
		*dst = &value
	}
}
