// Package autoscaler scales what HorizontalPodAutoscalers name by what its pods use.
//
// Reconcile is pure: from an autoscaler, the current scale, the pods, what they use and a memory of recent recommendations it
// decides on a size, with upstream's algorithm, conditions and events. A change of the size and the status that tells of it are two
// steps: the status is written once it is known whether the scale was taken.
//
// What pods use is asked of their kubelets (see docs/decisions), so that Resource and ContainerResource metrics need nothing
// installed. Pods, Object and External metrics come from the APIs custom.metrics.k8s.io and external.metrics.k8s.io, which adapters
// serve behind the API server; without one such metrics fail with the condition that Kubernetes gives.
package autoscaler

import (
	"errors"
	"fmt"
	"slices"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

// Period is how often an autoscaler is looked at, upstream's.
const Period = 15 * time.Second

// Rescale is a change of size that was asked for.
type Rescale struct {
	From, To int32
	Reason   string
	At       time.Time
	// Err is why it was not made, nil if it was.
	Err error
}

// Input is what a decision is made from.
type Input struct {
	HPA *autoscalingv2.HorizontalPodAutoscaler
	// Scale of the target, of kind Target. ScaleErr is why it could not be read.
	Scale    *autoscalingv1.Scale
	Target   plan.Kind
	ScaleErr error
	// SelectorErr is what is wrong with the scale's selector, nil if it selects.
	SelectorErr error
	// Pods of the target and what they use, by name.
	Pods  []*corev1.Pod
	Usage map[string]Usage
	// Series are the answers for the HPA's metrics that adapters have, by the metric's index.
	Series []Series
	// Last is a change that was asked for in the step before; nil if none was.
	Last   *Rescale
	Memory Memory
}

// Output is a decision.
type Output struct {
	Plan plan.Plan
	// Rescale is what the plan asks for; nil if it changes no size.
	Rescale *Rescale
	Memory  Memory
}

type step struct {
	Input
	now    time.Time
	plan   plan.Plan
	memory Memory
	status autoscalingv2.HorizontalPodAutoscalerStatus
}

// Reconcile plans the next step of an autoscaler.
func Reconcile(in Input, now time.Time) Output {
	s := &step{Input: in, now: now, memory: in.Memory, status: *in.HPA.Status.DeepCopy()}
	s.status.ObservedGeneration = &in.HPA.Generation
	s.plan.LookAgain(now, now.Add(Period))
	if in.Last != nil {
		s.tell(in.Last)
		return Output{s.plan, nil, s.memory}
	}
	rescale := s.decide()
	if rescale != nil {
		s.plan.LookAgain(now, now)
		return Output{s.plan, rescale, s.memory}
	}
	s.write()
	return Output{s.plan, nil, s.memory}
}

func (s *step) least() int32 {
	if s.HPA.Spec.MinReplicas == nil {
		return 1
	}
	return *s.HPA.Spec.MinReplicas
}

// tell writes what became of a change of size.
func (s *step) tell(r *Rescale) {
	if r.Err != nil {
		s.plan.Event(s.HPA, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", r.To, r.Reason, r.Err)
		s.set(autoscalingv2.AbleToScale, false, "FailedUpdateScale", fmt.Sprintf("the HPA controller was unable to update the target scale: %v", r.Err))
		s.status.CurrentReplicas, s.status.DesiredReplicas = r.From, r.From
	} else {
		s.plan.Event(s.HPA, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", r.To, r.Reason)
		s.set(autoscalingv2.AbleToScale, true, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", r.To))
		at := metav1.NewTime(r.At.Truncate(time.Second))
		s.status.LastScaleTime, s.status.CurrentReplicas, s.status.DesiredReplicas = &at, r.From, r.To
		s.memory = s.memory.Scaled(r.From, r.To, r.At, s.HPA)
	}
	s.write()
}

// decide returns a change of size if there is to be one, and notes the status.
func (s *step) decide() *Rescale {
	if s.ScaleErr != nil {
		s.plan.Event(s.HPA, corev1.EventTypeWarning, "FailedGetScale", "%v", s.ScaleErr)
		s.set(autoscalingv2.AbleToScale, false, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", s.ScaleErr))
		return nil
	}
	s.set(autoscalingv2.AbleToScale, true, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current := s.Scale.Spec.Replicas
	if len(s.memory.recommendations) == 0 {
		s.memory = s.memory.remember(recommendation{s.now, current}, 0)
	}
	desired, reason := current, ""
	switch {
	case current == 0 && s.least() != 0:
		s.set(autoscalingv2.ScalingActive, false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		desired = 0
	case current > s.HPA.Spec.MaxReplicas:
		desired, reason = s.HPA.Spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas"
	case current < s.least():
		desired, reason = s.least(), "Current number of replicas below Spec.MinReplicas"
	default:
		var ok bool
		if desired, reason, ok = s.byMetrics(current); !ok {
			s.status.CurrentReplicas = s.Scale.Status.Replicas
			return nil
		}
	}
	s.status.CurrentReplicas, s.status.DesiredReplicas = s.Scale.Status.Replicas, desired
	if desired == current {
		return nil
	}
	seen := s.Scale
	w := plan.MergePatch(s.Target, seen, scalePatch(seen, desired))
	w.Subresource = "scale"
	s.plan.Add(w)
	return &Rescale{From: current, To: desired, Reason: reason, At: s.now}
}

func scalePatch(seen *autoscalingv1.Scale, replicas int32) []byte {
	meta := owner.MetaPatch(seen, nil)
	// The patch is {"metadata":{…}}; the size goes beside it.
	return append(meta[:len(meta)-1], fmt.Sprintf(`,"spec":{"replicas":%d}}`, replicas)...)
}

// byMetrics returns the size that the metrics want, within all limits; ok is false if they do not say.
func (s *step) byMetrics(current int32) (desired int32, reason string, ok bool) {
	if s.SelectorErr != nil {
		s.set(autoscalingv2.ScalingActive, false, "InvalidSelector", s.SelectorErr.Error())
		s.plan.Event(s.HPA, corev1.EventTypeWarning, "InvalidSelector", "%v", s.SelectorErr)
		return 0, "", false
	}
	wanted, name, failed := s.ask(current)
	if len(s.HPA.Spec.Metrics) == 0 || failed != nil && (name == "" || wanted < current) {
		if failed == nil {
			failed = &failure{"InvalidMetricSourceType", "any", errors.New("the HPA has no metrics")}
		}
		s.set(autoscalingv2.ScalingActive, false, failed.reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", failed.err))
		s.plan.Event(s.HPA, corev1.EventTypeWarning, failed.reason, "%v", failed.err)
		s.plan.Event(s.HPA, corev1.EventTypeWarning, "FailedComputeMetricsReplicas", "invalid metrics (%d invalid out of %d), first error is: failed to get %s metric value: %v",
			s.invalid(), len(s.HPA.Spec.Metrics), failed.metric, failed.err)
		return 0, "", false
	}
	s.set(autoscalingv2.ScalingActive, true, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+name)
	stable := s.stabilize(current, wanted)
	s.set(autoscalingv2.AbleToScale, true, stable.reason, stable.message)
	limited := s.limit(current, stable.replicas)
	s.set(autoscalingv2.ScalingLimited, limited.replicas != stable.replicas, limited.reason, limited.message)
	reason = name + " above target"
	if limited.replicas < current {
		reason = "All metrics below target"
	}
	return limited.replicas, reason, true
}

// ask computes every metric: the most that any wants and that one's name, and the first failure.
func (s *step) ask(current int32) (most int32, name string, failed *failure) {
	statuses := []autoscalingv2.MetricStatus{}
	for i := range s.HPA.Spec.Metrics {
		p, why := s.metric(&s.HPA.Spec.Metrics[i], s.series(i), current)
		if why != nil {
			if failed == nil {
				failed = why
			}
			continue
		}
		statuses = append(statuses, p.status)
		if name == "" || p.replicas > most {
			most, name = p.replicas, p.name
		}
	}
	s.status.CurrentMetrics = statuses
	return most, name, failed
}

// invalid counts the metrics that failed.
func (s *step) invalid() int { return len(s.HPA.Spec.Metrics) - len(s.status.CurrentMetrics) }

// metric computes one metric; answer is the adapters', for those that they have.
func (s *step) metric(m *autoscalingv2.MetricSpec, answer Series, current int32) (proposal, *failure) {
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		r, err := s.resource(m.Resource.Name, "", m.Resource.Target, current)
		if err != nil {
			return proposal{}, &failure{"FailedGetResourceMetric", string(m.Resource.Name) + " resource", fmt.Errorf("failed to get %s %s: %w", m.Resource.Name, kindOf(m.Resource.Target), err)}
		}
		status := autoscalingv2.MetricStatus{Type: m.Type, Resource: &autoscalingv2.ResourceMetricStatus{Name: m.Resource.Name, Current: r.status(m.Resource.Target)}}
		return proposal{r.replicas, describe(m.Resource.Name, m.Resource.Target), status}, nil
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		c := m.ContainerResource
		r, err := s.resource(c.Name, c.Container, c.Target, current)
		if err != nil {
			return proposal{}, &failure{"FailedGetContainerResourceMetric", string(c.Name) + " container", fmt.Errorf("failed to get %s %s: %w", c.Name, kindOf(c.Target), err)}
		}
		status := autoscalingv2.MetricStatus{Type: m.Type, ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{Name: c.Name, Container: c.Container, Current: r.status(c.Target)}}
		return proposal{r.replicas, describe(c.Name, c.Target), status}, nil
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		return s.podsMetric(m.Pods, answer, current)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		return s.objectMetric(m.Object, answer, current)
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		return s.externalMetric(m.External, answer, current)
	}
	return proposal{}, &failure{"InvalidMetricSourceType", string(m.Type), fmt.Errorf("unknown metric source type %q", m.Type)}
}

func (s *step) resource(name corev1.ResourceName, container string, t autoscalingv2.MetricTarget, current int32) (reading, error) {
	goal := target{resource: name, container: container}
	switch {
	case t.AverageValue != nil:
		goal.average = t.AverageValue.MilliValue()
	case t.AverageUtilization != nil:
		goal.utilization = int64(*t.AverageUtilization)
	default:
		return reading{}, fmt.Errorf("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	return compute(current, s.Pods, s.Usage, goal, toleranceOf(s.HPA), s.now)
}

// status is a reading in the words of the API.
func (r reading) status(t autoscalingv2.MetricTarget) autoscalingv2.MetricValueStatus {
	out := autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(r.average, resource.DecimalSI)}
	if t.AverageValue == nil {
		utilization := int32(r.utilization)
		out.AverageUtilization = &utilization
	}
	return out
}

func kindOf(t autoscalingv2.MetricTarget) string {
	if t.AverageValue != nil {
		return "usage"
	}
	return "utilization"
}

func describe(name corev1.ResourceName, t autoscalingv2.MetricTarget) string {
	if t.AverageValue != nil {
		return fmt.Sprintf("%s resource", name)
	}
	return fmt.Sprintf("%s resource utilization (percentage of request)", name)
}

// set sets a condition; the time of its last transition stays unless its status changes.
func (s *step) set(t autoscalingv2.HorizontalPodAutoscalerConditionType, ok bool, reason, message string) {
	c := autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: t, Status: isTrue(ok), Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(s.now.Truncate(time.Second)),
	}
	i := slices.IndexFunc(s.status.Conditions, func(have autoscalingv2.HorizontalPodAutoscalerCondition) bool { return have.Type == t })
	if i < 0 {
		s.status.Conditions = append(s.status.Conditions, c)
		return
	}
	if s.status.Conditions[i].Status == c.Status {
		c.LastTransitionTime = s.status.Conditions[i].LastTransitionTime
	}
	s.status.Conditions[i] = c
}

// write writes the status, if it differs.
func (s *step) write() {
	if apiequality.Semantic.DeepEqual(s.status, s.HPA.Status) {
		return
	}
	next := s.HPA.DeepCopy()
	next.Status = s.status
	s.plan.Add(plan.UpdateStatus(plan.HPAs, next))
}
