package policies

import (
	"context"

	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/registry"
)

// evaluation is a policy with one of its bindings and one parameter object, or the error that keeps it from being evaluated.
type evaluation struct {
	policy  *policy
	binding *binding // nil if the policy itself is at fault
	as      *registry.Resource
	params  registry.Object
	err     error
}

// evaluations are what a write has to be held to: every policy that selects it, for every binding that does, for every parameter object.
func (c *Config) evaluations(ctx context.Context, policies []*policy, w *match.Write) ([]evaluation, error) {
	var list []evaluation
	for _, p := range policies {
		if p.broken != nil {
			list = append(list, evaluation{policy: p, err: p.broken})
			continue
		}
		as, ok, err := p.criteria.Match(ctx, w)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		for _, b := range p.bindings {
			if b.broken != nil {
				list = append(list, evaluation{policy: p, binding: b, err: b.broken})
				continue
			}
			if b.criteria != nil {
				if _, ok, err := b.criteria.Match(ctx, w); err != nil {
					return nil, err
				} else if !ok {
					continue
				}
			}
			params, err := c.paramsOf(ctx, p, b, w)
			if err != nil {
				list = append(list, evaluation{policy: p, binding: b, err: err})
			}
			for _, obj := range params {
				list = append(list, evaluation{policy: p, binding: b, as: as, params: obj})
			}
		}
	}
	return list, nil
}

// input is what an evaluation's expressions see.
func (c *Config) input(ctx context.Context, w *match.Write, e *evaluation) (*expression.Input, error) {
	ns, err := w.Namespace(ctx)
	if err != nil {
		return nil, err
	}
	object, old := w.Reviewed()
	if o, ok := object.(registry.Object); ok && e.as != w.Resource && w.Subresource == "" {
		if object, err = match.Convert(o, w.Resource, e.as); err != nil {
			return nil, err
		}
	}
	if o, ok := old.(registry.Object); ok && e.as != w.Resource && w.Subresource == "" {
		if old, err = match.Convert(o, w.Resource, e.as); err != nil {
			return nil, err
		}
	}
	in := expression.NewInput(w.Review(string(w.Operation()), e.as), object, old, ns)
	if e.params != nil {
		in = in.WithParams(e.params)
	}
	if c.Authorizer != nil && w.User != nil {
		in = in.WithAuthorizer(w.User, c.Authorizer, w.Resource.Kind.Group, w.Resource.Kind.Version, w.Resource.Plural, w.Subresource, w.Attributes.Namespace, w.Name)
	}
	return in, nil
}
