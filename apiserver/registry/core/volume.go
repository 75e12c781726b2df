package core

import (
	"path"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func volumes() *registry.Resource {
	status := registry.StatusSubresource(func(v, body *corev1.PersistentVolume) { v.Status = body.Status }, nil)
	apply := status.Apply
	status.Apply = func(old registry.Object, body runtime.Object, now time.Time) (registry.Object, error) {
		obj, err := apply(old, body, now)
		if err == nil {
			stampPhase(obj.(*corev1.PersistentVolume), old.(*corev1.PersistentVolume), now)
		}
		return obj, err
	}
	return &registry.Resource{
		Kind: kind("PersistentVolume"), Plural: "persistentvolumes", Singular: "persistentvolume",
		ShortNames: []string{"pv"},
		KeyPrefix:  "/registry/persistentvolumes/",
		New:        func() registry.Object { return &corev1.PersistentVolume{} },
		NewList:    func() runtime.Object { return &corev1.PersistentVolumeList{} },
		Strategy: registry.Strategy{
			Default: registry.On(defaultVolume),
			PrepareCreate: registry.On(func(v *corev1.PersistentVolume) {
				v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending}
				if born := v.CreationTimestamp; !born.IsZero() {
					v.Status.LastPhaseTransitionTime = &born
				}
			}),
			PrepareUpdate:  registry.OnChange(func(v, old *corev1.PersistentVolume) { v.Status = old.Status }),
			Validate:       registry.Checks(checkVolume),
			ValidateUpdate: registry.ChecksChange(checkVolumeUpdate),
			ValidateName:   dnsSubdomain,
			Warnings:       registry.Warns(volumeWarnings),

			AllowUnconditionalUpdate: true,
		},
		Columns:      volumeColumns(),
		Subresources: map[string]registry.Subresource{"status": status},
	}
}

// stampPhase notes when the phase changed, unless the writer did.
func stampPhase(v, old *corev1.PersistentVolume, now time.Time) {
	if v.Status.Phase == old.Status.Phase || !equality.Semantic.DeepEqual(v.Status.LastPhaseTransitionTime, old.Status.LastPhaseTransitionTime) {
		return
	}
	at := metav1.NewTime(now)
	v.Status.LastPhaseTransitionTime = &at
}

func defaultVolume(v *corev1.PersistentVolume) {
	if v.Status.Phase == "" {
		v.Status.Phase = corev1.VolumePending
	}
	if v.Spec.PersistentVolumeReclaimPolicy == "" {
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	}
	if v.Spec.VolumeMode == nil {
		mode := corev1.PersistentVolumeFilesystem
		v.Spec.VolumeMode = &mode
	}
	podspec.DefaultResources(v.Spec.Capacity)
	podspec.DefaultPersistentSource(&v.Spec.PersistentVolumeSource)
}

func checkVolume(e *check.Errors, v *corev1.PersistentVolume) {
	s, at := &v.Spec, field.NewPath("spec")
	checkVolumeSource(e, s, v.Name, at)
	checkCapacity(e, s.Capacity, at.Child("capacity"))
	if s.PersistentVolumeReclaimPolicy != "" {
		check.Supported(e, at.Child("persistentVolumeReclaimPolicy"), s.PersistentVolumeReclaimPolicy,
			corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)
	}
	if s.NodeAffinity != nil {
		if required := at.Child("nodeAffinity", "required"); s.NodeAffinity.Required == nil {
			e.Required(required, "must specify required node constraints")
		} else {
			podspec.ValidateNodeSelector(e, s.NodeAffinity.Required, required)
		}
	}
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		e.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'")
	}
	if s.StorageClassName != "" {
		e.Name(at.Child("storageClassName"), s.StorageClassName, dnsSubdomain)
	}
	if s.VolumeMode != nil {
		check.Supported(e, at.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	}
	checkAttributesClass(e, s, at)
}

func checkAttributesClass(e *check.Errors, s *corev1.PersistentVolumeSpec, at *field.Path) {
	class := s.VolumeAttributesClassName
	if class == nil {
		return
	}
	if *class == "" {
		e.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed")
	} else {
		e.Name(at.Child("volumeAttributesClassName"), *class, dnsSubdomain)
	}
	if s.CSI == nil {
		e.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName")
	}
}

func checkVolumeSource(e *check.Errors, s *corev1.PersistentVolumeSpec, name string, at *field.Path) {
	if len(s.AccessModes) == 0 {
		e.Required(at.Child("accessModes"), "")
	}
	podspec.ValidateAccessModes(e, s.AccessModes, at.Child("accessModes"))
	podspec.ValidatePersistentSource(e, &s.PersistentVolumeSource, name, s.NodeAffinity != nil, at)
}

// CheckInlineVolume checks a volume that stands for one without an object of its own: it has a source, and nothing that only
// objects have.
func CheckInlineVolume(e *check.Errors, s *corev1.PersistentVolumeSpec, at *field.Path) {
	const inline = "may not be specified in the context of inline volumes"
	if s.ClaimRef != nil {
		e.Forbidden(at.Child("claimRef"), inline)
	}
	if len(s.Capacity) > 0 {
		e.Forbidden(at.Child("capacity"), inline)
	}
	if s.CSI == nil {
		e.Required(at.Child("csi"), "has to be specified in the context of inline volumes")
	}
	checkVolumeSource(e, s, "", at)
	if p := s.PersistentVolumeReclaimPolicy; p != "" && p != corev1.PersistentVolumeReclaimRetain {
		e.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may only be Retain in the context of inline volumes")
	}
	if s.NodeAffinity != nil {
		e.Forbidden(at.Child("nodeAffinity"), inline)
	}
	if s.StorageClassName != "" {
		e.Forbidden(at.Child("storageClassName"), inline)
	}
	if m := s.VolumeMode; m != nil && *m != corev1.PersistentVolumeFilesystem {
		e.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than Filesystem in the context of inline volumes")
	}
	checkAttributesClass(e, s, at)
}

// checkCapacity: storage and nothing else.
func checkCapacity(e *check.Errors, capacity corev1.ResourceList, at *field.Path) {
	if len(capacity) == 0 {
		e.Required(at, "")
	}
	if _, ok := capacity[corev1.ResourceStorage]; !ok || len(capacity) > 1 {
		e.Add(field.NotSupported(at, capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for name, q := range capacity {
		if q.Value() < 0 {
			e.Invalid(at.Key(string(name)), q.Value(), "must be a valid resource quantity")
		}
		e.PositiveQuantity(at.Key(string(name)), q)
	}
}

func checkVolumeUpdate(e *check.Errors, v, old *corev1.PersistentVolume) {
	checkVolume(e, v)
	at := field.NewPath("spec")
	source, was := *v.Spec.PersistentVolumeSource.DeepCopy(), old.Spec.PersistentVolumeSource
	if source.CSI != nil && was.CSI != nil && was.CSI.ControllerExpandSecretRef == nil {
		source.CSI.ControllerExpandSecretRef = nil // It may be set once.
	}
	if !equality.Semantic.DeepEqual(source, was) {
		e.Forbidden(at.Child("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation\n"+diff.Diff(was, source))
	}
	e.Immutable(field.NewPath("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)
	if old.Spec.NodeAffinity != nil {
		e.Immutable(field.NewPath("nodeAffinity"), v.Spec.NodeAffinity, old.Spec.NodeAffinity)
	}
	if old.Spec.VolumeAttributesClassName != nil && v.Spec.VolumeAttributesClassName == nil {
		e.Forbidden(at.Child("volumeAttributesClassName"), "update from non-nil value to nil is forbidden")
	}
}

func volumeColumns() []registry.Column {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	type volume = *corev1.PersistentVolume
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("Capacity", spec["capacity"], func(v volume) string {
			size := v.Spec.Capacity[corev1.ResourceStorage]
			return size.String()
		}),
		registry.Text("Access Modes", spec["accessModes"], func(v volume) string { return accessModes(v.Spec.AccessModes) }),
		registry.Text("Reclaim Policy", spec["persistentVolumeReclaimPolicy"], func(v volume) string {
			return string(v.Spec.PersistentVolumeReclaimPolicy)
		}),
		registry.Text("Status", status["phase"], func(v volume) string {
			if v.DeletionTimestamp != nil {
				return "Terminating"
			}
			return string(v.Status.Phase)
		}),
		registry.Text("Claim", spec["claimRef"], func(v volume) string {
			if v.Spec.ClaimRef == nil {
				return ""
			}
			return v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name
		}),
		registry.Text("StorageClass", "StorageClass of the pv", func(v volume) string {
			if class, ok := v.Annotations[betaStorageClass]; ok {
				return class
			}
			return v.Spec.StorageClassName
		}),
		registry.Text("VolumeAttributesClass", "VolumeAttributesClass of the pv", func(v volume) string {
			return orElse(v.Spec.VolumeAttributesClassName, "<unset>")
		}),
		registry.Text("Reason", status["reason"], func(v volume) string { return v.Status.Reason }),
		registry.AgeColumn(),
		registry.Text("VolumeMode", spec["volumeMode"], func(v volume) string {
			return orElse((*string)(v.Spec.VolumeMode), "<unset>")
		}).Wide(),
	}
}
