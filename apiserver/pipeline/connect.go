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
