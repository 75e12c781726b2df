// Package persistentvolume binds claims to volumes and reclaims volumes whose claim is gone.
//
// Two pure cores do it, as two rows of dominoes that lean on each other: ReconcileClaim chooses a volume for a claim and
// writes the claim's name into the volume, then the volume's name into the claim; ReconcileVolume writes the volume's phase
// and decides what becomes of it afterwards. The volume's claimRef is what binds: it is written on condition that the volume
// is as it was seen, so that two claims cannot get one volume, and everything else follows from it after any crash.
//
// What cannot be undone is never decided from a mirror alone: that a claim or a volume is gone, which releases a volume (and with
// reclaim policy Delete its data) or declares a claim lost, counts only once the API itself has said so.
//
// Classes, annotations, phases, events and their wording are upstream's. Volumes are made and deleted by provisioners: the
// one in the box is package localpath.
package persistentvolume

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// ClaimInput is what a decision about a claim is made from.
type ClaimInput struct {
	Claim *corev1.PersistentVolumeClaim
	// Volumes are those of the claim's class and those whose claimRef has its name.
	Volumes []*corev1.PersistentVolume
	// Volume is the one that the claim names, nil if it names none or there is none.
	Volume *corev1.PersistentVolume
	// VolumeGone: the API confirms that there is no such volume.
	VolumeGone bool
	// Class returns a class, nil if there is none.
	Class func(name string) *storagev1.StorageClass
	// Classes are all of them.
	Classes []*storagev1.StorageClass
	// Pods are those that use the claim.
	Pods []*corev1.Pod
}

type claimStep struct {
	ClaimInput
	plan plan.Plan
}

// ReconcileClaim plans the next step of a claim.
func ReconcileClaim(in ClaimInput) plan.Plan {
	s := &claimStep{ClaimInput: in}
	_, completed := in.Claim.Annotations[BindCompleted]
	switch {
	case completed:
		s.bound()
	case in.Claim.DeletionTimestamp != nil:
		// Nobody will use it.
	case in.Claim.Spec.VolumeName != "":
		s.wanted()
	default:
		s.unbound()
	}
	return s.plan
}

func (s *claimStep) event(eventType, reason, format string, args ...any) {
	s.plan.Event(s.Claim, eventType, reason, format, args...)
}

// unbound looks for a volume, or for somebody who makes one.
func (s *claimStep) unbound() {
	name, named := ClassOf(s.Claim)
	class := s.Class(name)
	if v := match(s.Claim, s.Volumes, Waits(class)); v != nil {
		s.bind(v)
		return
	}
	if !named {
		if class := DefaultClass(s.Classes); class != nil {
			next := s.Claim.DeepCopy()
			next.Spec.StorageClassName = &class.Name
			s.plan.Add(plan.Update(plan.PVCs, next))
			return
		}
	}
	_, selected := s.Claim.Annotations[SelectedNode]
	switch {
	case Waits(class) && !selected:
		s.awaitConsumer()
	case name == "":
		s.event(corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	default:
		s.provision(name, class)
	}
	s.pending()
}

func (s *claimStep) awaitConsumer() {
	for _, p := range s.Pods {
		if p.Spec.NodeName == "" && pods.Active(p) {
			s.event(corev1.EventTypeNormal, "WaitForPodScheduled", "waiting for pod %s to be scheduled", p.Name)
			return
		}
	}
	s.event(corev1.EventTypeNormal, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
}

// provision asks the class's provisioner for a volume, by an annotation.
func (s *claimStep) provision(name string, class *storagev1.StorageClass) {
	switch {
	case class == nil:
		s.event(corev1.EventTypeWarning, "ProvisioningFailed", "storageclass.storage.k8s.io %q not found", name)
		return
	case strings.HasPrefix(class.Provisioner, "kubernetes.io/"):
		// The prefix is that of provisioners inside of Kubernetes, of which none is left.
		s.event(corev1.EventTypeWarning, "ProvisioningFailed", "no volume plugin matched name: %s", class.Provisioner)
		return
	}
	if s.Claim.Annotations[Provisioner] != class.Provisioner || s.Claim.Annotations[betaProvisioner] != class.Provisioner {
		next := s.Claim.DeepCopy()
		annotate(&next.Annotations, Provisioner, class.Provisioner)
		annotate(&next.Annotations, betaProvisioner, class.Provisioner)
		s.plan.Add(plan.Update(plan.PVCs, next))
	}
	s.event(corev1.EventTypeNormal, "ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner)
}

// wanted binds to the volume that the user named.
func (s *claimStep) wanted() {
	v := s.Volume
	switch {
	case v == nil:
	case v.Spec.ClaimRef == nil:
		if err := satisfies(v, s.Claim); err != nil {
			s.event(corev1.EventTypeWarning, "VolumeMismatch", "Cannot bind to requested volume %q: %s", v.Name, err)
			break
		}
		s.bind(v)
		return
	case Names(v, s.Claim):
		s.bind(v)
		return
	default:
		s.event(corev1.EventTypeWarning, "FailedBinding", "volume %q already bound to a different claim.", v.Name)
	}
	s.pending()
}

// bind takes the next of the two steps that bind: the volume points to the claim, then the claim to the volume.
func (s *claimStep) bind(v *corev1.PersistentVolume) {
	c := s.Claim
	if ref := v.Spec.ClaimRef; ref == nil || !Names(v, c) || ref.UID == "" {
		next := v.DeepCopy()
		if ref == nil {
			annotate(&next.Annotations, BoundByController, yes)
		}
		next.Spec.ClaimRef = ClaimRef(c)
		s.plan.Add(plan.Update(plan.PVs, next))
		return
	}
	next := c.DeepCopy()
	if c.Spec.VolumeName == "" {
		next.Spec.VolumeName = v.Name
		annotate(&next.Annotations, BoundByController, yes)
	}
	annotate(&next.Annotations, BindCompleted, yes)
	if !apiequality.Semantic.DeepEqual(next, c) {
		s.plan.Add(plan.Update(plan.PVCs, next))
	}
}

// ClaimRef is how a volume names its claim.
func ClaimRef(c *corev1.PersistentVolumeClaim) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: plan.PVCs.Kind, APIVersion: plan.PVCs.APIVersion(), Namespace: c.Namespace, Name: c.Name, UID: c.UID}
}

// bound keeps the status of a claim that was bound once.
func (s *claimStep) bound() {
	v := s.Volume
	switch {
	case s.Claim.Spec.VolumeName == "":
		s.lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case v == nil:
		if s.VolumeGone {
			s.lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
		}
	case v.Spec.ClaimRef == nil, Names(v, s.Claim) && v.Spec.ClaimRef.UID == "":
		s.bind(v)
	case Names(v, s.Claim):
		s.serve(v)
	default:
		s.lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
	}
}

// serve writes the status of a claim that has its volume. The capacity is the binder's to write only when the claim becomes
// bound; later it is who resizes that knows.
func (s *claimStep) serve(v *corev1.PersistentVolume) {
	next := s.Claim.DeepCopy()
	next.Status.Phase, next.Status.AccessModes = corev1.ClaimBound, v.Spec.AccessModes
	if _, known := s.Claim.Status.Capacity[corev1.ResourceStorage]; s.Claim.Status.Phase != corev1.ClaimBound || !known {
		next.Status.Capacity = v.Spec.Capacity
		next.Status.CurrentVolumeAttributesClassName = v.Spec.VolumeAttributesClassName
	}
	s.status(next)
	want, have := s.Claim.Spec.Resources.Requests[corev1.ResourceStorage], next.Status.Capacity[corev1.ResourceStorage]
	if want.Cmp(have) > 0 && v.Annotations[ProvisionedBy] == "" && v.Spec.CSI == nil {
		s.event(corev1.EventTypeWarning, "ExternalExpanding", "didn't find a plugin capable of expanding the volume; waiting for an external controller to process this PVC")
	} else if want.Cmp(have) > 0 && v.Spec.CSI != nil {
		s.event(corev1.EventTypeNormal, "ExternalExpanding", "waiting for an external controller to expand this PVC")
	}
}

func (s *claimStep) lost(reason, message string) {
	if s.Claim.Status.Phase != corev1.ClaimLost {
		s.event(corev1.EventTypeWarning, reason, "%s", message)
	}
	next := s.Claim.DeepCopy()
	next.Status.Phase, next.Status.AccessModes, next.Status.Capacity = corev1.ClaimLost, nil, nil
	s.status(next)
}

// pending writes the phase of a claim that has no volume, unless the object is written already.
func (s *claimStep) pending() {
	if len(s.plan.Writes) > 0 {
		return
	}
	next := s.Claim.DeepCopy()
	next.Status.Phase, next.Status.AccessModes, next.Status.Capacity = corev1.ClaimPending, nil, nil
	s.status(next)
}

func (s *claimStep) status(next *corev1.PersistentVolumeClaim) {
	if !apiequality.Semantic.DeepEqual(next.Status, s.Claim.Status) {
		s.plan.Add(plan.UpdateStatus(plan.PVCs, next))
	}
}

// annotate sets a value in a map that may be nil.
func annotate(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}
