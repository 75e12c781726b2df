package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
)

func (p *Pipeline) update(ctx context.Context, h *handle, r *Request) (*Result, error) {
	if r.Subresource != "" {
		return p.updateSubresource(ctx, h, r)
	}
	body := h.res.New()
	warnings, err := p.decode(r, h.res.Kind, body)
	if err != nil {
		return nil, err
	}
	if err := matchNamespace(h, r, body); err != nil {
		return nil, err
	}
	if err := matchName(r, body); err != nil {
		return nil, err
	}
	lost := map[string]bool{}
	res, err := p.rewrite(ctx, h, r, func(cur *current) (decision, error) {
		d, more, err := p.decideUpdate(ctx, h, r, cur, body.DeepCopyObject().(registry.Object), lost)
		warnings = append(warnings[:len(warnings):len(warnings)], more...)
		return d, err
	})
	if apierrors.IsNotFound(err) && h.res.Strategy.AllowCreateOnUpdate && body.GetUID() == "" {
		if err := p.authorize(ctx, r, string(Create)); err != nil {
			return nil, err
		}
		body.SetResourceVersion("")
		return p.createObject(ctx, h, r, body, warnings)
	}
	if err != nil {
		return nil, err
	}
	res.Warnings = dedupe(append(res.Warnings, warnings...))
	return res, nil
}

func matchName(r *Request, obj metav1.Object) error {
	switch obj.GetName() {
	case r.Name:
		return nil
	case "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", r.Name))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), r.Name))
}

// dedupe removes repeated warnings: a decision that is made again warns again.
func dedupe(warnings []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, w := range warnings {
		if !seen[w] {
			seen[w] = true
			out = append(out, w)
		}
	}
	return out
}

// decideUpdate runs the chain for a change of the whole object; obj is the caller's to modify.
func (p *Pipeline) decideUpdate(ctx context.Context, h *handle, r *Request, cur *current, obj registry.Object, lost map[string]bool) (decision, []string, error) {
	s := &h.res.Strategy
	if err := p.checkVersion(h, r.Name, obj, cur, s.AllowUnconditionalUpdate); err != nil {
		return decision{}, nil, err
	}
	if s.Default != nil {
		s.Default(obj)
	}
	carryMeta(obj, cur.obj)
	if err := p.track(h, r, obj, cur.obj); err != nil {
		return decision{}, nil, err
	}
	a := h.attributes(r, admission.Update, obj, cur.obj)
	if err := p.mutate(ctx, a); err != nil {
		return decision{}, nil, err
	}
	if s.PrepareUpdate != nil {
		s.PrepareUpdate(obj, cur.obj)
	}
	asked := p.askedClaims(h, obj)
	if s.Allocate != nil {
		pick := p.picker(ctx, lost)
		errs := s.Allocate(obj, cur.obj, pick)
		if pick.err != nil {
			return decision{}, nil, pick.err
		}
		if err := h.invalid(r.Name, errs); err != nil {
			return decision{}, nil, err
		}
	}
	if s.SpecChanged != nil && s.SpecChanged(obj, cur.obj) {
		obj.SetGeneration(cur.obj.GetGeneration() + 1)
	}
	errs := h.res.CheckMetaChange(obj, cur.obj)
	if s.ValidateUpdate != nil {
		errs = append(errs, s.ValidateUpdate(obj, cur.obj)...)
	}
	if err := h.invalid(r.Name, ratchet(errs, h.res, cur.obj, s.ValidateUpdate)); err != nil {
		return decision{}, nil, err
	}
	if err := p.checkAdmission(ctx, a); err != nil {
		return decision{}, nil, err
	}
	var warnings []string
	switch {
	case s.ChangeWarnings != nil:
		warnings = s.ChangeWarnings(obj, cur.obj)
	case s.Warnings != nil:
		warnings = s.Warnings(obj)
	}
	return h.settle(obj, cur.obj, asked, lost, a), warnings, nil
}

// settle ends a decision: an object whose deletion waited only for what the change took away is removed now.
func (h *handle) settle(obj, old registry.Object, asked, lost map[string]bool, admitted *admission.Attributes) decision {
	obj.SetResourceVersion("")
	if obj.GetDeletionTimestamp() != nil && !h.waits(obj) && h.waits(old) {
		return decision{admitted: admitted}
	}
	return decision{obj: obj, asked: asked, lost: lost, admitted: admitted}
}

// waits reports whether a deleted object must stay for now because of finalizers or because its kind holds it.
func (h *handle) waits(obj registry.Object) bool {
	if len(obj.GetFinalizers()) > 0 || h.res.Strategy.Held != nil && h.res.Strategy.Held(obj) {
		return true
	}
	grace := obj.GetDeletionGracePeriodSeconds()
	return grace != nil && *grace > 0
}

func (p *Pipeline) askedClaims(h *handle, obj registry.Object) map[string]bool {
	if h.res.Strategy.Allocate == nil {
		return nil
	}
	asked := map[string]bool{}
	for _, c := range h.claims(obj) {
		asked[c.Key] = true
	}
	return asked
}

// checkVersion holds a write to the resource version and uid that its body names.
func (p *Pipeline) checkVersion(h *handle, name string, body metav1.Object, cur *current, unconditional bool) error {
	now := strconv.FormatInt(int64(cur.rev), 10)
	switch rv := body.GetResourceVersion(); {
	case rv == "" || rv == "0":
		if !unconditional {
			return h.invalid(name, field.ErrorList{field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update")})
		}
		body.SetResourceVersion(now)
	case rv != now:
		if _, err := parseVersion(rv); err != nil {
			return h.invalid(name, field.ErrorList{field.Invalid(field.NewPath("metadata", "resourceVersion"), rv, err.Error())})
		}
		return apierrors.NewConflict(h.gr(), name, errStale)
	}
	if uid := body.GetUID(); uid != "" && uid != cur.obj.GetUID() {
		return apierrors.NewConflict(h.gr(), name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, cur.obj.GetUID()))
	}
	return nil
}

// carryMeta takes over what a client may leave out and may not change silently.
func carryMeta(obj, old metav1.Object) {
	obj.SetSelfLink("")
	obj.SetGeneration(old.GetGeneration())
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	if old.GetDeletionTimestamp() != nil {
		obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	}
	if obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	}
	if obj.GetGenerateName() == "" {
		obj.SetGenerateName(old.GetGenerateName())
	}
	if obj.GetManagedFields() == nil {
		obj.SetManagedFields(old.GetManagedFields())
	}
}

// subresourceBody returns an empty body and its kind.
func (h *handle) subresourceBody(sub *registry.Subresource) (body runtime.Object, own bool) {
	if sub.New == nil {
		return h.res.New(), true
	}
	return sub.New(), false
}

func (h *handle) subresourceKind(sub *registry.Subresource) schema.GroupVersionKind {
	if sub.New == nil {
		return h.res.Kind
	}
	return sub.Kind
}

func (p *Pipeline) updateSubresource(ctx context.Context, h *handle, r *Request) (*Result, error) {
	sub := h.res.Subresources[r.Subresource]
	body, own := h.subresourceBody(&sub)
	warnings, err := p.decode(r, h.subresourceKind(&sub), body)
	if err != nil {
		return nil, err
	}
	meta, ok := body.(metav1.Object)
	if ok {
		if err := matchNamespace(h, r, meta); err != nil {
			return nil, err
		}
		if err := matchName(r, meta); err != nil {
			return nil, err
		}
	}
	if own && h.res.Strategy.Default != nil {
		h.res.Strategy.Default(body.(registry.Object))
	}
	res, err := p.rewrite(ctx, h, r, func(cur *current) (decision, error) {
		return p.decideSubresource(ctx, h, r, &sub, cur, body.DeepCopyObject())
	})
	if err != nil {
		return nil, err
	}
	res.Warnings = append(res.Warnings, warnings...)
	return p.renderSubresource(h, &sub, res)
}

// renderSubresource turns the stored object that a write returned into the subresource's own view of it.
func (p *Pipeline) renderSubresource(h *handle, sub *registry.Subresource, res *Result) (*Result, error) {
	if sub.New == nil || sub.Get == nil {
		return res, nil
	}
	obj, err := res.Object.Decoded()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	view, err := sub.Get(obj.(registry.Object))
	if err != nil {
		return nil, subresourceError(h, "", err)
	}
	res.Object = foreignObject(sub.Kind, view)
	return res, nil
}

// decideSubresource lets the subresource change the object and checks the outcome; body is the caller's to modify.
func (p *Pipeline) decideSubresource(ctx context.Context, h *handle, r *Request, sub *registry.Subresource, cur *current, body runtime.Object) (decision, error) {
	if meta, ok := body.(metav1.Object); ok {
		if err := p.checkVersion(h, r.Name, meta, cur, true); err != nil {
			return decision{}, err
		}
	}
	if sub.Apply == nil {
		return decision{}, methodNotAllowed(h, r)
	}
	obj, err := p.applySubresource(h, r, sub, cur, body)
	if err != nil {
		return decision{}, err
	}
	a := h.attributes(r, admission.Update, obj, cur.obj)
	a.Body = body
	if err := p.mutate(ctx, a); err != nil {
		return decision{}, err
	}
	if a.BodyChanged {
		if obj, err = p.applySubresource(h, r, sub, cur, body); err != nil {
			return decision{}, err
		}
		a.Object = obj
	}
	errs := h.res.CheckMetaChange(obj, cur.obj)
	if sub.Validate != nil {
		errs = append(errs, sub.Validate(obj, cur.obj)...)
	}
	if err := h.invalid(r.Name, ratchet(errs, h.res, cur.obj, sub.Validate)); err != nil {
		return decision{}, err
	}
	if err := p.checkAdmission(ctx, a); err != nil {
		return decision{}, err
	}
	return h.settle(obj, cur.obj, p.askedClaims(h, obj), nil, a), nil
}

// applySubresource makes what the body asks for of the object.
func (p *Pipeline) applySubresource(h *handle, r *Request, sub *registry.Subresource, cur *current, body runtime.Object) (registry.Object, error) {
	obj, err := sub.Apply(cur.obj, body, p.now())
	if err != nil {
		return nil, subresourceError(h, r.Name, err)
	}
	obj.SetResourceVersion(strconv.FormatInt(int64(cur.rev), 10))
	generation := obj.GetGeneration()
	carryMeta(obj, cur.obj)
	s := &h.res.Strategy
	switch {
	case generation > cur.obj.GetGeneration():
		obj.SetGeneration(generation)
	case s.SpecChanged != nil && s.SpecChanged(obj, cur.obj):
		obj.SetGeneration(cur.obj.GetGeneration() + 1)
	}
	// As in Kubernetes a command, such as a Binding, owns none of the fields that it changes.
	if r.Verb != Create {
		if err := p.track(h, r, obj, cur.obj); err != nil {
			return nil, err
		}
	}
	return obj, nil
}

// createSubresource serves subresources that are commands: a Binding, an Eviction without code of its own.
func (p *Pipeline) createSubresource(ctx context.Context, h *handle, r *Request) (*Result, error) {
	sub := h.res.Subresources[r.Subresource]
	body, _ := h.subresourceBody(&sub)
	warnings, err := p.decode(r, h.subresourceKind(&sub), body)
	if err != nil {
		return nil, err
	}
	if meta, ok := body.(metav1.Object); ok {
		if err := matchNamespace(h, r, meta); err != nil {
			return nil, err
		}
		if meta.GetName() == "" {
			meta.SetName(r.Name)
		}
		if err := matchName(r, meta); err != nil {
			return nil, err
		}
	}
	res, err := p.rewrite(ctx, h, r, func(cur *current) (decision, error) {
		return p.decideSubresource(ctx, h, r, &sub, cur, body.DeepCopyObject())
	})
	if err != nil {
		return nil, err
	}
	return &Result{Object: successStatus(), Created: true, Warnings: append(res.Warnings, warnings...)}, nil
}

// subresourceError makes a StatusError of what Subresource.Get and Apply return.
func subresourceError(h *handle, name string, err error) error {
	var status *apierrors.StatusError
	if errors.As(err, &status) {
		return status
	}
	var fe *field.Error
	if errors.As(err, &fe) {
		return h.invalid(name, field.ErrorList{fe})
	}
	var agg utilerrors.Aggregate
	if errors.As(err, &agg) {
		var list field.ErrorList
		for _, e := range agg.Errors() {
			if errors.As(e, &fe) {
				list = append(list, fe)
			}
		}
		if len(list) > 0 {
			return h.invalid(name, list)
		}
	}
	return apierrors.NewInternalError(err)
}
