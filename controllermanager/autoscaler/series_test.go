package autoscaler

import (
	"errors"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func quantity(text string) *resource.Quantity {
	q := resource.MustParse(text)
	return &q
}

// How many replicas custom and external metrics ask for, and the current values that the status tells.
func TestSeries(t *testing.T) {
	qps := autoscalingv2.MetricIdentifier{Name: "qps"}
	average := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: quantity("10")}
	absolute := autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: quantity("100")}
	pods := autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: qps, Target: average}}
	object := func(to autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{DescribedObject: autoscalingv2.CrossVersionObjectReference{Kind: "Ingress", Name: "i"}, Metric: qps, Target: to}}
	}
	external := func(to autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: qps, Target: to}}
	}
	failed := errors.New("adapter is away")
	for name, c := range map[string]struct {
		metric  autoscalingv2.MetricSpec
		answer  Series
		current int32
		want    int32
		name    string
		value   string
		reason  string
	}{
		"pods":                        {pods, Series{Pods: map[string]int64{"p0": 20_000, "p1": 20_000}}, 2, 4, "pods metric qps", "20", ""},
		"pods within tolerance":       {pods, Series{Pods: map[string]int64{"p0": 10_500, "p1": 10_500}}, 2, 2, "pods metric qps", "10500m", ""},
		"a pod without the metric":    {pods, Series{Pods: map[string]int64{"p0": 1_000}}, 2, 2, "pods metric qps", "1", ""},
		"no pod has it":               {pods, Series{}, 2, 0, "", "", "FailedGetPodsMetric"},
		"pods, no adapter":            {pods, Series{Err: failed}, 2, 0, "", "", "FailedGetPodsMetric"},
		"object":                      {object(absolute), Series{Total: 300_000}, 2, 6, "Ingress metric qps", "300", ""},
		"object within tolerance":     {object(absolute), Series{Total: 105_000}, 2, 2, "Ingress metric qps", "105", ""},
		"object, from zero":           {object(absolute), Series{Total: 250_000}, 0, 3, "Ingress metric qps", "250", ""},
		"object, a share each":        {object(average), Series{Total: 45_000}, 2, 5, "external metric qps(<none>)", "22500m", ""},
		"object, no adapter":          {object(absolute), Series{Err: failed}, 2, 0, "", "", "FailedGetObjectMetric"},
		"object, no target":           {object(autoscalingv2.MetricTarget{}), Series{}, 2, 0, "", "", "FailedGetObjectMetric"},
		"external":                    {external(absolute), Series{Total: 150_000}, 2, 3, "external metric qps(<none>)", "150", ""},
		"external, a share each":      {external(average), Series{Total: 30_000}, 2, 3, "external metric qps(<none>)", "15", ""},
		"external, a share from zero": {external(average), Series{Total: 30_000}, 0, 3, "external metric qps(<none>)", "30", ""},
		"external, no adapter":        {external(absolute), Series{Err: failed}, 2, 0, "", "", "FailedGetExternalMetric"},
	} {
		s := &step{Input: input(scaler(), c.current, 500, 500), now: now}
		got, why := s.metric(&c.metric, c.answer, c.current)
		if c.reason != "" {
			if why == nil || why.reason != c.reason || c.answer.Err != nil && !errors.Is(why.err, failed) {
				t.Errorf("%s: %+v", name, why)
			}
			continue
		}
		if why != nil || got.replicas != c.want || got.name != c.name || shown(got.status) != c.value {
			t.Errorf("%s: %d by %q at %s, %+v; want %d by %q at %s", name, got.replicas, got.name, shown(got.status), why, c.want, c.name, c.value)
		}
	}
	// A value for all is shared by the pods that are ready.
	s := &step{Input: input(scaler(), 3, 500, 500, 500), now: now}
	s.Pods[2].Status.Conditions[0].Status = corev1.ConditionFalse
	if got, _ := s.metric(&autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: external(absolute).External}, Series{Total: 300_000}, 3); got.replicas != 6 {
		t.Errorf("with two of three ready: %d", got.replicas)
	}
}

// shown is the current value in a status.
func shown(m autoscalingv2.MetricStatus) string {
	var v autoscalingv2.MetricValueStatus
	switch {
	case m.Pods != nil:
		v = m.Pods.Current
	case m.Object != nil:
		v = m.Object.Current
	case m.External != nil:
		v = m.External.Current
	}
	if v.AverageValue != nil {
		return v.AverageValue.String()
	}
	return v.Value.String()
}
