package pipeline

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/registry"
)

// Computed makes the objects of a resource that is read and never stored (ComponentStatus), sorted by name. They are the
// caller's.
type Computed func(ctx context.Context) ([]registry.Object, error)

// computed returns what makes a resource's objects, if it is such a one.
func (p *Pipeline) computed(r *Request) (Computed, bool) {
	c, ok := p.cfg.Computed[r.Group+"/"+r.Resource]
	return c, ok
}

func (p *Pipeline) getComputed(ctx context.Context, r *Request, make Computed) (*Result, error) {
	h, err := p.handleFor(r.Group, r.Resource)
	if err != nil {
		return nil, err
	}
	all, err := make(ctx)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	i := slices.IndexFunc(all, func(obj registry.Object) bool { return obj.GetName() == r.Name })
	if i < 0 {
		return nil, apierrors.NewNotFound(h.gr(), r.Name)
	}
	res := &Result{Object: h.storedObject(all[i])}
	all[i].GetObjectKind().SetGroupVersionKind(h.res.Kind)
	if w := h.res.Strategy.Warnings; w != nil {
		res.Warnings = w(all[i])
	}
	return res, nil
}

// listComputed lists what the request selects; there is no revision to watch from.
func (p *Pipeline) listComputed(ctx context.Context, h *handle, r *Request, make Computed) (*Listing, error) {
	if _, err := h.query(r); err != nil {
		return nil, err
	}
	all, err := make(ctx)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	selects := h.selection(r)
	all = slices.DeleteFunc(all, func(obj registry.Object) bool { return !selects(obj) })
	objects := func(yield func(*Object, error) bool) {
		for _, obj := range all {
			obj.GetObjectKind().SetGroupVersionKind(h.res.Kind)
			if !yield(h.storedObject(obj), nil) {
				return
			}
		}
	}
	return &Listing{Resource: h.res, Objects: objects, Size: len(all), Remaining: -1}, nil
}
