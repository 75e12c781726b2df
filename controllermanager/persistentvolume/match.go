package persistentvolume

import (
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// The annotations by which binder, scheduler and provisioners talk to each other; upstream's.
const (
	// BindCompleted on a claim: it has been bound once, so that a missing volume is a loss.
	BindCompleted = "pv.kubernetes.io/bind-completed"
	// BoundByController on a claim or volume: the binder chose the other side; without it a user did.
	BoundByController = "pv.kubernetes.io/bound-by-controller"
	// ProvisionedBy on a volume names the provisioner that made it.
	ProvisionedBy = "pv.kubernetes.io/provisioned-by"
	// SelectedNode on a claim: the scheduler's choice, which starts provisioning.
	SelectedNode = "volume.kubernetes.io/selected-node"
	// Provisioner and betaProvisioner on a claim name who is to make its volume.
	Provisioner     = "volume.kubernetes.io/storage-provisioner"
	betaProvisioner = "volume.beta.kubernetes.io/storage-provisioner"
	// isDefault and betaIsDefault on a class: claims without a class get it.
	isDefault     = "storageclass.kubernetes.io/is-default-class"
	betaIsDefault = "storageclass.beta.kubernetes.io/is-default-class"
)

// yes is the value of annotations whose presence is what counts.
const yes = "yes"

// ClassOf returns the name of a claim's class, by its old annotation or its field; ok is false if it names none at all, which
// is not the same as naming "".
func ClassOf(c *corev1.PersistentVolumeClaim) (name string, ok bool) {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class, true
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName, true
	}
	return "", false
}

// VolumeClass returns the name of a volume's class.
func VolumeClass(v *corev1.PersistentVolume) string {
	if class, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	return v.Spec.StorageClassName
}

// Waits reports whether claims of a class are bound only when a pod needs them.
func Waits(class *storagev1.StorageClass) bool {
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// DefaultClass returns the class for claims that name none: the one marked as the default, the youngest of several.
func DefaultClass(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for _, c := range classes {
		if c.Annotations[isDefault] != "true" && c.Annotations[betaIsDefault] != "true" || c.DeletionTimestamp != nil {
			continue
		}
		if best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp) ||
			best.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < best.Name {
			best = c
		}
	}
	return best
}

// Names reports whether a volume's claimRef means a claim. One without a uid means whichever has the name.
func Names(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	ref := v.Spec.ClaimRef
	return ref != nil && ref.Namespace == c.Namespace && ref.Name == c.Name && (ref.UID == "" || ref.UID == c.UID)
}

// Why a volume that a claim asks for by name does not do.
var (
	errTooSmall   = errors.New("requested PV is too small")
	errClass      = errors.New("storageClassName does not match")
	errMode       = errors.New("incompatible volumeMode")
	errAccess     = errors.New("incompatible accessMode")
	errAttributes = errors.New("volumeAttributesClassName does not match")
)

// satisfies returns why a volume cannot serve a claim that asks for it by name, nil if it can.
func satisfies(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) error {
	class, _ := ClassOf(c)
	switch {
	case tooSmall(v, c):
		return errTooSmall
	case VolumeClass(v) != class:
		return errClass
	case !sameAttributes(v, c):
		return errAttributes
	case !sameMode(v, c):
		return errMode
	case !accessible(v, c):
		return errAccess
	}
	return nil
}

func tooSmall(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	have, want := v.Spec.Capacity[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
	return have.Cmp(want) < 0
}

func sameMode(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	mode := func(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
		if m == nil {
			return corev1.PersistentVolumeFilesystem
		}
		return *m
	}
	return mode(v.Spec.VolumeMode) == mode(c.Spec.VolumeMode)
}

func sameAttributes(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	name := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return name(v.Spec.VolumeAttributesClassName) == name(c.Spec.VolumeAttributesClassName)
}

// accessible reports whether the volume can be accessed in every way that the claim asks for.
func accessible(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	for _, m := range c.Spec.AccessModes {
		if !slices.Contains(v.Spec.AccessModes, m) {
			return false
		}
	}
	return true
}

// match returns the volume that a claim gets, nil if there is none: one whose claimRef names the claim, else, unless only
// such will do, the smallest that satisfies it. Of equals it is the first by name, so that every view chooses alike.
func match(c *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume, onlyNamed bool) *corev1.PersistentVolume {
	selector := labels.Everything()
	if c.Spec.Selector != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(c.Spec.Selector); err != nil {
			return nil // Validation refuses such claims.
		}
	}
	var best, named *corev1.PersistentVolume
	for _, v := range volumes {
		if v.DeletionTimestamp != nil || tooSmall(v, c) || !sameMode(v, c) || !sameAttributes(v, c) {
			continue
		}
		switch {
		case Names(v, c):
			if named == nil || v.Name < named.Name {
				named = v
			}
			continue
		case onlyNamed, v.Spec.ClaimRef != nil, v.Status.Phase != corev1.VolumeAvailable, !selector.Matches(labels.Set(v.Labels)), satisfies(v, c) != nil:
			continue
		}
		if best == nil || smaller(v, best) {
			best = v
		}
	}
	if named != nil {
		return named
	}
	return best
}

func smaller(a, b *corev1.PersistentVolume) bool {
	x, y := a.Spec.Capacity[corev1.ResourceStorage], b.Spec.Capacity[corev1.ResourceStorage]
	if c := x.Cmp(y); c != 0 {
		return c < 0
	}
	return strings.Compare(a.Name, b.Name) < 0
}
