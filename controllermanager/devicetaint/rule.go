package devicetaint

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

// statusPeriod is how long a rule's status stays as it is at least: a rule that empties a thousand devices costs a write in ten
// seconds, not a thousand.
const statusPeriod = 10 * time.Second

// Devices counts what a rule selects.
type Devices struct{ Published, Allocated int }

// ReconcileRule plans a rule's condition: how many pods wait for their eviction, or with no effect would.
func ReconcileRule(rule *resourcev1.DeviceTaintRule, all []*corev1.Pod, v View, devices func() Devices, now time.Time) plan.Plan {
	var p plan.Plan
	have := meta.FindStatusCondition(rule.Status.Conditions, resourcev1.DeviceTaintConditionEvictionInProgress)
	if have != nil && have.ObservedGeneration == rule.Generation {
		if rule.Spec.Taint.Effect == resourcev1.DeviceTaintEffectNone {
			return p // it is told once
		}
		if next := have.LastTransitionTime.Add(statusPeriod); next.After(now) {
			p.LookAgain(now, next)
			return p
		}
	}
	waiting := v.waiting(rule, all)
	c := metav1.Condition{
		Type: resourcev1.DeviceTaintConditionEvictionInProgress, Status: metav1.ConditionFalse, ObservedGeneration: rule.Generation,
		LastTransitionTime: metav1.NewTime(now),
	}
	switch rule.Spec.Taint.Effect {
	case resourcev1.DeviceTaintEffectNoExecute:
		evicting(&c, have, waiting)
	case resourcev1.DeviceTaintEffectNone:
		c.Reason, c.Message = "NoEffect", simulated(waiting, devices())
	default:
		c.Reason, c.Message = "OtherEffect", "Eviction only happens for the NoExecute effect."
	}
	if have != nil && have.Status == c.Status && have.Reason == c.Reason && have.Message == c.Message && have.ObservedGeneration == c.ObservedGeneration {
		return p
	}
	next := rule.DeepCopy()
	meta.RemoveStatusCondition(&next.Status.Conditions, c.Type) // so that a changed message has its time
	next.Status.Conditions = append(next.Status.Conditions, c)
	p.Add(plan.UpdateStatus(plan.DeviceTaintRules, next))
	return p
}

// queue is how many pods must go, in how many namespaces.
type queue struct{ pods, namespaces int }

func (v View) waiting(rule *resourcev1.DeviceTaintRule, all []*corev1.Pod) queue {
	var q queue
	if e := rule.Spec.Taint.Effect; e != resourcev1.DeviceTaintEffectNoExecute && e != resourcev1.DeviceTaintEffectNone {
		return q
	}
	namespaces := map[string]bool{}
	for _, pod := range all {
		if _, must := v.evictionTime(pod, rule); must {
			q.pods++
			namespaces[pod.Namespace] = true
		}
	}
	q.namespaces = len(namespaces)
	return q
}

// evicting says how far an eviction is. Whether it has ended or not begun is known from what was said before.
func evicting(c *metav1.Condition, have *metav1.Condition, q queue) {
	switch {
	case q.pods > 0:
		c.Status, c.Reason = metav1.ConditionTrue, "PodsPendingEviction"
		c.Message = fmt.Sprintf("%s to be evicted in %s.", count(q.pods, "pod needs", "pods need"), count(q.namespaces, "namespace", "different namespaces"))
	case have != nil && (have.Status == metav1.ConditionTrue || have.Reason == "Completed"):
		c.Reason = "Completed"
	default:
		c.Reason = "NotStarted"
	}
}

func simulated(q queue, d Devices) string {
	return fmt.Sprintf("%s selected. %s selected. %s would be evicted in %s if the effect was NoExecute. "+
		"This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.",
		count(d.Published, "published device", "published devices"), count(d.Allocated, "allocated device", "allocated devices"),
		count(q.pods, "pod", "pods"), count(q.namespaces, "namespace", "different namespaces"))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
