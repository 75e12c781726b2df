package statefulset

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// ordinalOf reads the number from a pod's name; false if the name is not one of the set's.
func ordinalOf(set *appsv1.StatefulSet, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, set.Name+"-")
	if !ok || digits == "" || len(digits) > 1 && digits[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	return int(n), err == nil
}

// newPod makes the pod with a number: its name is its host name, and its volumes are its own.
func newPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, ordinal int, revision string) *corev1.Pod {
	pod := pods.FromTemplate(template, plan.StatefulSets, set, podName(set, ordinal))
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.GenerateName = set.Name + "-"
	pod.Labels[appsv1.StatefulSetPodNameLabel] = pod.Name
	pod.Labels[appsv1.PodIndexLabel] = strconv.Itoa(ordinal)
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = revision
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	for _, t := range set.Spec.VolumeClaimTemplates {
		pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == t.Name })
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, t.Name, ordinal)},
		}})
	}
	return pod
}

func claimName(set *appsv1.StatefulSet, template string, ordinal int) string {
	return template + "-" + podName(set, ordinal)
}

// claimant is the name of the pod that a claim is for.
func claimant(set *appsv1.StatefulSet, claim string) string {
	for _, t := range set.Spec.VolumeClaimTemplates {
		if pod, ok := strings.CutPrefix(claim, t.Name+"-"); ok {
			if _, mine := ordinalOf(set, pod); mine {
				return pod
			}
		}
	}
	return ""
}

// claimsOf makes the claims of the pod with a number.
func claimsOf(set *appsv1.StatefulSet, ordinal int) []*corev1.PersistentVolumeClaim {
	var out []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		claim := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		claim.Name, claim.Namespace = claimName(set, claim.Name, ordinal), set.Namespace
		if claim.Labels == nil {
			claim.Labels = map[string]string{}
		}
		maps.Copy(claim.Labels, set.Spec.Selector.MatchLabels)
		claim.Status = corev1.PersistentVolumeClaimStatus{}
		if whenDeleted(set) {
			claim.OwnerReferences = []metav1.OwnerReference{claimRef(plan.StatefulSets, set)}
		}
		out = append(out, claim)
	}
	return out
}

func whenDeleted(set *appsv1.StatefulSet) bool {
	p := set.Spec.PersistentVolumeClaimRetentionPolicy
	return p != nil && p.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
}

func whenScaled(set *appsv1.StatefulSet) bool {
	p := set.Spec.PersistentVolumeClaimRetentionPolicy
	return p != nil && p.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
}

// claimRef makes a claim go with o without o controlling it.
func claimRef(k plan.Kind, o metav1.Object) metav1.OwnerReference {
	ref := owner.Ref(k, o)
	ref.Controller, ref.BlockOwnerDeletion = nil, nil
	return ref
}

// retain keeps the claims' owners as the retention policy says: a member's claims go with the set if WhenDeleted is Delete,
// and with nothing else (KEP-1847). Claims of condemned pods are handed over just before.
func (s *step) retain() {
	if s.Set.Spec.PersistentVolumeClaimRetentionPolicy == nil {
		return
	}
	for _, m := range s.members {
		var want []metav1.OwnerReference
		if whenDeleted(s.Set) {
			want = append(want, claimRef(plan.StatefulSets, s.Set))
		}
		s.own(m, want)
	}
}

// handOver makes a condemned pod's claims go with the pod if WhenScaled is Delete; true if that has to be written first.
func (s *step) handOver(m member) bool {
	var want []metav1.OwnerReference
	switch {
	case whenScaled(s.Set):
		want = append(want, claimRef(plan.Pods, m.pod))
	case whenDeleted(s.Set):
		want = append(want, claimRef(plan.StatefulSets, s.Set))
	case s.Set.Spec.PersistentVolumeClaimRetentionPolicy == nil:
		return false
	}
	return s.own(m, want)
}

// own gives the claims of a pod the wanted owners in place of the set and the pod.
func (s *step) own(m member, want []metav1.OwnerReference) (writes bool) {
	for _, t := range s.Set.Spec.VolumeClaimTemplates {
		claim := s.Claim(claimName(s.Set, t.Name, m.ordinal))
		if claim == nil {
			continue
		}
		var refs []metav1.OwnerReference
		for _, ref := range claim.OwnerReferences {
			mine := ref.UID == s.Set.UID || ref.Kind == plan.Pods.Kind && ref.Name == podName(s.Set, m.ordinal)
			if !mine {
				refs = append(refs, ref)
			}
		}
		refs = append(refs, want...)
		if !sameOwners(refs, claim.OwnerReferences) {
			s.plan.Add(plan.MergePatch(plan.PVCs, claim, owner.RefsPatch(claim, refs)))
			writes = true
		}
	}
	return writes
}

func sameOwners(a, b []metav1.OwnerReference) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x metav1.OwnerReference) bool {
		return !slices.ContainsFunc(b, func(y metav1.OwnerReference) bool { return x.UID == y.UID && x.Kind == y.Kind })
	})
}
