package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/patch"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
)

func (p *Pipeline) patch(ctx context.Context, h *handle, r *Request) (*Result, error) {
	if len(r.Body.Data) > codec.MaxBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", codec.MaxBody))
	}
	var sub *registry.Subresource
	if r.Subresource != "" {
		s := h.res.Subresources[r.Subresource]
		sub = &s
	}
	if err := checkPatchType(r.PatchType, h.res.Custom != nil); err != nil {
		return nil, err
	}
	if err := checkManager(r); err != nil {
		return nil, err
	}
	var warnings []string
	lost := map[string]bool{}
	res, err := p.rewrite(ctx, h, r, func(cur *current) (decision, error) {
		d, more, err := p.decidePatch(ctx, h, r, sub, cur, lost)
		warnings = more
		return d, err
	})
	if apierrors.IsNotFound(err) && r.PatchType == ApplyPatch && sub == nil {
		return p.applyNew(ctx, h, r)
	}
	if err != nil {
		return nil, err
	}
	res.Warnings = dedupe(append(res.Warnings, warnings...))
	if sub != nil {
		return p.renderSubresource(h, sub, res)
	}
	return res, nil
}

// applyNew creates the object that an apply found missing.
func (p *Pipeline) applyNew(ctx context.Context, h *handle, r *Request) (*Result, error) {
	if err := p.authorize(ctx, r, string(Create)); err != nil {
		return nil, err
	}
	obj, warnings, err := p.fields.Apply(h.res, "", nil, r.Body.Data, patch.ApplyOptions{Manager: r.FieldManager, Force: r.Force, Validation: r.FieldValidation})
	if err != nil {
		return nil, err
	}
	if obj.GetName() == "" {
		obj.SetName(r.Name)
	}
	if uid := obj.GetUID(); uid != "" {
		return nil, apierrors.NewConflict(h.gr(), r.Name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	obj.SetResourceVersion("")
	return p.createObject(ctx, h, r, obj, warnings)
}

// decideApply merges an applied configuration into the object, through the subresource if one is named.
func (p *Pipeline) decideApply(ctx context.Context, h *handle, r *Request, sub *registry.Subresource, cur *current, lost map[string]bool) (decision, []string, error) {
	obj, warnings, err := p.fields.Apply(h.res, r.Subresource, cur.obj, r.Body.Data, patch.ApplyOptions{Manager: r.FieldManager, Force: r.Force, Validation: r.FieldValidation})
	if err != nil {
		return decision{}, nil, err
	}
	if obj == cur.obj {
		return decision{keep: true}, warnings, nil
	}
	if err := patchedIdentity(h, r, obj, cur.obj); err != nil {
		return decision{}, nil, err
	}
	if sub == nil {
		d, more, err := p.decideUpdate(ctx, h, r, cur, obj, lost)
		return d, append(warnings, more...), err
	}
	body := runtime.Object(obj)
	if sub.New != nil {
		if body, err = sub.Get(obj); err != nil {
			return decision{}, nil, subresourceError(h, r.Name, err)
		}
	}
	d, err := p.decideSubresource(ctx, h, r, sub, cur, body)
	if err == nil && d.obj != nil {
		d.obj.SetManagedFields(obj.GetManagedFields())
	}
	return d, warnings, err
}

func (p *Pipeline) decidePatch(ctx context.Context, h *handle, r *Request, sub *registry.Subresource, cur *current, lost map[string]bool) (decision, []string, error) {
	if r.PatchType == ApplyPatch {
		return p.decideApply(ctx, h, r, sub, cur, lost)
	}
	var old runtime.Object = cur.obj
	kind, into := h.res.Kind, runtime.Object(h.res.New())
	if sub != nil && sub.New != nil {
		kind, into = sub.Kind, sub.New()
		if sub.Get == nil {
			return decision{}, nil, methodNotAllowed(h, r)
		}
		base := sub.Get
		if sub.Base != nil {
			base = sub.Base
		}
		view, err := base(cur.obj)
		if err != nil {
			return decision{}, nil, subresourceError(h, r.Name, err)
		}
		view.GetObjectKind().SetGroupVersionKind(kind)
		old = view
	}
	warnings, err := p.applyPatch(r, kind, old, into)
	if err != nil {
		return decision{}, nil, err
	}
	if err := patchedIdentity(h, r, into, old); err != nil {
		return decision{}, nil, err
	}
	if sub != nil {
		if own, ok := into.(registry.Object); ok && sub.New == nil && h.res.Strategy.Default != nil {
			h.res.Strategy.Default(own)
		}
		d, err := p.decideSubresource(ctx, h, r, sub, cur, into)
		return d, warnings, err
	}
	d, more, err := p.decideUpdate(ctx, h, r, cur, into.(registry.Object), lost)
	return d, append(warnings, more...), err
}

// patchedIdentity refuses patches that rename an object.
func patchedIdentity(h *handle, r *Request, obj, old runtime.Object) error {
	meta, ok := obj.(metav1.Object)
	if !ok {
		return nil
	}
	if err := matchNamespace(h, r, meta); err != nil {
		return err
	}
	return matchName(r, meta)
}

// applyPatch applies the request's patch to old's JSON and decodes the outcome into an empty object.
func (p *Pipeline) applyPatch(r *Request, kind schema.GroupVersionKind, old, into runtime.Object) ([]string, error) {
	before, err := json.Marshal(old)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	var after []byte
	switch r.PatchType {
	case JSONPatch:
		after, err = patch.JSON(before, r.Body.Data)
	case MergePatch:
		after, err = patch.Merge(before, r.Body.Data)
	case StrategicPatch:
		after, err = patch.StrategicMerge(before, r.Body.Data, into)
	}
	if err != nil {
		return nil, err
	}
	return p.codec.DecodeBody(codec.JSON, after, kind, r.FieldValidation, into)
}

// checkPatchType refuses patches in no known form. Custom objects know no strategic merge: their lists have no merge keys in
// any Go type.
func checkPatchType(t PatchType, custom bool) error {
	accepted := []string{string(JSONPatch), string(MergePatch), string(StrategicPatch), string(ApplyPatch)}
	if custom {
		accepted = slices.Delete(accepted, 2, 3)
	}
	if slices.Contains(accepted, string(t)) {
		return nil
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(accepted, ", "),
	}}
}
