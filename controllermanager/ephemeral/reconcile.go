// Package ephemeral makes the PersistentVolumeClaims of pods' ephemeral volumes (KEP-1698): claims that come and go with
// their pod, which owns them.
package ephemeral

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// ClaimName is the name of the claim of a pod's ephemeral volume.
func ClaimName(pod *corev1.Pod, v *corev1.Volume) string { return pod.Name + "-" + v.Name }

// Reconcile plans the claims of a pod. claim returns one of the pod's namespace, nil if there is none.
func Reconcile(pod *corev1.Pod, claim func(name string) *corev1.PersistentVolumeClaim) plan.Plan {
	var p plan.Plan
	if !pods.Active(pod) {
		return p
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		name := ClaimName(pod, v)
		switch have := claim(name); {
		case have == nil:
			p.Add(plan.Create(plan.PVCs, made(pod, v)))
		case !metav1.IsControlledBy(have, pod):
			p.Event(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: PVC %s/%s was not created for pod %s/%s (pod is not owner)", v.Name, have.Namespace, have.Name, pod.Namespace, pod.Name)
		}
	}
	return p
}

func made(pod *corev1.Pod, v *corev1.Volume) *corev1.PersistentVolumeClaim {
	t := v.Ephemeral.VolumeClaimTemplate
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: ClaimName(pod, v), Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations),
			OwnerReferences: []metav1.OwnerReference{owner.Ref(plan.Pods, pod)},
		},
		Spec: *t.Spec.DeepCopy(),
	}
}
