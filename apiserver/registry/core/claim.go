package core

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// betaStorageClass is the annotation that named a claim's class before the field did.
const betaStorageClass = corev1.BetaStorageClassAnnotation

func claims() *registry.Resource {
	return &registry.Resource{
		Kind: kind("PersistentVolumeClaim"), Plural: "persistentvolumeclaims", Singular: "persistentvolumeclaim",
		ShortNames: []string{"pvc"},
		Namespaced: true, KeyPrefix: "/registry/persistentvolumeclaims/",
		New:     func() registry.Object { return &corev1.PersistentVolumeClaim{} },
		NewList: func() runtime.Object { return &corev1.PersistentVolumeClaimList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(c *corev1.PersistentVolumeClaim) {
				if c.Status.Phase == "" {
					c.Status.Phase = corev1.ClaimPending
				}
				podspec.DefaultClaimSpec(&c.Spec)
			}),
			PrepareCreate: registry.On(func(c *corev1.PersistentVolumeClaim) {
				c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
				settleSources(&c.Spec, nil)
			}),
			PrepareUpdate: registry.OnChange(func(c, old *corev1.PersistentVolumeClaim) {
				c.Status = old.Status
				settleSources(&c.Spec, &old.Spec)
			}),
			Validate: registry.Checks(func(e *check.Errors, c *corev1.PersistentVolumeClaim) {
				podspec.ValidateClaimSpec(e, &c.Spec, field.NewPath("spec"))
			}),
			ValidateUpdate: registry.ChecksChange(checkClaimUpdate),
			ValidateName:   dnsSubdomain,
			Warnings:       registry.Warns(claimWarnings),

			AllowUnconditionalUpdate: true,
		},
		Columns: claimColumns(),
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(
				func(c, body *corev1.PersistentVolumeClaim) {
					c.Status = body.Status
					c.Status.HealthStatus = nil // CSIVolumeHealth is off by default in Kubernetes 1.37
				},
				func(e *check.Errors, c, _ *corev1.PersistentVolumeClaim) {
					checkClaimStatus(e, &c.Status, field.NewPath("status"))
				}),
		},
	}
}

// classicSource reports what dataSource could name before dataSourceRef came: another claim or a snapshot.
func classicSource(s *corev1.TypedLocalObjectReference) bool {
	group := ""
	if s.APIGroup != nil {
		group = *s.APIGroup
	}
	return group == "" && s.Kind == "PersistentVolumeClaim" || group == "snapshot.storage.k8s.io" && s.Kind == "VolumeSnapshot"
}

// settleSources drops a dataSource that an old client may have sent for nothing: of a kind that the field never took, with no
// dataSourceRef to say that it is meant. A dataSourceRef into another namespace is dropped too (CrossNamespaceVolumeDataSource,
// off by default). old is nil on creation; what was there before stays.
func settleSources(s, old *corev1.PersistentVolumeClaimSpec) {
	if ref := s.DataSourceRef; ref != nil && orElse(ref.Namespace, "") != "" && (old == nil || old.DataSourceRef == nil) {
		s.DataSourceRef = nil
	}
	had := old != nil && (old.DataSource != nil || old.DataSourceRef != nil)
	if from := s.DataSource; !had && from != nil && s.DataSourceRef == nil && !classicSource(from) {
		s.DataSource = nil
	}
	pairSources(s)
}

// pairSources makes dataSource and dataSourceRef say the same where only one of them is set and the other could say it.
func pairSources(s *corev1.PersistentVolumeClaimSpec) {
	from, ref := s.DataSource, s.DataSourceRef
	switch {
	case from != nil && ref == nil:
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: from.APIGroup, Kind: from.Kind, Name: from.Name}
	case from == nil && ref != nil && (ref.Namespace == nil || *ref.Namespace == ""):
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

// checkClaimUpdate: a claim stays what was asked for, but for its size and attributes, and for what the binder fills in.
func checkClaimUpdate(e *check.Errors, c, old *corev1.PersistentVolumeClaim) {
	at := field.NewPath("spec")
	podspec.ValidateClaimSpec(e, &c.Spec, at)

	is, was := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	pairSources(was) // As it would be stored today.
	if was.VolumeName == "" {
		was.VolumeName = is.VolumeName
	}
	checkClassKept(e, c, old, is, was)
	if c.Status.Phase == corev1.ClaimBound && is.Resources.Requests != nil {
		is.Resources.Requests[corev1.ResourceStorage] = was.Resources.Requests[corev1.ResourceStorage]
	}
	if c.Status.Phase == corev1.ClaimBound {
		is.VolumeAttributesClassName = was.VolumeAttributesClassName
	}
	if !equality.Semantic.DeepEqual(*is, *was) {
		e.Forbidden(at, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"+
			diff.Diff(*was, *is))
	}

	storage := func(list corev1.ResourceList) resource.Quantity { return list[corev1.ResourceStorage] }
	size, before, have := storage(c.Spec.Resources.Requests), storage(old.Spec.Resources.Requests), storage(old.Status.Capacity)
	if size.Cmp(before) < 0 && size.Cmp(have) <= 0 {
		e.Forbidden(at.Child("resources", "requests", "storage"), "field can not be less than status.capacity")
	}
	e.Immutable(field.NewPath("volumeMode"), c.Spec.VolumeMode, old.Spec.VolumeMode)

	// A class that has been applied can be exchanged and not taken away.
	now := c.Spec.VolumeAttributesClassName
	if equality.Semantic.DeepEqual(now, old.Spec.VolumeAttributesClassName) || old.Status.CurrentVolumeAttributesClassName == nil {
		return
	}
	const applied = " is forbidden when status.currentVolumeAttributesClassName is not nil"
	switch {
	case now == nil:
		e.Forbidden(at.Child("volumeAttributesClassName"), "update to nil"+applied)
	case *now == "":
		e.Forbidden(at.Child("volumeAttributesClassName"), "update to empty string"+applied)
	}
}

// checkClassKept lets a claim without a class get one: the one that its annotation names, or any if that names none. It
// changes the copies is and was so that they compare equal where the change is fine.
func checkClassKept(e *check.Errors, c, old *corev1.PersistentVolumeClaim, is, was *corev1.PersistentVolumeClaimSpec) {
	annotated, hadAnnotation := old.Annotations[betaStorageClass]
	nowAnnotated, hasAnnotation := c.Annotations[betaStorageClass]
	gets := old.Spec.StorageClassName == nil && c.Spec.StorageClassName != nil
	if gets && hadAnnotation && *c.Spec.StorageClassName == annotated && (!hasAnnotation || nowAnnotated == annotated) {
		is.StorageClassName = nil
		return
	}
	if nowAnnotated != annotated {
		e.Invalid(field.NewPath("metadata", "annotations").Key(betaStorageClass), nowAnnotated, "field is immutable")
	}
	if gets && (!hadAnnotation || *c.Spec.StorageClassName == annotated) {
		is.StorageClassName = was.StorageClassName
	}
}

func checkClaimStatus(e *check.Errors, s *corev1.PersistentVolumeClaimStatus, at *field.Path) {
	amount := func(q resource.Quantity, at *field.Path) {
		if q.Value() < 0 {
			e.Invalid(at, q.Value(), "must be a valid resource quantity")
		}
	}
	for name, q := range s.Capacity {
		amount(q, at.Child("capacity").Key(string(name)))
	}
	// A claim has storage, and what others define in a domain of their own.
	known := func(name corev1.ResourceName, at *field.Path) bool {
		if wrong := validation.IsQualifiedName(string(name)); len(wrong) > 0 {
			e.Each(at, string(name), wrong)
			return false
		}
		domain, _, prefixed := strings.Cut(string(name), "/")
		if native := !prefixed || domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io"); native && name != corev1.ResourceStorage {
			e.Add(field.NotSupported(at, string(name), []corev1.ResourceName{corev1.ResourceStorage}))
			return false
		}
		return true
	}
	states := []corev1.ClaimResourceStatus{
		corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
		corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible, corev1.PersistentVolumeClaimNodeResizePending,
	}
	for name, state := range s.AllocatedResourceStatuses {
		here := at.Child("allocatedResourceStatuses")
		known(name, here)
		if !slices.Contains(states, state) {
			e.Add(field.NotSupported(here, name, states))
		}
	}
	for name, q := range s.AllocatedResources {
		if known(name, at.Child("allocatedResources")) {
			amount(q, at.Child("allocatedResources").Key(string(name)))
		}
	}
}

func claimColumns() []registry.Column {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	type claim = *corev1.PersistentVolumeClaim
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("Status", status["phase"], func(c claim) string {
			if c.DeletionTimestamp != nil {
				return "Terminating"
			}
			return string(c.Status.Phase)
		}),
		registry.Text("Volume", spec["volumeName"], func(c claim) string { return c.Spec.VolumeName }),
		registry.Text("Capacity", status["capacity"], func(c claim) string {
			if c.Spec.VolumeName == "" {
				return ""
			}
			size := c.Status.Capacity[corev1.ResourceStorage]
			return size.String()
		}),
		registry.Text("Access Modes", status["accessModes"], func(c claim) string {
			if c.Spec.VolumeName == "" {
				return ""
			}
			return accessModes(c.Status.AccessModes)
		}),
		registry.Text("StorageClass", "StorageClass of the pvc", func(c claim) string {
			if class, ok := c.Annotations[betaStorageClass]; ok {
				return class
			}
			return orElse(c.Spec.StorageClassName, "")
		}),
		registry.Text("VolumeAttributesClass", "VolumeAttributesClass of the pvc", func(c claim) string {
			return orElse(c.Spec.VolumeAttributesClassName, "<unset>")
		}),
		registry.AgeColumn(),
		registry.Text("VolumeMode", spec["volumeMode"], func(c claim) string {
			return orElse((*string)(c.Spec.VolumeMode), "<unset>")
		}).Wide(),
	}
}

func orElse(s *string, otherwise string) string {
	if s == nil {
		return otherwise
	}
	return *s
}

// accessModes abbreviates modes, in their own order whatever the object's is.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var short []string
	for _, m := range []struct {
		mode corev1.PersistentVolumeAccessMode
		name string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	} {
		if slices.Contains(modes, m.mode) {
			short = append(short, m.name)
		}
	}
	return strings.Join(short, ",")
}
