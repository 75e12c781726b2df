package storage

import (
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

const (
	minTokenSeconds  = 10 * 60
	maxTokenSeconds  = 1 << 32
	minUpdateSeconds = 10 // of the allocatable count
)

func drivers() *registry.Resource {
	return &registry.Resource{
		Kind:   storagev1.SchemeGroupVersion.WithKind("CSIDriver"),
		Plural: "csidrivers", Singular: "csidriver",
		KeyPrefix: "/registry/csidrivers/",
		New:       func() registry.Object { return &storagev1.CSIDriver{} },
		NewList:   func() runtime.Object { return &storagev1.CSIDriverList{} },
		Strategy: registry.Strategy{
			Default:  registry.On(defaultDriver),
			Validate: registry.Checks(checkDriver),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, d, old *storagev1.CSIDriver) {
				checkDriver(e, d)
				// That is what Kubernetes calls the field here.
				e.Immutable(field.NewPath("spec", "attachedRequired"), d.Spec.AttachRequired, old.Spec.AttachRequired)
				e.Immutable(field.NewPath("spec", "volumeLifecycleModes"), d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			Warnings:     registry.Warns(func(d *storagev1.CSIDriver) []string { return tokenWarnings(d, &storagev1.CSIDriver{}) }),
			ChangeWarnings: func(obj, old registry.Object) []string {
				return tokenWarnings(obj.(*storagev1.CSIDriver), old.(*storagev1.CSIDriver))
			},
			SpecChanged: registry.Differs(func(d, old *storagev1.CSIDriver) bool {
				return !equality.Semantic.DeepEqual(d.Spec, old.Spec)
			}),
		},
		Columns: driverColumns(),
	}
}

// tokenWarnings are about tokens that a driver is handed among the attributes of volumes, which drivers log.
func tokenWarnings(d, old *storagev1.CSIDriver) []string {
	if len(d.Spec.TokenRequests) == 0 || d.Spec.ServiceAccountTokenInSecrets != nil ||
		equality.Semantic.DeepEqual(d.Spec.TokenRequests, old.Spec.TokenRequests) {
		return nil
	}
	return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, " +
		"set to true to prevent possible logging of tokens in volume attributes"}
}

func defaultDriver(d *storagev1.CSIDriver) {
	s := &d.Spec
	setIfNil(&s.AttachRequired, true)
	setIfNil(&s.PodInfoOnMount, false)
	setIfNil(&s.StorageCapacity, false)
	setIfNil(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	setIfNil(&s.RequiresRepublish, false)
	setIfNil(&s.SELinuxMount, false)
	setIfNil(&s.PreventPodSchedulingIfMissing, false)
}

func checkDriver(e *check.Errors, d *storagev1.CSIDriver) {
	s, at := &d.Spec, field.NewPath("spec")
	if p := s.FSGroupPolicy; p != nil {
		check.Supported(e, at.Child("fsGroupPolicy"), *p,
			storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	}
	checkTokens(e, s.TokenRequests, at.Child("tokenRequests"))
	for _, mode := range s.VolumeLifecycleModes {
		check.Supported(e, at.Child("volumeLifecycleModes"), mode, storagev1.VolumeLifecycleEphemeral, storagev1.VolumeLifecyclePersistent)
	}
	if p := s.NodeAllocatableUpdatePeriodSeconds; p != nil && *p < minUpdateSeconds {
		e.Invalid(at.Child("nodeAllocatableUpdatePeriodSeconds"), *p, "must be greater than or equal to 10 seconds")
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		e.Invalid(at.Child("serviceAccountTokenInSecrets"), *s.ServiceAccountTokenInSecrets, "serviceAccountTokenInSecrets is set but no tokenRequests are specified")
	}
}

// checkTokens: the audiences differ, so at most one is the API server's own.
func checkTokens(e *check.Errors, requests []storagev1.TokenRequest, at *field.Path) {
	seen := map[string]bool{}
	for i, r := range requests {
		here := at.Index(i)
		if seen[r.Audience] {
			e.Duplicate(here.Child("audience"), r.Audience)
			continue
		}
		seen[r.Audience] = true
		if s := r.ExpirationSeconds; s != nil && *s < minTokenSeconds {
			e.Invalid(here.Child("expirationSeconds"), *s, "may not specify a duration less than 10 minutes")
		} else if s != nil && *s > maxTokenSeconds {
			e.Invalid(here.Child("expirationSeconds"), *s, "may not specify a duration larger than 2^32 seconds")
		}
	}
}

func driverColumns() []registry.Column {
	type driver = *storagev1.CSIDriver
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	is := func(b *bool, unset bool) bool {
		if b == nil {
			return unset
		}
		return *b
	}
	return []registry.Column{
		registry.NameColumn(),
		registry.Truth("AttachRequired", doc["attachRequired"], func(d driver) bool { return is(d.Spec.AttachRequired, true) }),
		registry.Truth("PodInfoOnMount", doc["podInfoOnMount"], func(d driver) bool { return is(d.Spec.PodInfoOnMount, false) }),
		registry.Truth("StorageCapacity", doc["storageCapacity"], func(d driver) bool { return is(d.Spec.StorageCapacity, false) }),
		registry.Text("TokenRequests", doc["tokenRequests"], func(d driver) string {
			if d.Spec.TokenRequests == nil {
				return "<unset>"
			}
			var audiences []string
			for _, r := range d.Spec.TokenRequests {
				audiences = append(audiences, r.Audience)
			}
			return strings.Join(audiences, ",")
		}),
		registry.Truth("RequiresRepublish", doc["requiresRepublish"], func(d driver) bool { return is(d.Spec.RequiresRepublish, false) }),
		registry.Text("Modes", doc["volumeLifecycleModes"], func(d driver) string {
			var modes []string
			for _, m := range d.Spec.VolumeLifecycleModes {
				modes = append(modes, string(m))
			}
			return registry.OrNone(strings.Join(modes, ","))
		}),
		registry.AgeColumn(),
	}
}
