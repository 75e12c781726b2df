package autoscaling

import (
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/apiserver/registry"
)

func autoscalerColumns() []registry.Column {
	type hpa = *autoscalingv2.HorizontalPodAutoscaler
	doc, status := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc(), autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("Reference", doc["scaleTargetRef"], func(a hpa) string { return a.Spec.ScaleTargetRef.Kind + "/" + a.Spec.ScaleTargetRef.Name }),
		registry.Text("Targets", doc["metrics"], targets),
		registry.Text("MinPods", doc["minReplicas"], func(a hpa) string {
			if a.Spec.MinReplicas == nil {
				return "<unset>"
			}
			return fmt.Sprint(*a.Spec.MinReplicas)
		}),
		registry.NumericText("MaxPods", doc["maxReplicas"], func(a hpa) string { return fmt.Sprint(a.Spec.MaxReplicas) }),
		registry.NumericText("Replicas", status["currentReplicas"], func(a hpa) string { return fmt.Sprint(a.Status.CurrentReplicas) }),
		registry.AgeColumn(),
	}
}

const (
	// shownTargets is how many metrics are printed before "+ n more...".
	shownTargets  = 2
	unknownTarget = "<unknown>"
)

// targets renders each metric's current and wanted value.
func targets(a *autoscalingv2.HorizontalPodAutoscaler) string {
	if len(a.Spec.Metrics) == 0 {
		return "<none>"
	}
	var list []string
	for i := range a.Spec.Metrics {
		status := &autoscalingv2.MetricStatus{}
		if i < len(a.Status.CurrentMetrics) {
			status = &a.Status.CurrentMetrics[i]
		}
		list = append(list, target(&a.Spec.Metrics[i], status))
	}
	if len(list) > shownTargets {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:shownTargets], ", "), len(list)-shownTargets)
	}
	return strings.Join(list, ", ")
}

func target(m *autoscalingv2.MetricSpec, s *autoscalingv2.MetricStatus) string {
	switch {
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		var now autoscalingv2.MetricValueStatus
		if s.External != nil {
			now = s.External.Current
		}
		return amount(m.External.Target, now)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		var now autoscalingv2.MetricValueStatus
		if s.Object != nil {
			now = s.Object.Current
		}
		return amount(m.Object.Target, now)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		var now *resource.Quantity
		if s.Pods != nil {
			now = s.Pods.Current.AverageValue
		}
		return text(now, unknownTarget) + "/" + text(m.Pods.Target.AverageValue, "")
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		var now autoscalingv2.MetricValueStatus
		if s.Resource != nil {
			now = s.Resource.Current
		}
		return string(m.Resource.Name) + ": " + utilization(m.Resource.Target, now)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		var now autoscalingv2.MetricValueStatus
		if s.ContainerResource != nil {
			now = s.ContainerResource.Current
		}
		return string(m.ContainerResource.Name) + ": " + utilization(m.ContainerResource.Target, now)
	}
	return "<unknown type>"
}

// amount renders an average or a total.
func amount(t autoscalingv2.MetricTarget, now autoscalingv2.MetricValueStatus) string {
	if t.AverageValue != nil {
		return text(now.AverageValue, unknownTarget) + "/" + t.AverageValue.String() + " (avg)"
	}
	return text(now.Value, unknownTarget) + "/" + text(t.Value, "")
}

// utilization renders an amount or a share in percent.
func utilization(t autoscalingv2.MetricTarget, now autoscalingv2.MetricValueStatus) string {
	if t.AverageValue != nil {
		return text(now.AverageValue, unknownTarget) + "/" + t.AverageValue.String()
	}
	return percent(now.AverageUtilization, unknownTarget) + "/" + percent(t.AverageUtilization, "<auto>")
}

func text(q *resource.Quantity, none string) string {
	if q == nil {
		return none
	}
	return q.String()
}

func percent(n *int32, none string) string {
	if n == nil {
		return none
	}
	return fmt.Sprintf("%d%%", *n)
}
