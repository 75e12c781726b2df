package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// Evict decides about the pods of one node. since tells when a taint without a time was first seen.
func Evict(node *corev1.Node, on []*corev1.Pod, since func(corev1.Taint) time.Time, now time.Time) plan.Plan {
	var p plan.Plan
	var taints []corev1.Taint
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			taints = append(taints, t)
		}
	}
	if len(taints) == 0 {
		return p
	}
	for _, pod := range on {
		if pod.DeletionTimestamp != nil {
			continue
		}
		at, evicted := evictionTime(pod, taints, since)
		switch {
		case !evicted:
		case at.After(now):
			p.LookAgain(now, at)
		default:
			evict(&p, pod, now)
		}
	}
	return p
}

// evict deletes a pod because of its node's taints.
func evict(p *plan.Plan, pod *corev1.Pod, now time.Time) {
	if pods.Evict(p, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", now) {
		p.EventOf(pod, pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod.Namespace, pod.Name)
	}
}

// evictionTime returns when the pod must go; evicted is false if it may stay. It may stay with a taint as long as the
// first toleration that matches says; the soonest of all taints counts.
func evictionTime(pod *corev1.Pod, taints []corev1.Taint, since func(corev1.Taint) time.Time) (at time.Time, evicted bool) {
	for i := range taints {
		t := &taints[i]
		tol := tolerationOf(pod, t)
		if tol != nil && tol.TolerationSeconds == nil {
			continue
		}
		end := since(*t)
		if t.TimeAdded != nil {
			end = t.TimeAdded.Time
		}
		if tol == nil {
			end = time.Time{}
		} else {
			end = end.Add(time.Duration(max(0, *tol.TolerationSeconds)) * time.Second)
		}
		if !evicted || end.Before(at) {
			at, evicted = end, true
		}
	}
	return at, evicted
}

func tolerationOf(pod *corev1.Pod, t *corev1.Taint) *corev1.Toleration {
	for i := range pod.Spec.Tolerations {
		if pods.Tolerates(&pod.Spec.Tolerations[i], t) {
			return &pod.Spec.Tolerations[i]
		}
	}
	return nil
}

// Unready marks the pods of a node whose kubelet is silent as not ready; nobody else can.
func Unready(node *corev1.Node, on []*corev1.Pod, now time.Time) plan.Plan {
	var p plan.Plan
	if c := condition(node, corev1.NodeReady); c == nil || c.Status != corev1.ConditionUnknown {
		return p
	}
	for _, pod := range on {
		c := pods.Condition(pod, corev1.PodReady)
		if c == nil || c.Status != corev1.ConditionTrue || pods.Finished(pod) {
			continue
		}
		next := pod.DeepCopy()
		for i := range next.Status.Conditions {
			if next.Status.Conditions[i].Type == corev1.PodReady {
				next.Status.Conditions[i].Status = corev1.ConditionFalse
				next.Status.Conditions[i].LastTransitionTime = metav1.NewTime(now)
			}
		}
		p.Add(plan.UpdateStatus(plan.Pods, next))
		p.EventOf(next, pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return p
}
