package hooks

import (
	"context"
	"sync"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
)

// Validating asks validating webhooks.
func Validating(cfg Config) admission.Plugin {
	k := newAsker(cfg, "validatingwebhookconfigurations")
	return admission.Plugin{
		Name: "ValidatingAdmissionWebhook", Validate: k.validate, Connects: true,
		Obeys: []schema.GroupResource{{Group: admissionregistrationv1.GroupName, Resource: "validatingwebhookconfigurations"}, {Resource: "namespaces"}},
	}
}

// question is a webhook that is asked about a write, and its answer.
type question struct {
	hook   *hook
	as     *registry.Resource
	answer *admissionv1.AdmissionResponse
	err    error
}

func (k *asker) validate(ctx context.Context, a *admission.Attributes) error {
	hooks, err := k.planner.hooks(ctx)
	if err != nil || len(hooks) == 0 || exempt(a) {
		return err
	}
	w := k.source.Write(a)
	var asked []*question
	for _, h := range hooks {
		as, ok, err := k.selects(ctx, h, w)
		if err != nil {
			return err
		}
		if ok {
			asked = append(asked, &question{hook: h, as: as})
		}
	}
	object, old := w.Reviewed()
	var group sync.WaitGroup
	for _, q := range asked {
		group.Go(func() { q.answer, q.err = k.asked(ctx, "validating", q.hook, w, q.as, object, old) })
	}
	group.Wait()
	return judge(a, asked)
}

// judge tells what the webhooks said, and returns the first refusal.
func judge(a *admission.Attributes, asked []*question) error {
	var refused error
	for i, q := range asked {
		err := q.err
		if err == nil {
			tell(q.hook, a, q.answer)
			if !q.answer.Allowed {
				err = denied(q.hook.name, q.answer.Result)
			}
		} else {
			err = failed(q.hook, a, "validating", i, err)
		}
		if refused == nil {
			refused = err
		}
	}
	return refused
}
