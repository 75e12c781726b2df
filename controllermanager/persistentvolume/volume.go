package persistentvolume

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"bareboat.dev/controllermanager/plan"
)

// VolumeInput is what a decision about a volume is made from.
type VolumeInput struct {
	Volume *corev1.PersistentVolume
	// Claim is the one that the volume names, by namespace, name and uid; nil if there is none.
	Claim *corev1.PersistentVolumeClaim
	// ClaimGone: the API confirms that there is no such claim.
	ClaimGone bool
}

type volumeStep struct {
	VolumeInput
	plan plan.Plan
}

// ReconcileVolume plans the next step of a volume.
func ReconcileVolume(in VolumeInput) plan.Plan {
	s := &volumeStep{VolumeInput: in}
	ref := in.Volume.Spec.ClaimRef
	switch {
	case ref == nil || ref.UID == "":
		s.phase(corev1.VolumeAvailable, "")
	case in.Claim == nil:
		if in.ClaimGone {
			s.released()
		}
	case in.Claim.Spec.VolumeName == "":
		s.binding()
	case in.Claim.Spec.VolumeName == in.Volume.Name:
		s.phase(corev1.VolumeBound, "")
	default:
		s.elsewhere()
	}
	return s.plan
}

// binding: the volume points to a claim that does not point back yet. The claim's own step does that, if it can.
func (s *volumeStep) binding() {
	if !sameMode(s.Volume, s.Claim) {
		const format = "Cannot bind %s to requested %s %q due to incompatible volumeMode."
		s.plan.Event(s.Volume, corev1.EventTypeWarning, "VolumeMismatch", format, "PersistentVolume", "PersistentVolumeClaim", s.Claim.Name)
		s.plan.Event(s.Claim, corev1.EventTypeWarning, "VolumeMismatch", format, "PersistentVolumeClaim", "PersistentVolume", s.Volume.Name)
	}
}

// elsewhere: the claim has another volume. One that was made for it is of no use to anybody; another becomes free again.
func (s *volumeStep) elsewhere() {
	v := s.Volume
	if v.Annotations[ProvisionedBy] != "" && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		s.released()
		return
	}
	next := v.DeepCopy()
	if _, ours := v.Annotations[BoundByController]; ours {
		next.Spec.ClaimRef = nil
		delete(next.Annotations, BoundByController)
	} else {
		next.Spec.ClaimRef.UID = "" // The user named the claim; a later one of that name may have it.
	}
	s.plan.Add(plan.Update(plan.PVs, next))
}

// released: nobody has a right to the volume any more. What becomes of it is its reclaim policy's to say: to be kept for an
// administrator, or to be deleted by the provisioner that made it, which looks for this phase.
func (s *volumeStep) released() {
	v := s.Volume
	provisioned := v.Annotations[ProvisionedBy] != "" || v.Spec.CSI != nil
	switch policy := v.Spec.PersistentVolumeReclaimPolicy; {
	case policy == corev1.PersistentVolumeReclaimRecycle:
		s.fail("VolumeFailedRecycle", "No recycler plugin found for the volume!")
	case policy == corev1.PersistentVolumeReclaimDelete && !provisioned && v.DeletionTimestamp == nil:
		s.fail("VolumeFailedDelete", "Error getting deleter volume plugin for volume \""+v.Name+"\": no deletable volume plugin matched")
	default:
		s.phase(corev1.VolumeReleased, "")
	}
}

func (s *volumeStep) fail(reason, message string) {
	if s.Volume.Status.Phase != corev1.VolumeFailed {
		s.plan.Event(s.Volume, corev1.EventTypeWarning, reason, "%s", message)
	}
	s.phase(corev1.VolumeFailed, message)
}

func (s *volumeStep) phase(p corev1.PersistentVolumePhase, message string) {
	if p == corev1.VolumeReleased && s.Volume.Status.Phase == corev1.VolumeFailed {
		return // An administrator has to look at it; the policy may have been changed for that.
	}
	next := s.Volume.DeepCopy()
	next.Status.Phase, next.Status.Message, next.Status.Reason = p, message, ""
	if !apiequality.Semantic.DeepEqual(next.Status, s.Volume.Status) {
		s.plan.Add(plan.UpdateStatus(plan.PVs, next))
	}
}
