// Package pods answers what controllers ask about a pod. It is pure.
package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

// Condition returns a pod's condition, nil if it has none of the type.
func Condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// Ready reports whether the pod's Ready condition is True.
func Ready(p *corev1.Pod) bool {
	c := Condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// ReadySince returns when the pod became ready; ok is false if it is not.
func ReadySince(p *corev1.Pod) (at time.Time, ok bool) {
	c := Condition(p, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return time.Time{}, false
	}
	return c.LastTransitionTime.Time, true
}

// Available reports whether the pod has been ready for minReadySeconds, and if it is only a matter of time, when it
// will have been.
func Available(p *corev1.Pod, minReadySeconds int32, now time.Time) (available bool, at time.Time) {
	since, ok := ReadySince(p)
	if !ok {
		return false, time.Time{}
	}
	if minReadySeconds == 0 {
		return true, time.Time{}
	}
	if since.IsZero() {
		return false, time.Time{}
	}
	at = since.Add(time.Duration(minReadySeconds) * time.Second)
	if at.After(now) {
		return false, at
	}
	return true, time.Time{}
}

// Finished reports whether the pod has run to its end.
func Finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Active reports whether the pod counts as a replica: neither finished nor being deleted.
func Active(p *corev1.Pod) bool { return !Finished(p) && p.DeletionTimestamp == nil }

// FromTemplate returns the pod that a template describes, named name and controlled by o.
func FromTemplate(t *corev1.PodTemplateSpec, ownerKind plan.Kind, o metav1.Object, name string) *corev1.Pod {
	t = t.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.GetNamespace(), Name: name, Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{owner.Ref(ownerKind, o)},
		},
		Spec: t.Spec,
	}
}

// SetCondition returns the conditions with c in place of the one of its type. The time of the last transition stays unless
// the status changes. The second result is false if that changes nothing; the input is never modified.
func SetCondition(have []corev1.PodCondition, c corev1.PodCondition) ([]corev1.PodCondition, bool) {
	out := append([]corev1.PodCondition(nil), have...)
	for i := range out {
		if out[i].Type != c.Type {
			continue
		}
		if out[i].Status == c.Status {
			c.LastTransitionTime = out[i].LastTransitionTime
		}
		c.LastProbeTime = out[i].LastProbeTime
		if out[i] == c || (out[i].Status == c.Status && out[i].Reason == c.Reason && out[i].Message == c.Message) {
			return have, false
		}
		out[i] = c
		return out, true
	}
	return append(out, c), true
}
