// Package volumeprotection keeps PersistentVolumes that are being deleted until no claim is bound to them.
//
// Admission gives every volume the finalizer when it is created; Reconcile gives it to those that came without, and takes it
// from a volume that is being deleted and not bound.
package volumeprotection

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

// Finalizer is upstream's.
const Finalizer = "kubernetes.io/pv-protection"

// Reconcile plans the finalizer of a volume.
func Reconcile(v *corev1.PersistentVolume) plan.Plan {
	var p plan.Plan
	has := slices.Contains(v.Finalizers, Finalizer)
	switch {
	case v.DeletionTimestamp == nil && !has:
		p.Add(plan.MergePatch(plan.PVs, v, owner.MetaPatch(v, map[string]any{"finalizers": append(slices.Clone(v.Finalizers), Finalizer)})))
	case v.DeletionTimestamp != nil && has && v.Status.Phase != corev1.VolumeBound:
		keep := []string{}
		for _, f := range v.Finalizers {
			if f != Finalizer {
				keep = append(keep, f)
			}
		}
		p.Add(plan.MergePatch(plan.PVs, v, owner.MetaPatch(v, map[string]any{"finalizers": keep})))
	}
	return p
}
