package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

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
	var warnings []string
	lost := map[string]bool{}
	res, err := p.rewrite(ctx, h, r, func(cur *current) (decision, error) {
		d, more, err := p.decidePatch(ctx, h, r, sub, cur, lost)
		warnings = more
		return d, err
	})
	if err != nil {
		return nil, err
	}
	res.Warnings = dedupe(append(res.Warnings, warnings...))
	if sub != nil {
		return p.renderSubresource(h, sub, res)
	}
	return res, nil
}

func (p *Pipeline) decidePatch(ctx context.Context, h *handle, r *Request, sub *registry.Subresource, cur *current, lost map[string]bool) (decision, []string, error) {
	var old runtime.Object = cur.obj
	kind, into := h.res.Kind, runtime.Object(h.res.New())
	if sub != nil && sub.New != nil {
		kind, into = sub.Kind, sub.New()
		if sub.Get == nil {
			return decision{}, nil, methodNotAllowed(h, r)
		}
		view, err := sub.Get(cur.obj)
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
		after, err = applyJSONPatch(before, r.Body.Data)
	case MergePatch:
		after, err = applyMergePatch(before, r.Body.Data)
	case StrategicPatch:
		after, err = applyStrategicPatch(before, r.Body.Data, into)
	default:
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: 415, Reason: metav1.StatusReasonUnsupportedMediaType,
			Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s, %s", JSONPatch, MergePatch, StrategicPatch),
		}}
	}
	if err != nil {
		return nil, err
	}
	return p.codec.DecodeBody(codec.JSON, after, kind, r.FieldValidation, into)
}

// maxJSONPatchOperations is Kubernetes' bound on one JSON patch.
const maxJSONPatchOperations = 10_000

func applyJSONPatch(before, patch []byte) ([]byte, error) {
	ops, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if len(ops) > maxJSONPatchOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxJSONPatchOperations, len(ops)))
	}
	after, err := ops.Apply(before)
	if err != nil {
		return nil, apierrors.NewGenericServerResponse(422, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return after, nil
}

func applyMergePatch(before, patch []byte) ([]byte, error) {
	if !json.Valid(patch) || !bytes.HasPrefix(bytes.TrimSpace(patch), []byte("{")) {
		return nil, apierrors.NewBadRequest("error decoding patch: the patch is not a JSON object")
	}
	after, err := jsonpatch.MergePatch(before, patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return after, nil
}

func applyStrategicPatch(before, patch []byte, like runtime.Object) ([]byte, error) {
	after, err := strategicpatch.StrategicMergePatch(before, patch, like)
	switch {
	case err == nil:
		return after, nil
	case errors.Is(err, errPatchConflict):
		return nil, apierrors.NewConflict(schema.GroupResource{}, "", err)
	}
	return nil, apierrors.NewBadRequest(err.Error())
}

var errPatchConflict = errors.New("merge conflict")
