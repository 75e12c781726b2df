package admission

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
)

// The finalizers that keep claims while pods use them, and volumes while claims do; the controllers of their names take them off.
const (
	claimProtection  = "kubernetes.io/pvc-protection"
	volumeProtection = "kubernetes.io/pv-protection"
)

// StorageObjectInUseProtection gives new claims and volumes the finalizers that hold them while they are used.
func StorageObjectInUseProtection() Plugin {
	return Plugin{Name: "StorageObjectInUseProtection", Mutate: func(_ context.Context, a *Attributes) error {
		if a.Operation != Create || a.Subresource != "" {
			return nil
		}
		switch obj := a.Object.(type) {
		case *corev1.PersistentVolumeClaim:
			finalize(obj, claimProtection)
		case *corev1.PersistentVolume:
			finalize(obj, volumeProtection)
		}
		return nil
	}}
}

func finalize(obj metav1.Object, finalizer string) {
	if have := obj.GetFinalizers(); !slices.Contains(have, finalizer) {
		obj.SetFinalizers(append(have, finalizer))
	}
}

// DefaultStorageClass gives claims that name no class, not even the empty one, the class that is marked as the default.
func DefaultStorageClass(reader Reader) Plugin {
	return Plugin{Name: "DefaultStorageClass", Obeys: obeys(storagev1.GroupName, "storageclasses"), Mutate: func(ctx context.Context, a *Attributes) error {
		claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
		if !ok || a.Operation != Create || a.Subresource != "" || claim.Spec.StorageClassName != nil {
			return nil
		}
		if _, named := claim.Annotations[corev1.BetaStorageClassAnnotation]; named {
			return nil
		}
		class, err := markedDefault(ctx, reader, storagev1.GroupName, "storageclasses", "storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
		if err != nil || class == nil {
			return err
		}
		name := class.GetName()
		claim.Spec.StorageClassName = &name
		return nil
	}}
}

// markedDefault returns the object that one of the annotations marks; of several the newest, and of those the first by name.
func markedDefault(ctx context.Context, reader Reader, group, plural string, annotations ...string) (registry.Object, error) {
	if all, ok := reader.Collection(group, plural); !ok || all.Empty() {
		return nil, nil
	}
	objects, err := reader.Objects(ctx, group, plural, "")
	if err != nil {
		return nil, err
	}
	var best registry.Object
	for _, obj := range objects {
		marked := slices.ContainsFunc(annotations, func(key string) bool { return obj.GetAnnotations()[key] == "true" })
		if marked && (best == nil || newer(obj, best)) {
			best = obj
		}
	}
	return best, nil
}

func newer(a, b metav1.Object) bool {
	x, y := a.GetCreationTimestamp().Time, b.GetCreationTimestamp().Time
	return x.After(y) || x.Equal(y) && a.GetName() < b.GetName()
}

var (
	errUnbound   = errors.New("Only bound persistent volume claims can be expanded")
	errNoGrowing = errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
)

// PersistentVolumeClaimResize refuses to let claims grow that are not bound or whose class does not allow it.
func PersistentVolumeClaimResize(reader Reader) Plugin {
	return Plugin{Name: "PersistentVolumeClaimResize", Obeys: obeys(storagev1.GroupName, "storageclasses"), Validate: func(ctx context.Context, a *Attributes) error {
		claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
		old, okOld := a.Old.(*corev1.PersistentVolumeClaim)
		if !ok || !okOld || a.Operation != Update || a.Subresource != "" {
			return nil
		}
		is, was := claim.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
		if is.Cmp(was) <= 0 {
			return nil
		}
		if old.Status.Phase != corev1.ClaimBound {
			return apierrors.NewForbidden(resource(a), claim.Name, errUnbound)
		}
		allowed, err := growing(ctx, reader, claim)
		if err == nil && !allowed {
			err = apierrors.NewForbidden(resource(a), claim.Name, errNoGrowing)
		}
		return err
	}}
}

func growing(ctx context.Context, reader Reader, claim *corev1.PersistentVolumeClaim) (bool, error) {
	class := claim.Annotations[corev1.BetaStorageClassAnnotation]
	if class == "" && claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
	}
	if class == "" {
		return false, nil
	}
	obj, ok, err := reader.Object(ctx, storagev1.GroupName, "storageclasses", "", class, false)
	if err == nil && !ok {
		obj, ok, err = reader.Object(ctx, storagev1.GroupName, "storageclasses", "", class, true)
	}
	if err != nil || !ok {
		return false, err
	}
	allow := obj.(*storagev1.StorageClass).AllowVolumeExpansion
	return allow != nil && *allow, nil
}
