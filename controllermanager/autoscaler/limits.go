package autoscaler

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// Without spec.behavior: how long the highest recommendation holds, and how fast to grow.
const (
	downWindow    = 5 * time.Minute
	growthFactor  = 2
	growthMinimum = 4
)

// recommendation is what the metrics wanted at a time.
type recommendation struct {
	at       time.Time
	replicas int32
}

// change is a change of size that was made.
type change struct {
	at time.Time
	by int32
}

// Memory is what is known of the past of one autoscaler. It is forgotten by a restart, which makes it careful, not wrong: the
// current size counts as the first recommendation.
type Memory struct {
	recommendations []recommendation
	ups, downs      []change
}

// remember adds a recommendation and forgets those beyond the longest window. The input is not modified.
func (m Memory) remember(r recommendation, longest time.Duration) Memory {
	var keep []recommendation
	for _, old := range m.recommendations {
		if old.at.Add(longest).After(r.at) {
			keep = append(keep, old)
		}
	}
	m.recommendations = append(keep, r)
	return m
}

// Scaled notes a change of size.
func (m Memory) Scaled(from, to int32, at time.Time, hpa *autoscalingv2.HorizontalPodAutoscaler) Memory {
	up, down := rules(hpa, true), rules(hpa, false)
	if to > from {
		m.ups = append(recent(m.ups, up, at), change{at, to - from})
	} else if to < from {
		m.downs = append(recent(m.downs, down, at), change{at, from - to})
	}
	return m
}

func recent(list []change, r *autoscalingv2.HPAScalingRules, now time.Time) []change {
	longest := time.Duration(0)
	if r != nil {
		for _, p := range r.Policies {
			longest = max(longest, time.Duration(p.PeriodSeconds)*time.Second)
		}
	}
	var keep []change
	for _, c := range list {
		if c.at.Add(longest).After(now) {
			keep = append(keep, c)
		}
	}
	return keep
}

func rules(hpa *autoscalingv2.HorizontalPodAutoscaler, up bool) *autoscalingv2.HPAScalingRules {
	if hpa.Spec.Behavior == nil {
		return nil
	}
	if up {
		return hpa.Spec.Behavior.ScaleUp
	}
	return hpa.Spec.Behavior.ScaleDown
}

// within adds up the changes of the last seconds.
func within(list []change, seconds int32, now time.Time) (sum int32) {
	for _, c := range list {
		if c.at.Add(time.Duration(seconds) * time.Second).After(now) {
			sum += c.by
		}
	}
	return sum
}

// verdict is a size and why it is that.
type verdict struct {
	replicas        int32
	reason, message string
}

func windowOf(r *autoscalingv2.HPAScalingRules) time.Duration {
	if r == nil || r.StabilizationWindowSeconds == nil {
		return 0
	}
	return time.Duration(*r.StabilizationWindowSeconds) * time.Second
}

// stabilize holds a recommendation back by those of the recent past.
func (s *step) stabilize(current, desired int32) verdict {
	up, down := windowOf(rules(s.HPA, true)), windowOf(rules(s.HPA, false))
	if s.HPA.Spec.Behavior == nil {
		down = downWindow
	}
	lowest, highest := desired, desired
	for _, r := range s.memory.recommendations {
		if r.at.Add(up).After(s.now) {
			lowest = min(lowest, r.replicas)
		}
		if r.at.Add(down).After(s.now) {
			highest = max(highest, r.replicas)
		}
	}
	s.memory = s.memory.remember(recommendation{s.now, desired}, max(up, down))
	out := verdict{current, "ReadyForNewScale", "recommended size matches current size"}
	if s.HPA.Spec.Behavior == nil {
		out.replicas = highest
	} else {
		out.replicas = min(max(current, lowest), highest)
	}
	switch {
	case out.replicas == desired:
	case s.HPA.Spec.Behavior != nil && desired >= current:
		out.reason, out.message = "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"
	default:
		out.reason, out.message = "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"
	}
	return out
}

// limit holds a size within the bounds and the rates that are allowed.
func (s *step) limit(current, desired int32) verdict {
	lower, upper := s.least(), s.HPA.Spec.MaxReplicas
	few := verdict{lower, "TooFewReplicas", "the desired replica count is less than the minimum replica count"}
	many := verdict{upper, "TooManyReplicas", "the desired replica count is more than the maximum replica count"}
	switch {
	case s.HPA.Spec.Behavior == nil || desired > current:
		if fastest := s.fastestUp(current); upper > fastest {
			many = verdict{fastest, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"}
		}
	case desired < current:
		if fastest := min(s.fastestDown(current), current); lower < fastest {
			few = verdict{fastest, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"}
		}
	}
	switch {
	case desired < few.replicas:
		return few
	case desired > many.replicas:
		return many
	}
	return verdict{desired, "DesiredWithinRange", "the desired count is within the acceptable range"}
}

// fastestUp is the largest size that may be reached now.
func (s *step) fastestUp(current int32) int32 {
	if s.HPA.Spec.Behavior == nil {
		return max(growthFactor*current, growthMinimum)
	}
	r := s.HPA.Spec.Behavior.ScaleUp
	if r == nil {
		return max(growthFactor*current, current+growthMinimum) // The API server fills this in; an old object may lack it.
	}
	return max(current, choose(r, current, func(p autoscalingv2.HPAScalingPolicy) int32 {
		start := current - within(s.memory.ups, p.PeriodSeconds, s.now) + within(s.memory.downs, p.PeriodSeconds, s.now)
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start + p.Value
		}
		return int32(math.Ceil(float64(start) * (1 + float64(p.Value)/100)))
	}, false))
}

// fastestDown is the smallest size that may be reached now.
func (s *step) fastestDown(current int32) int32 {
	r := rules(s.HPA, false)
	if r == nil {
		return 0
	}
	return choose(r, current, func(p autoscalingv2.HPAScalingPolicy) int32 {
		start := current + within(s.memory.downs, p.PeriodSeconds, s.now) - within(s.memory.ups, p.PeriodSeconds, s.now)
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start - p.Value
		}
		return int32(float64(start) * (1 - float64(p.Value)/100))
	}, true)
}

// choose applies the policies and picks the one that changes most, or least if that is asked.
func choose(r *autoscalingv2.HPAScalingRules, current int32, apply func(autoscalingv2.HPAScalingPolicy) int32, down bool) int32 {
	policy := autoscalingv2.MaxChangePolicySelect
	if r.SelectPolicy != nil {
		policy = *r.SelectPolicy
	}
	if policy == autoscalingv2.DisabledPolicySelect || len(r.Policies) == 0 {
		return current
	}
	best := apply(r.Policies[0])
	for _, p := range r.Policies[1:] {
		if n := apply(p); (n > best) == ((policy == autoscalingv2.MaxChangePolicySelect) != down) {
			best = n
		}
	}
	return best
}

// toleranceOf is the setting's, or 10 % either way.
func toleranceOf(hpa *autoscalingv2.HorizontalPodAutoscaler) tolerance {
	const standard = 0.1
	out := tolerance{standard, standard}
	if r := rules(hpa, true); r != nil && r.Tolerance != nil {
		out.up = r.Tolerance.AsApproximateFloat64()
	}
	if r := rules(hpa, false); r != nil && r.Tolerance != nil {
		out.down = r.Tolerance.AsApproximateFloat64()
	}
	return out
}

// isTrue is for conditions.
func isTrue(ok bool) corev1.ConditionStatus {
	if ok {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
