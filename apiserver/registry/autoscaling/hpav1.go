package autoscaling

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/registry"
)

func autoscalersV1(v2 *registry.Resource) *registry.Resource {
	return registry.Via(v2, registry.Resource{
		Kind:    autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		New:     func() registry.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
		NewList: func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscalerList{} },
		Stored: &registry.Stored{
			To: func(obj registry.Object) (registry.Object, error) {
				return toV2(obj.(*autoscalingv1.HorizontalPodAutoscaler))
			},
			From: func(kept registry.Object) (registry.Object, error) {
				return toV1(kept.(*autoscalingv2.HorizontalPodAutoscaler))
			},
		},
		Strategy: registry.Strategy{
			Default: registry.On(func(a *autoscalingv1.HorizontalPodAutoscaler) { setIfNil(&a.Spec.MinReplicas, defaultMinReplicas) }),
		},
	})
}

// The annotations in which v1 carries what only v2 has fields for; v2 objects do not have them.
const (
	metricsAnnotation    = "autoscaling.alpha.kubernetes.io/metrics"
	currentAnnotation    = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation   = "autoscaling.alpha.kubernetes.io/behavior"
)

var roundTripAnnotations = []string{metricsAnnotation, currentAnnotation, conditionsAnnotation, behaviorAnnotation}

// carriesV1 reports whether there are annotations that only v1 objects have.
func carriesV1(annotations map[string]string) bool {
	return slices.ContainsFunc(roundTripAnnotations, func(key string) bool { _, ok := annotations[key]; return ok })
}

// toV1 shows a v2 object as v1: the target for CPU has a field, everything else is in annotations.
func toV1(a *autoscalingv2.HorizontalPodAutoscaler) (registry.Object, error) {
	out := &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: a.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(a.Spec.ScaleTargetRef),
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: a.Status.ObservedGeneration, LastScaleTime: a.Status.LastScaleTime,
			CurrentReplicas: a.Status.CurrentReplicas, DesiredReplicas: a.Status.DesiredReplicas,
		},
	}
	notes := map[string]any{}
	var others []autoscalingv1.MetricSpec
	seen := false
	for _, m := range a.Spec.Metrics {
		cpu := m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU
		if cpu && !seen {
			out.Spec.TargetCPUUtilizationPercentage = m.Resource.Target.AverageUtilization
			seen = true
		}
		if !cpu || m.Resource.Target.AverageUtilization == nil {
			others = append(others, metricToV1(m))
		}
	}
	if len(others) > 0 {
		notes[metricsAnnotation] = others
	}
	var current []autoscalingv1.MetricStatus
	for _, m := range a.Status.CurrentMetrics {
		if m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = m.Resource.Current.AverageUtilization
		}
		current = append(current, statusToV1(m))
	}
	if len(current) > 0 {
		notes[currentAnnotation] = current
	}
	if len(a.Status.Conditions) > 0 {
		notes[conditionsAnnotation] = a.Status.Conditions
	}
	if a.Spec.Behavior != nil {
		notes[behaviorAnnotation] = behaviorToV1(a.Spec.Behavior)
	}
	return out, annotate(&out.ObjectMeta.Annotations, notes)
}

// annotate adds values as JSON to a map of annotations, which it replaces.
func annotate(annotations *map[string]string, notes map[string]any) error {
	if len(notes) == 0 {
		return nil
	}
	all := make(map[string]string, len(*annotations)+len(notes))
	maps.Copy(all, *annotations)
	for key, value := range notes {
		text, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		all[key] = string(text)
	}
	*annotations = all
	return nil
}

// toV2 undoes toV1. A v1 object without any metric has the implicit target for CPU.
func toV2(a *autoscalingv1.HorizontalPodAutoscaler) (registry.Object, error) {
	out := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: a.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(a.Spec.ScaleTargetRef),
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: a.Status.ObservedGeneration, LastScaleTime: a.Status.LastScaleTime,
			CurrentReplicas: a.Status.CurrentReplicas, DesiredReplicas: a.Status.DesiredReplicas,
		},
	}
	if err := readNotes(a.Annotations, out); err != nil {
		return nil, err
	}
	if carriesV1(a.Annotations) {
		out.Annotations = maps.Clone(a.Annotations)
		for _, key := range roundTripAnnotations {
			delete(out.Annotations, key)
		}
	}
	if p := a.Spec.TargetCPUUtilizationPercentage; p != nil {
		out.Spec.Metrics = append(out.Spec.Metrics, cpuUtilization(*p))
	}
	if len(out.Spec.Metrics) == 0 {
		out.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(defaultCPUUtilization)}
	}
	if p := a.Status.CurrentCPUUtilizationPercentage; p != nil && len(out.Status.CurrentMetrics) == 0 {
		out.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{
				Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: p},
			},
		}}
	}
	return out, nil
}

// readNotes takes out of a v1 object's annotations what they carry.
func readNotes(annotations map[string]string, out *autoscalingv2.HorizontalPodAutoscaler) error {
	read := func(key string, into any) error {
		text, ok := annotations[key]
		if !ok {
			return nil
		}
		if err := json.Unmarshal([]byte(text), into); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	var metrics []autoscalingv1.MetricSpec
	var current []autoscalingv1.MetricStatus
	var behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
	for key, into := range map[string]any{
		metricsAnnotation: &metrics, currentAnnotation: &current, conditionsAnnotation: &out.Status.Conditions, behaviorAnnotation: &behavior,
	} {
		if err := read(key, into); err != nil {
			return err
		}
	}
	for _, m := range metrics {
		out.Spec.Metrics = append(out.Spec.Metrics, metricToV2(m))
	}
	for _, m := range current {
		out.Status.CurrentMetrics = append(out.Status.CurrentMetrics, statusToV2(m))
	}
	if behavior != nil && (behavior.ScaleUp != nil || behavior.ScaleDown != nil) {
		out.Spec.Behavior = behavior
	}
	return nil
}
