package pipeline

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/registry"
)

// Decode reads a request's body as the wanted kind, for connectors.
func (p *Pipeline) Decode(r *Request, want schema.GroupVersionKind, into runtime.Object) (warnings []string, err error) {
	return p.decode(r, want, into)
}

// Admit asks the admission plugins about a connector's request: its body, and the stored object that it is about.
func (p *Pipeline) Admit(ctx context.Context, r *Request, stored registry.Object, body runtime.Object) error {
	h, err := p.lookup(ctx, r)
	if err != nil {
		return err
	}
	a := h.attributes(r, admission.Create, nil, stored)
	a.Body = body
	if err := p.mutate(ctx, a); err != nil {
		return err
	}
	return p.checkAdmission(ctx, a)
}

// AdmitConnect asks the admission plugins about a stream or a request that a door passes on: about its options, which are of the
// subresource's kind, and which they may change. The caller has authorized it.
func (p *Pipeline) AdmitConnect(ctx context.Context, r *Request, options runtime.Object) error {
	return warned(r, p.admitConnect(ctx, r, options))
}

func (p *Pipeline) admitConnect(ctx context.Context, r *Request, options runtime.Object) error {
	h, err := p.served.lookup(ctx, r.Group, r.Version, r.Resource)
	if err != nil {
		return err
	}
	options.GetObjectKind().SetGroupVersionKind(h.res.Subresources[r.Subresource].Kind)
	if r.Notes == nil {
		r.Notes = &admission.Notes{}
	}
	a := h.attributes(r, admission.Connect, nil, nil)
	a.Body = options
	connects := func(ask func(*admission.Plugin) func(context.Context, *admission.Attributes) error) error {
		for i := range p.cfg.Plugins {
			if f := ask(&p.cfg.Plugins[i]); f != nil && p.cfg.Plugins[i].Connects {
				if err := f(ctx, a); err != nil {
					return admissionError(a, err)
				}
			}
		}
		return nil
	}
	for again := true; again; again = a.NextRound() {
		if err := connects(func(g *admission.Plugin) func(context.Context, *admission.Attributes) error { return g.Mutate }); err != nil {
			return err
		}
	}
	return connects(func(g *admission.Plugin) func(context.Context, *admission.Attributes) error { return g.Validate })
}

// NewID returns a random UUID.
func (p *Pipeline) NewID() string { return p.newUID() }

// Answer wraps an object of a subresource's own kind, for connectors.
func Answer(kind schema.GroupVersionKind, obj runtime.Object) *Result {
	return &Result{Object: foreignObject(kind, obj), Created: true}
}

// selfDoor is the door of the server's own requests.
const selfDoor = "self"

// System is the caller for what the server itself writes. It passes the same chain as everybody, with every right.
func System() Caller {
	return Caller{User: &authn.Identity{Name: "system:apiserver", Groups: []string{authn.Masters, authn.AllAuthenticated}}, Door: selfDoor, UserAgent: "apiserver"}
}
