package pipeline

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/patch"
	"bareboat.dev/apiserver/registry"
)

// track records in the new object's managed fields what the request changed; old is nil for a new object. An apply has
// recorded that already.
func (p *Pipeline) track(h *handle, r *Request, obj, old registry.Object) error {
	if r.Verb == Patch && r.PatchType == ApplyPatch {
		return nil
	}
	if err := p.fields.Track(h.res, r.Subresource, obj, old, patch.ManagerName(r.FieldManager, r.UserAgent)); err != nil {
		return apierrors.NewInternalError(err)
	}
	return nil
}

// checkManager holds a request's field manager to Kubernetes' rules.
func checkManager(r *Request) error {
	var errs field.ErrorList
	if r.PatchType == ApplyPatch && r.FieldManager == "" {
		errs = append(errs, field.Required(field.NewPath("fieldManager"), "is required for apply patch"))
	}
	if r.PatchType != ApplyPatch && r.Force {
		errs = append(errs, field.Forbidden(field.NewPath("force"), "may not be specified for non-apply patch"))
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}, "", errs)
}
