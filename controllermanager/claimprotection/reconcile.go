// Package claimprotection keeps PersistentVolumeClaims that are being deleted until no pod uses them.
//
// Admission gives every claim the finalizer when it is created; Reconcile gives it to those that came without, and takes it
// from a claim that is being deleted once no pod that uses it is left which may run or still be running.
package claimprotection

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// Finalizer is upstream's.
const Finalizer = "kubernetes.io/pvc-protection"

// Reconcile plans the finalizer of a claim. users are the pods whose volumes name it.
func Reconcile(c *corev1.PersistentVolumeClaim, users []*corev1.Pod) plan.Plan {
	var p plan.Plan
	has := slices.Contains(c.Finalizers, Finalizer)
	switch {
	case c.DeletionTimestamp == nil && !has:
		p.Add(plan.MergePatch(plan.PVCs, c, owner.MetaPatch(c, map[string]any{"finalizers": append(slices.Clone(c.Finalizers), Finalizer)})))
	case c.DeletionTimestamp != nil && has && !slices.ContainsFunc(users, func(pod *corev1.Pod) bool { return Uses(pod) }):
		p.Add(plan.MergePatch(plan.PVCs, c, owner.MetaPatch(c, map[string]any{"finalizers": without(c.Finalizers)})))
	}
	return p
}

// Uses reports whether a pod that names a claim can be using it: it is bound to a node and has not ended. One that is not
// bound yet will find the claim deleted and not start.
func Uses(pod *corev1.Pod) bool { return pod.Spec.NodeName != "" && !pods.Finished(pod) }

func without(list []string) []string {
	out := []string{}
	for _, f := range list {
		if f != Finalizer {
			out = append(out, f)
		}
	}
	return out
}
