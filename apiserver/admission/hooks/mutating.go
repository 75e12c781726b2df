package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/registry"
)

const mutatingName = "MutatingAdmissionWebhook"

// Mutating asks mutating webhooks.
func Mutating(cfg Config) admission.Plugin {
	k := newAsker(cfg, "mutatingwebhookconfigurations")
	return admission.Plugin{
		Name: mutatingName, Mutate: k.mutate, Connects: true,
		Obeys: []schema.GroupResource{{Group: admissionregistrationv1.GroupName, Resource: "mutatingwebhookconfigurations"}, {Resource: "namespaces"}},
	}
}

// rounds is what is remembered from the first round to the second.
type rounds struct {
	// called are the webhooks that want to be asked again, in the order of the first round; later are those of them after whom somebody
	// changed the object.
	called, later []*hook
	// last is the object as the last webhook left it.
	last []byte
}

// changed: whoever was asked before must be asked again, but for the one who made the change.
func (r *rounds) changed(by *hook) {
	for _, h := range r.called {
		if h != by {
			r.later = append(r.later, h)
		}
	}
}

func (k *asker) mutate(ctx context.Context, a *admission.Attributes) error {
	hooks, err := k.planner.hooks(ctx)
	if err != nil || len(hooks) == 0 || exempt(a) {
		return err
	}
	r, err := begin(a)
	if err != nil {
		return err
	}
	w := k.source.Write(a)
	for i, h := range hooks {
		if a.Round > 0 && !contains(r.later, h) {
			continue
		}
		as, ok, err := k.selects(ctx, h, w)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := k.let(ctx, h, w, as, r, i); err != nil {
			return err
		}
		w = k.source.Write(a) // the next sees what this one has made
	}
	if a.Round > 0 || len(r.called) == 0 {
		return nil
	}
	if a.Memory == nil {
		a.Memory = map[string]any{}
	}
	a.Memory[mutatingName] = r
	r.last, err = state(a)
	return err
}

func contains(list []*hook, h *hook) bool {
	for _, x := range list {
		if x.name == h.name && x.configuration == h.configuration {
			return true
		}
	}
	return false
}

// begin finds what the first round remembered; if somebody else has changed the object since, all who want to see that are asked again.
func begin(a *admission.Attributes) (*rounds, error) {
	if r, ok := a.Memory[mutatingName].(*rounds); ok && a.Round > 0 {
		now, err := state(a)
		if err == nil && string(now) != string(r.last) {
			r.later = r.called
		}
		return r, err
	}
	return &rounds{}, nil
}

// state is what mutations change, as JSON.
func state(a *admission.Attributes) ([]byte, error) {
	object, _ := a.Reviewed()
	if object == nil {
		return nil, nil
	}
	b, err := json.Marshal(object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return b, nil
}

// let asks one webhook and lets it change the object.
func (k *asker) let(ctx context.Context, h *hook, w *match.Write, as *registry.Resource, r *rounds, index int) error {
	a := w.Attributes
	object, old := w.Reviewed()
	answer, err := k.asked(ctx, "admit", h, w, as, object, old)
	if err != nil {
		return failed(h, a, "mutating", index, err)
	}
	tell(h, a, answer)
	if !answer.Allowed {
		return denied(h.name, answer.Result)
	}
	changed := false
	if len(answer.Patch) > 0 {
		if changed, err = apply(a, as, answer.Patch); err != nil {
			return failed(h, a, "mutating", index, &callError{h.name, err})
		}
	}
	a.Note(fmt.Sprintf("mutation.webhook.admission.k8s.io/round_%d_index_%d", a.Round, index), fmt.Sprintf(`{"configuration":%q,"webhook":%q,"mutated":%t}`, h.configuration, h.name, changed))
	if changed {
		r.changed(h)
		a.Again()
	}
	if h.again && a.Round == 0 {
		r.called = append(r.called, h)
	}
	return nil
}

var errNoObject = errors.New("admission attempted to modify the object, which is not supported for this operation")

// apply changes what the write is about by a JSON patch: the body where a subresource has a kind of its own or is connected to, else the
// object, in the form that the patch was made for.
func apply(a *admission.Attributes, as *registry.Resource, text []byte) (bool, error) {
	object, _ := a.Reviewed()
	own := match.InBody(a)
	if object == nil || a.Operation == admission.Delete || !own && a.Object == nil {
		return false, errNoObject
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		return false, err
	}
	if len(patch) == 0 {
		return false, nil
	}
	before, err := encode(object, a.Resource, as)
	if err != nil {
		return false, err
	}
	after, err := match.Patch(before, patch)
	if err != nil {
		return false, err
	}
	if jsonpatch.Equal(before, after) {
		return false, nil
	}
	if own {
		return true, match.ReplaceBody(a, after)
	}
	return true, match.Replace(a, as, after)
}
