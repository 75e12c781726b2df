// Package resourceclaim makes the ResourceClaims of pods from their ResourceClaimTemplates and lets claims go that nobody uses (KEP-4381).
//
// Pods: each entry of spec.resourceClaims that names a template gets a claim of its own, which the pod owns and which is noted in
// status.resourceClaimStatuses. The claim is found again by its owner and by the annotation that names the entry, so that a crash
// between the two writes makes no second claim. For a pod that was bound without the scheduler, claims that have devices are reserved.
//
// Claims: reservations of pods that have ended, or were deleted before they were bound, are taken back. With the last one goes the
// allocation, so that the devices are free for others. A claim that is being deleted loses the finalizer which the scheduler gave it
// once nothing is allocated, and one that was made for a pod is deleted when the pod has ended.
//
// The finalizer of an unallocated claim that is not being deleted is left: the scheduler may have just set it, to allocate.
package resourceclaim

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// View is what a pod's plan depends on.
type View struct {
	// Claim and Template return one of the pod's namespace, nil if there is none.
	Claim    func(name string) *resourcev1.ResourceClaim
	Template func(name string) *resourcev1.ResourceClaimTemplate
	// Owned are the claims that the pod controls.
	Owned []*resourcev1.ResourceClaim
}

// ReconcilePod plans the claims of a pod.
func ReconcilePod(pod *corev1.Pod, v View) plan.Plan {
	var p plan.Plan
	if !pods.Active(pod) {
		return p
	}
	found := map[string]string{}
	for i := range pod.Spec.ResourceClaims {
		pc := &pod.Spec.ResourceClaims[i]
		if pc.ResourceClaimTemplateName == nil || settled(pod, pc.Name, v) {
			continue
		}
		if have := made(pod, pc.Name, v.Owned); have != nil {
			found[pc.Name] = have.Name
			continue
		}
		t := v.Template(*pc.ResourceClaimTemplateName)
		if t == nil {
			p.Event(pod, corev1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: resource claim template %q: resourceclaimtemplate.resource.k8s.io %q not found",
				pc.Name, *pc.ResourceClaimTemplateName, *pc.ResourceClaimTemplateName)
			continue
		}
		p.Add(plan.Create(plan.ResourceClaims, fromTemplate(pod, pc.Name, t, v)))
	}
	if len(found) > 0 {
		p.Add(note(pod, found))
	}
	reserve(&p, pod, v)
	return p
}

// settled tells whether an entry's claim is noted, and there, or known not to be needed.
func settled(pod *corev1.Pod, entry string, v View) bool {
	for _, s := range pod.Status.ResourceClaimStatuses {
		if s.Name != entry {
			continue
		}
		if s.ResourceClaimName == nil {
			return true
		}
		c := v.Claim(*s.ResourceClaimName)
		return c != nil && metav1.IsControlledBy(c, pod)
	}
	return false
}

// made finds the claim that was made for an entry.
func made(pod *corev1.Pod, entry string, owned []*resourcev1.ResourceClaim) *resourcev1.ResourceClaim {
	var found *resourcev1.ResourceClaim
	for _, c := range owned {
		if metav1.IsControlledBy(c, pod) && c.DeletionTimestamp == nil && c.Annotations[resourcev1.PodResourceClaimAnnotation] == entry && (found == nil || c.Name < found.Name) {
			found = c
		}
	}
	return found
}

// maxBase is how much of the two names goes into a claim's, before the hyphen and five letters.
const maxBase = 57

func fromTemplate(pod *corev1.Pod, entry string, t *resourcev1.ResourceClaimTemplate, v View) *resourcev1.ResourceClaim {
	t = t.DeepCopy()
	base := pod.Name + "-" + entry
	if len(base) > maxBase { // both names stay recognizable
		base = pod.Name[:len(pod.Name)*(maxBase-1)/len(base)] + "-" + entry[:len(entry)*(maxBase-1)/len(base)]
	}
	annotations := maps.Clone(t.Spec.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[resourcev1.PodResourceClaimAnnotation] = entry
	names := owner.NewNames(base+"-", pod.UID, entry, func(name string) bool { return v.Claim(name) != nil })
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: names.Next(), Labels: t.Spec.Labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{owner.Ref(plan.Pods, pod)},
		},
		Spec: t.Spec.Spec,
	}
}

// note writes the names of claims into the pod's status, beside those that are there.
func note(pod *corev1.Pod, found map[string]string) plan.Write {
	for _, s := range pod.Status.ResourceClaimStatuses {
		if _, ok := found[s.Name]; !ok && s.ResourceClaimName != nil {
			found[s.Name] = *s.ResourceClaimName
		}
	}
	var list []map[string]any
	for _, entry := range slices.Sorted(maps.Keys(found)) {
		list = append(list, map[string]any{"name": entry, "resourceClaimName": found[entry]})
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status":   map[string]any{"resourceClaimStatuses": list},
	})
	if err != nil {
		panic("resourceclaim: plain data that cannot be encoded: " + err.Error())
	}
	w := plan.MergePatch(plan.Pods, pod, patch)
	w.Subresource = "status"
	return w
}

// reserve reserves allocated claims for a pod that was bound without the scheduler.
func reserve(p *plan.Plan, pod *corev1.Pod, v View) {
	if pod.Spec.NodeName == "" {
		return
	}
	seen := map[string]bool{}
	for i := range pod.Spec.ResourceClaims {
		name := ClaimName(pod, &pod.Spec.ResourceClaims[i])
		c := v.Claim(name)
		if name == "" || c == nil || seen[name] || c.DeletionTimestamp != nil || c.Status.Allocation == nil || reservedFor(c, pod) ||
			len(c.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize {
			continue
		}
		if pod.Spec.ResourceClaims[i].ResourceClaimTemplateName != nil && !metav1.IsControlledBy(c, pod) {
			continue
		}
		seen[name] = true
		next := c.DeepCopy()
		next.Status.ReservedFor = append(next.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
		p.Add(plan.UpdateStatus(plan.ResourceClaims, next))
	}
}

func reservedFor(c *resourcev1.ResourceClaim, pod *corev1.Pod) bool {
	return slices.ContainsFunc(c.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod.UID })
}

// ClaimName returns the claim that an entry of a pod stands for; empty if there is none yet, or none is needed.
func ClaimName(pod *corev1.Pod, pc *corev1.PodResourceClaim) string {
	if pc.ResourceClaimName != nil {
		return *pc.ResourceClaimName
	}
	for _, s := range pod.Status.ResourceClaimStatuses {
		if s.Name == pc.Name && s.ResourceClaimName != nil {
			return *s.ResourceClaimName
		}
	}
	return ""
}
