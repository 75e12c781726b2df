package autoscaler

import (
	"errors"
	"fmt"
	"math"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/pods"
)

// Series is what a source of custom or external metrics answered for one of an autoscaler's metrics.
type Series struct {
	// Pods are the values of a Pods metric, by the pods' names, in thousandths.
	Pods map[string]int64
	// Total is the value of an Object metric, or the sum of the series of an External one, in thousandths.
	Total int64
	// Err is why there is no answer.
	Err error
}

// errNotAsked is the answer for a metric that nobody was asked for.
var errNotAsked = errors.New("unable to fetch metrics: they were not asked for")

// series is what was answered for the metric at index i.
func (s *step) series(i int) Series {
	if i < len(s.Series) {
		return s.Series[i]
	}
	return Series{Err: errNotAsked}
}

// proposal is what one metric asks for.
type proposal struct {
	replicas int32
	name     string
	status   autoscalingv2.MetricStatus
}

// failure is why a metric asks for nothing: the condition's reason, and the metric in upstream's words.
type failure struct {
	reason, metric string
	err            error
}

func (s *step) podsMetric(m *autoscalingv2.PodsMetricSource, answer Series, current int32) (proposal, *failure) {
	fail := func(err error) (proposal, *failure) {
		return proposal{}, &failure{"FailedGetPodsMetric", "pods", fmt.Errorf("unable to get metric %s: %w", m.Metric.Name, err)}
	}
	switch {
	case answer.Err != nil:
		return fail(answer.Err)
	case m.Target.AverageValue == nil || m.Target.AverageValue.Sign() <= 0:
		return proposal{}, &failure{"FailedGetPodsMetric", "pods", errors.New("invalid pods metric source: an average value target was not set")}
	}
	const measured = corev1.ResourceName("pods")
	usage := map[string]Usage{}
	for pod, value := range answer.Pods {
		usage[pod] = Usage{Containers: map[string]corev1.ResourceList{"": {measured: *resource.NewMilliQuantity(value, resource.DecimalSI)}}}
	}
	r, err := compute(current, s.Pods, usage, target{resource: measured, average: m.Target.AverageValue.MilliValue()}, toleranceOf(s.HPA), s.now)
	if err != nil {
		return fail(err)
	}
	return proposal{r.replicas, "pods metric " + m.Metric.Name, autoscalingv2.MetricStatus{
		Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricStatus{Metric: m.Metric, Current: autoscalingv2.MetricValueStatus{AverageValue: milli(r.average)}},
	}}, nil
}

func (s *step) objectMetric(m *autoscalingv2.ObjectMetricSource, answer Series, current int32) (proposal, *failure) {
	fail := func(err error) (proposal, *failure) {
		return proposal{}, &failure{"FailedGetObjectMetric", "object", err}
	}
	if answer.Err != nil {
		o := m.DescribedObject
		return fail(fmt.Errorf("unable to get metric %s: %w on %s %s/%s", m.Metric.Name, answer.Err, o.Kind, s.HPA.Namespace, o.Name))
	}
	n, value, err := s.byTotal(answer.Total, m.Target, current)
	if errors.Is(err, errNoTarget) {
		return fail(errors.New("invalid object metric source: neither a value target nor an average value target was set"))
	}
	if err != nil {
		return fail(err)
	}
	name := fmt.Sprintf("%s metric %s", m.DescribedObject.Kind, m.Metric.Name)
	if m.Target.Type == autoscalingv2.AverageValueMetricType {
		name = externalName(m.Metric)
	}
	return proposal{n, name, autoscalingv2.MetricStatus{
		Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricStatus{DescribedObject: m.DescribedObject, Metric: m.Metric, Current: value},
	}}, nil
}

func (s *step) externalMetric(m *autoscalingv2.ExternalMetricSource, answer Series, current int32) (proposal, *failure) {
	fail := func(err error) (proposal, *failure) {
		return proposal{}, &failure{"FailedGetExternalMetric", m.Metric.Name + " external", err}
	}
	n, value, err := s.byTotal(answer.Total, m.Target, current)
	switch {
	case answer.Err != nil:
		return fail(fmt.Errorf("unable to get external metric %s/%s/%+v: %w", s.HPA.Namespace, m.Metric.Name, m.Metric.Selector, answer.Err))
	case errors.Is(err, errNoTarget):
		return fail(errors.New("invalid external metric source: neither a value target nor an average value target was set"))
	case err != nil:
		return fail(err)
	}
	return proposal{n, externalName(m.Metric), autoscalingv2.MetricStatus{
		Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricStatus{Metric: m.Metric, Current: value},
	}}, nil
}

// externalName is upstream's wording.
func externalName(m autoscalingv2.MetricIdentifier) string {
	return fmt.Sprintf("external metric %s(%s)", m.Name, metav1.FormatLabelSelector(m.Selector))
}

// errNoTarget says that neither a value nor an average is wanted.
var errNoTarget = errors.New("no target")

// byTotal turns one value of everything together into a number of replicas: with a Value target the replicas change as the value's
// ratio to the target, with an AverageValue each replica is to have that share of it.
func (s *step) byTotal(total int64, t autoscalingv2.MetricTarget, current int32) (int32, autoscalingv2.MetricValueStatus, error) {
	switch {
	case t.Type == autoscalingv2.AverageValueMetricType && t.AverageValue != nil && t.AverageValue.Sign() > 0:
		n, share := s.byShare(total, t.AverageValue.MilliValue())
		return n, autoscalingv2.MetricValueStatus{AverageValue: milli(share)}, nil
	case t.Type == autoscalingv2.ValueMetricType && t.Value != nil && t.Value.Sign() > 0:
		n, err := s.byRatio(float64(total)/float64(t.Value.MilliValue()), current)
		return n, autoscalingv2.MetricValueStatus{Value: milli(total)}, err
	}
	return 0, autoscalingv2.MetricValueStatus{}, errNoTarget
}

// byShare is how many replicas have at most the wanted share each, and the share that each has now.
func (s *step) byShare(total, wanted int64) (n int32, share int64) {
	n = s.Scale.Status.Replicas
	if n == 0 {
		return ceil(float64(total) / float64(wanted)), total
	}
	share = int64(math.Ceil(float64(total) / float64(n)))
	if !toleranceOf(s.HPA).covers(float64(total) / (float64(wanted) * float64(n))) {
		n = ceil(float64(total) / float64(wanted))
	}
	return n, share
}

// byRatio multiplies the pods that work by the ratio; from zero the ratio itself is the number.
func (s *step) byRatio(ratio float64, current int32) (int32, error) {
	switch {
	case current == 0:
		return ceil(ratio), nil
	case toleranceOf(s.HPA).covers(ratio):
		return current, nil
	case len(s.Pods) == 0:
		return 0, errors.New("unable to calculate ready pods: no pods returned by selector while calculating replica count")
	}
	ready := 0
	for _, p := range s.Pods {
		if p.Status.Phase == corev1.PodRunning && pods.Ready(p) {
			ready++
		}
	}
	return ceil(ratio * float64(ready)), nil
}

func milli(value int64) *resource.Quantity {
	return resource.NewMilliQuantity(value, resource.DecimalSI)
}
