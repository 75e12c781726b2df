// Package disruption computes how many pods of each PodDisruptionBudget may be evicted now.
//
// Reconcile is pure. It writes status.disruptionsAllowed, which the eviction subresource counts down; evictions that the API
// granted and that cannot be seen yet stand in status.disruptedPods, and such a pod is not counted as healthy.
package disruption

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// EvictionGrace is how long a granted eviction may take to be seen, as upstream; after it the pod counts again.
const EvictionGrace = 2 * time.Minute

// Input is what a decision is made from.
type Input struct {
	Budget *policyv1.PodDisruptionBudget
	// Pods that the budget selects.
	Pods []*corev1.Pod
	// Scale returns the uid and the desired size of what controls a pod, at the highest level that has a size. An error says
	// that there is none, which makes percentages and maxUnavailable undecidable.
	Scale func(*corev1.Pod) (uid string, size int32, err error)
}

// Reconcile plans the budget's status.
func Reconcile(in Input, now time.Time) plan.Plan {
	var p plan.Plan
	b := in.Budget
	if b.DeletionTimestamp != nil {
		return p
	}
	disrupted := stillDisrupted(&p, in, now)
	expected, desired, err := demand(in)
	if err != nil {
		p.Event(b, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		next := b.DeepCopy()
		next.Status.ObservedGeneration, next.Status.DisruptionsAllowed = b.Generation, 0
		setCondition(next, metav1.ConditionFalse, policyv1.SyncFailedReason, err.Error(), now)
		write(&p, b, next)
		return p
	}
	healthy := int32(0)
	for _, pod := range in.Pods {
		if _, going := disrupted[pod.Name]; !going && pod.DeletionTimestamp == nil && pods.Ready(pod) {
			healthy++
		}
	}
	allowed := max(0, healthy-desired)
	if expected <= 0 {
		allowed = 0
	}
	next := b.DeepCopy()
	next.Status.ObservedGeneration, next.Status.DisruptedPods = b.Generation, disrupted
	next.Status.ExpectedPods, next.Status.DesiredHealthy, next.Status.CurrentHealthy, next.Status.DisruptionsAllowed = expected, desired, healthy, allowed
	if allowed > 0 {
		setCondition(next, metav1.ConditionTrue, policyv1.SufficientPodsReason, "", now)
	} else {
		setCondition(next, metav1.ConditionFalse, policyv1.InsufficientPodsReason, "", now)
	}
	write(&p, b, next)
	return p
}

// stillDisrupted drops the evictions that can be seen, and those that did not happen.
func stillDisrupted(p *plan.Plan, in Input, now time.Time) map[string]metav1.Time {
	var out map[string]metav1.Time
	for _, pod := range in.Pods {
		at, ok := in.Budget.Status.DisruptedPods[pod.Name]
		if !ok || pod.DeletionTimestamp != nil {
			continue
		}
		end := at.Add(EvictionGrace)
		if !end.After(now) {
			p.Event(pod, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't", in.Budget.Namespace, in.Budget.Name)
			continue
		}
		if out == nil {
			out = map[string]metav1.Time{}
		}
		out[pod.Name] = at
		p.LookAgain(now, end)
	}
	return out
}

// demand returns how many pods there should be and how many of them healthy.
func demand(in Input) (expected, desired int32, err error) {
	spec := &in.Budget.Spec
	switch {
	case spec.MaxUnavailable != nil:
		if expected, err = sizes(in); err != nil {
			return 0, 0, err
		}
		missing, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(expected), true)
		return expected, max(0, expected-int32(missing)), err
	case spec.MinAvailable == nil:
		return int32(len(in.Pods)), 0, nil
	case spec.MinAvailable.Type == intstr.Int:
		return int32(len(in.Pods)), spec.MinAvailable.IntVal, nil
	}
	if expected, err = sizes(in); err != nil {
		return 0, 0, err
	}
	least, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(expected), true)
	return expected, int32(least), err
}

// sizes sums the sizes of what controls the pods, each once.
func sizes(in Input) (sum int32, err error) {
	seen := map[string]bool{}
	for _, pod := range in.Pods {
		uid, size, err := in.Scale(pod)
		if err != nil {
			return 0, err
		}
		if !seen[uid] {
			seen[uid] = true
			sum += size
		}
	}
	return sum, nil
}

func setCondition(b *policyv1.PodDisruptionBudget, status metav1.ConditionStatus, reason, message string, now time.Time) {
	c := metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: status, Reason: reason, Message: message,
		ObservedGeneration: b.Generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	for i := range b.Status.Conditions {
		if have := &b.Status.Conditions[i]; have.Type == c.Type {
			if have.Status == c.Status {
				c.LastTransitionTime = have.LastTransitionTime
			}
			*have = c
			return
		}
	}
	b.Status.Conditions = append(b.Status.Conditions, c)
}

func write(p *plan.Plan, have, next *policyv1.PodDisruptionBudget) {
	if !apiequality.Semantic.DeepEqual(have.Status, next.Status) {
		p.Add(plan.UpdateStatus(plan.PDBs, next))
	}
}

// errNoScale explains why a pod's controller has no size.
func errNoScale(kind, name string, err error) error {
	return fmt.Errorf("%s %s does not implement the scale subresource: %w", kind, name, err)
}
