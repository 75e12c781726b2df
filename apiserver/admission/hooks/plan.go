package hooks

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/webhook"
)

// hook is a webhook, ready to be asked.
type hook struct {
	name, configuration string
	target              webhook.Target
	criteria            *match.Criteria
	conditions          *expression.Conditions
	// ignore: a call that fails lets the write pass.
	ignore bool
	// dry: it may be asked about a dry run.
	dry     bool
	timeout time.Duration
	// version of AdmissionReview that it is spoken to in.
	version string
	// again: it wants to see what others change after it.
	again bool
	// broken is why the webhook cannot be asked; validation lets no such one be stored.
	broken error
}

// plan is the webhooks of one kind, in the order in which they are asked.
type plan struct {
	changed int64
	hooks   []*hook
}

// planner keeps the plan of one kind's configurations. Those that have not changed are not worked out again.
type planner struct {
	reader   match.Reader
	plural   string
	all      admission.Collection // nil if the configurations are not served
	compiler *expression.Compiler
	current  atomic.Pointer[plan]

	mu   sync.Mutex
	done map[string][]*hook // by uid and resource version
}

// hooks returns the present webhooks.
func (p *planner) hooks(ctx context.Context) ([]*hook, error) {
	if p.all == nil || p.all.Empty() {
		return nil, nil
	}
	changed := p.all.Changed()
	if now := p.current.Load(); now != nil && now.changed == changed {
		return now.hooks, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	objects, err := p.reader.Objects(ctx, admissionregistrationv1.GroupName, p.plural, "")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(objects, func(a, b registry.Object) int { return cmp.Compare(a.GetName(), b.GetName()) })
	next, done := &plan{changed: changed}, map[string][]*hook{}
	for _, obj := range objects {
		key := string(obj.GetUID()) + "/" + obj.GetResourceVersion()
		hooks, ok := p.done[key]
		if !ok {
			hooks = p.compile(obj)
		}
		done[key] = hooks
		next.hooks = append(next.hooks, hooks...)
	}
	p.done = done
	p.current.Store(next)
	return next.hooks, nil
}

func (p *planner) compile(obj registry.Object) (hooks []*hook) {
	switch o := obj.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range o.Webhooks {
			w := &o.Webhooks[i]
			h := p.hook(o.Name, &admissionregistrationv1.ValidatingWebhook{
				Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy, NamespaceSelector: w.NamespaceSelector,
				ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects, TimeoutSeconds: w.TimeoutSeconds, AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions,
			})
			h.again = w.ReinvocationPolicy != nil && *w.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy
			hooks = append(hooks, h)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range o.Webhooks {
			hooks = append(hooks, p.hook(o.Name, &o.Webhooks[i]))
		}
	}
	return hooks
}

// defaultTimeout is that of a webhook that names none.
const defaultTimeout = 10 * time.Second

func (p *planner) hook(configuration string, w *admissionregistrationv1.ValidatingWebhook) *hook {
	h := &hook{name: w.Name, configuration: configuration, timeout: defaultTimeout}
	h.ignore = w.FailurePolicy != nil && *w.FailurePolicy == admissionregistrationv1.Ignore
	h.dry = w.SideEffects != nil && (*w.SideEffects == admissionregistrationv1.SideEffectClassNone || *w.SideEffects == admissionregistrationv1.SideEffectClassNoneOnDryRun)
	if w.TimeoutSeconds != nil {
		h.timeout = time.Duration(*w.TimeoutSeconds) * time.Second
	}
	for _, v := range w.AdmissionReviewVersions {
		if v == "v1" || v == "v1beta1" {
			h.version = v
			break
		}
	}
	h.target = target(&w.ClientConfig, h.timeout)
	if h.criteria, h.broken = match.NewRules(w.Rules, w.MatchPolicy, w.NamespaceSelector, w.ObjectSelector); h.broken != nil || len(w.MatchConditions) == 0 {
		return h
	}
	env, err := p.compiler.Environment(expression.Scope{Authorizer: true})
	if err != nil {
		h.broken = err
		return h
	}
	h.conditions = env.Conditions(w.MatchConditions)
	return h
}

func target(c *admissionregistrationv1.WebhookClientConfig, timeout time.Duration) webhook.Target {
	t := webhook.Target{CABundle: c.CABundle, Query: "timeout=" + timeout.String()}
	if s := c.Service; s != nil {
		t.Service = &webhook.Service{Namespace: s.Namespace, Name: s.Name}
		if s.Path != nil {
			t.Service.Path = *s.Path
		}
		if s.Port != nil {
			t.Service.Port = *s.Port
		}
	} else if c.URL != nil {
		t.URL = *c.URL
	}
	return t
}
