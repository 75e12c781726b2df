package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

// Evict plans the deletion of a pod that did nothing wrong; but first it says why in the pod's status, so that whoever owns it can tell
// an eviction from a failure (KEP-3329). It returns true for the plan that deletes.
func Evict(p *plan.Plan, pod *corev1.Pod, reason, message string, now time.Time) bool {
	conditions, changed := SetCondition(pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now), Reason: reason, Message: message,
	})
	if c := Condition(pod, corev1.DisruptionTarget); changed && (c == nil || c.Status != corev1.ConditionTrue) && !Finished(pod) {
		next := pod.DeepCopy()
		next.Status.Conditions = conditions
		p.Add(plan.UpdateStatus(plan.Pods, next))
		return false
	}
	p.Add(plan.Delete(plan.Pods, pod))
	return true
}
