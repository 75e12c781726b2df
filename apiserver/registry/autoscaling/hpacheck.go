package autoscaling

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

const (
	maxPeriod = 1800 // seconds of a policy
	maxWindow = 3600 // seconds of stabilization
)

// allowances are what an object may do because it did so before.
type allowances struct {
	// target and described say how strictly the apiVersions of references are read.
	target, described references
}

// references says which apiVersions a reference may have.
type references struct{ anyVersion, coreGroup bool }

func allowancesFor(a, old *autoscalingv2.HorizontalPodAutoscaler) allowances {
	allow := allowances{described: references{coreGroup: true}}
	if a.Spec.ScaleTargetRef.Kind == "ReplicationController" {
		allow.target.coreGroup = true
	}
	if old == nil {
		return allow
	}
	if was, is := old.Spec.ScaleTargetRef, a.Spec.ScaleTargetRef; was.APIVersion == is.APIVersion && was.Kind == is.Kind {
		allow.target = references{anyVersion: true}
	}
	for _, m := range old.Spec.Metrics {
		if m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil && wrongVersion(m.Object.DescribedObject, allow.described) != "" {
			allow.described.anyVersion = true
			break
		}
	}
	return allow
}

func checkAutoscaler(e *check.Errors, a *autoscalingv2.HorizontalPodAutoscaler, allow allowances) {
	s, at := &a.Spec, field.NewPath("spec")
	if s.MinReplicas != nil {
		e.NonNegative(at.Child("minReplicas"), int64(*s.MinReplicas))
	}
	switch {
	case s.MaxReplicas == 0:
		e.Required(at.Child("maxReplicas"), "must be set and greater than 0")
	case s.MaxReplicas < 0:
		e.Invalid(at.Child("maxReplicas"), s.MaxReplicas, "must be greater than 0")
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		e.Invalid(at.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`")
	}
	checkReference(e, s.ScaleTargetRef, allow.target, at.Child("scaleTargetRef"))
	checkMetrics(e, s, allow.described, at.Child("metrics"))
	if b := s.Behavior; b != nil {
		checkRules(e, b.ScaleUp, at.Child("behavior", "scaleUp"))
		checkRules(e, b.ScaleDown, at.Child("behavior", "scaleDown"))
	}
}

func checkReference(e *check.Errors, r autoscalingv2.CrossVersionObjectReference, allow references, at *field.Path) {
	if e.Present(at.Child("kind"), r.Kind) {
		e.Each(at.Child("kind"), r.Kind, path.IsValidPathSegmentName(r.Kind))
	}
	if e.Present(at.Child("name"), r.Name) {
		e.Each(at.Child("name"), r.Name, path.IsValidPathSegmentName(r.Name))
	}
	if why := wrongVersion(r, allow); why != "" {
		e.Invalid(at.Child("apiVersion"), r.APIVersion, why)
	}
}

// wrongVersion says what is wrong with a reference's apiVersion.
func wrongVersion(r autoscalingv2.CrossVersionObjectReference, allow references) string {
	if allow.anyVersion {
		return ""
	}
	gv, err := schema.ParseGroupVersion(r.APIVersion)
	switch {
	case err != nil:
		return err.Error()
	case gv.Group == "" && !allow.coreGroup:
		return "apiVersion must specify API group"
	}
	return ""
}

func checkMetrics(e *check.Errors, s *autoscalingv2.HorizontalPodAutoscalerSpec, allow references, at *field.Path) {
	outside := false
	for i := range s.Metrics {
		m := &s.Metrics[i]
		checkMetric(e, m, allow, at.Index(i))
		outside = outside || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	}
	if s.MinReplicas != nil && *s.MinReplicas == 0 && !outside {
		e.Forbidden(at, "must specify at least one Object or External metric to support scaling to zero replicas")
	}
}

// source is one of the fields of a MetricSpec, in the order in which they are looked at.
type source struct {
	of    autoscalingv2.MetricSourceType
	name  string
	set   bool
	check func(at *field.Path)
}

func checkMetric(e *check.Errors, m *autoscalingv2.MetricSpec, allow references, at *field.Path) {
	sources := []source{
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil, func(at *field.Path) { checkObjectMetric(e, m.Object, allow, at) }},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil, func(at *field.Path) { checkExternalMetric(e, m.External, at) }},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil, func(at *field.Path) { checkPodsMetric(e, m.Pods, at) }},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil, func(at *field.Path) {
			checkResourceMetric(e, string(m.Resource.Name), m.Resource.Target, at)
		}},
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, func(at *field.Path) {
			checkContainerMetric(e, m.ContainerResource, at)
		}},
	}
	if m.Type == "" {
		e.Required(at.Child("type"), "must specify a metric source type")
	}
	var present []string
	expected := ""
	for _, s := range sources {
		if s.set {
			if present = append(present, s.name); len(present) == 1 {
				s.check(at.Child(s.name))
			}
		}
		if s.of == m.Type {
			expected = s.name
			if !s.set {
				e.Required(at.Child(s.name), "must populate information for the given metric source")
			}
		}
	}
	if expected == "" {
		// Kubernetes says so twice.
		for range 2 {
			check.Supported(e, at.Child("type"), m.Type, autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType,
				autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType)
		}
	}
	if len(present) != 1 {
		for _, name := range present {
			if name != expected {
				e.Forbidden(at.Child(name), "must populate the given metric source only")
			}
		}
	}
}

func checkObjectMetric(e *check.Errors, m *autoscalingv2.ObjectMetricSource, allow references, at *field.Path) {
	checkReference(e, m.DescribedObject, allow, at.Child("describedObject"))
	checkIdentifier(e, m.Metric, at.Child("metric"))
	checkTarget(e, m.Target, at.Child("target"))
	if m.Target.Value == nil && m.Target.AverageValue == nil {
		e.Required(at.Child("target", "averageValue"), "must set either a target value or averageValue")
	}
}

func checkExternalMetric(e *check.Errors, m *autoscalingv2.ExternalMetricSource, at *field.Path) {
	checkIdentifier(e, m.Metric, at.Child("metric"))
	checkTarget(e, m.Target, at.Child("target"))
	if m.Target.Value == nil && m.Target.AverageValue == nil {
		e.Required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target")
	}
	if m.Target.Value != nil && m.Target.AverageValue != nil {
		e.Forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target")
	}
}

func checkPodsMetric(e *check.Errors, m *autoscalingv2.PodsMetricSource, at *field.Path) {
	checkIdentifier(e, m.Metric, at.Child("metric"))
	checkTarget(e, m.Target, at.Child("target"))
	if m.Target.AverageValue == nil {
		e.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue")
	}
}

func checkContainerMetric(e *check.Errors, m *autoscalingv2.ContainerResourceMetricSource, at *field.Path) {
	if m.Name == "" {
		e.Required(at.Child("name"), "must specify a resource name")
	} else {
		podspec.ValidateContainerResourceName(e, at.Child("name"), m.Name)
	}
	if m.Container == "" {
		e.Required(at.Child("container"), "must specify a container")
	} else {
		e.Label(at.Child("container"), m.Container)
	}
	checkUtilization(e, m.Target, at)
}

func checkResourceMetric(e *check.Errors, name string, target autoscalingv2.MetricTarget, at *field.Path) {
	if name == "" {
		e.Required(at.Child("name"), "must specify a resource name")
	}
	checkUtilization(e, target, at)
}

// checkUtilization: a share of what is requested, or an amount.
func checkUtilization(e *check.Errors, target autoscalingv2.MetricTarget, at *field.Path) {
	checkTarget(e, target, at.Child("target"))
	if target.AverageUtilization == nil && target.AverageValue == nil {
		e.Required(at.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization")
	}
	if target.AverageUtilization != nil && target.AverageValue != nil {
		e.Forbidden(at.Child("target", "averageValue"), "may not set both a target raw value and a target utilization")
	}
}

func checkTarget(e *check.Errors, t autoscalingv2.MetricTarget, at *field.Path) {
	if t.Type == "" {
		e.Required(at.Child("type"), "must specify a metric target type")
	}
	switch t.Type {
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	default:
		e.Invalid(at.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue")
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		e.Invalid(at.Child("value"), t.Value, "must be positive")
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		e.Invalid(at.Child("averageValue"), t.AverageValue, "must be positive")
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		e.Invalid(at.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0")
	}
}

func checkIdentifier(e *check.Errors, m autoscalingv2.MetricIdentifier, at *field.Path) {
	if m.Name == "" {
		e.Required(at.Child("name"), "must specify a metric name")
	} else {
		e.Each(at.Child("name"), m.Name, path.IsValidPathSegmentName(m.Name))
	}
}

func checkRules(e *check.Errors, r *autoscalingv2.HPAScalingRules, at *field.Path) {
	if r == nil {
		return
	}
	if w := r.StabilizationWindowSeconds; w != nil {
		if *w < 0 {
			e.Invalid(at.Child("stabilizationWindowSeconds"), *w, "must be greater than or equal to zero")
		}
		if *w > maxWindow {
			e.Invalid(at.Child("stabilizationWindowSeconds"), *w, fmt.Sprintf("must be less than or equal to %v", maxWindow))
		}
	}
	if r.SelectPolicy != nil {
		check.Supported(e, at.Child("selectPolicy"), *r.SelectPolicy, autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)
	}
	if len(r.Policies) == 0 {
		e.Required(at.Child("policies"), "must specify at least one Policy")
	}
	for i, p := range r.Policies {
		checkPolicy(e, p, at.Child("policies").Index(i))
	}
	if r.Tolerance != nil {
		e.NonNegativeQuantity(at.Child("tolerance"), *r.Tolerance)
	}
}

func checkPolicy(e *check.Errors, p autoscalingv2.HPAScalingPolicy, at *field.Path) {
	check.Supported(e, at.Child("type"), p.Type, autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)
	if p.Value <= 0 {
		e.Invalid(at.Child("value"), p.Value, "must be greater than zero")
	}
	if p.PeriodSeconds <= 0 {
		e.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero")
	}
	if p.PeriodSeconds > maxPeriod {
		e.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", maxPeriod))
	}
}
