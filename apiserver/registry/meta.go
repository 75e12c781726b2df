package registry

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CheckMeta returns what is wrong with a new object's metadata.
func (r *Resource) CheckMeta(obj Object) field.ErrorList {
	rule := r.Strategy.ValidateName
	if rule == nil {
		rule = apivalidation.NameIsDNSSubdomain
	}
	errs := apivalidation.ValidateObjectMetaAccessor(obj, r.Namespaced, rule, field.NewPath("metadata"))
	return append(errs, r.checkFinalizers(obj)...)
}

// CheckMetaChange returns what is wrong with a changed object's metadata. Its name cannot change, so the kind's rule for names is
// not asked again: what was named under an older rule can still be changed.
func (r *Resource) CheckMetaChange(obj, old Object) field.ErrorList {
	at := field.NewPath("metadata")
	errs := apivalidation.ValidateObjectMetaAccessor(obj, r.Namespaced, path.ValidatePathSegmentName, at)
	errs = append(errs, apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, at)...)
	return append(errs, r.checkFinalizers(obj)...)
}

// checkFinalizers checks that finalizers without a domain are among Kubernetes' own few.
func (r *Resource) checkFinalizers(obj Object) field.ErrorList {
	if r.Custom != nil || r.Strategy.AnyFinalizer {
		return nil
	}
	var errs field.ErrorList
	for i, name := range obj.GetFinalizers() {
		switch name {
		case string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
			continue
		}
		if !strings.Contains(name, "/") {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "finalizers").Index(i), name,
				"name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}
