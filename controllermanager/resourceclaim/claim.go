package resourceclaim

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// ReconcileClaim plans what becomes of a claim. ended tells whether a pod of the claim's namespace needs its claims no longer: it has
// ended, or is gone for certain.
func ReconcileClaim(c *resourcev1.ResourceClaim, ended func(name string, uid types.UID) bool) plan.Plan {
	var p plan.Plan
	remaining := make([]resourcev1.ResourceClaimConsumerReference, 0, len(c.Status.ReservedFor))
	for _, r := range c.Status.ReservedFor {
		if !isPod(r) || !ended(r.Name, r.UID) {
			remaining = append(remaining, r)
		}
	}
	protected := slices.Contains(c.Finalizers, resourcev1.Finalizer)
	unused := len(remaining) == 0
	switch {
	// A claim without the finalizer was not allocated by the scheduler, and keeps what it has.
	case len(remaining) < len(c.Status.ReservedFor), c.DeletionTimestamp != nil && unused && protected && c.Status.Allocation != nil:
		next := c.DeepCopy()
		next.Status.ReservedFor = remaining
		if unused && protected {
			next.Status.Allocation, next.Status.Devices = nil, nil
		}
		p.Add(plan.UpdateStatus(plan.ResourceClaims, next))
	case c.DeletionTimestamp != nil && unused && protected:
		p.Add(plan.MergePatch(plan.ResourceClaims, c, owner.MetaPatch(c, map[string]any{"finalizers": without(c.Finalizers)})))
	case c.DeletionTimestamp == nil && unused:
		if pod := owningPod(c); pod != nil && ended(pod.Name, pod.UID) {
			p.Add(plan.Delete(plan.ResourceClaims, c))
		}
	}
	return p
}

// Ended tells of a pod whether it needs its claims no longer.
func Ended(pod *corev1.Pod) bool {
	return pods.Finished(pod) || pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

func isPod(r resourcev1.ResourceClaimConsumerReference) bool {
	return r.APIGroup == "" && r.Resource == "pods"
}

// owningPod returns the pod that a claim was made for.
func owningPod(c *resourcev1.ResourceClaim) *metav1.OwnerReference {
	if ref := metav1.GetControllerOfNoCopy(c); ref != nil && ref.Kind == plan.Pods.Kind && ref.APIVersion == plan.Pods.APIVersion() {
		return ref
	}
	return nil
}

func without(list []string) []string {
	out := []string{}
	for _, f := range list {
		if f != resourcev1.Finalizer {
			out = append(out, f)
		}
	}
	return out
}
