package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// defaultTimeout is a webhook's timeout in seconds if it names none, and maxTimeout the longest.
const (
	defaultTimeout = 10
	maxTimeout     = 30
)

func (c checker) mutatingWebhooks() *registry.Resource {
	type object = *admissionregistrationv1.MutatingWebhookConfiguration
	return kind[object]{
		name: "MutatingWebhookConfiguration", plural: "mutatingwebhookconfigurations", singular: "mutatingwebhookconfiguration",
		make: func() object { return &admissionregistrationv1.MutatingWebhookConfiguration{} },
		list: func() runtime.Object { return &admissionregistrationv1.MutatingWebhookConfigurationList{} },
		defaults: func(o object) {
			for i := range o.Webhooks {
				w := &o.Webhooks[i]
				defaultHook(viewMutating(w))
				set(&w.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
			}
		},
		validate: func(e *check.Errors, o, old object) {
			c.hooks(e, mutatingViews(o), mutatingViews(old))
			for i := range o.Webhooks {
				if p := o.Webhooks[i].ReinvocationPolicy; p != nil {
					check.Supported(e, field.NewPath("webhooks").Index(i).Child("reinvocationPolicy"), *p,
						admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
				}
			}
		},
		said:    func(o object) any { return o.Webhooks },
		columns: webhookColumns(func(o object) int64 { return int64(len(o.Webhooks)) }),
	}.resource()
}

func (c checker) validatingWebhooks() *registry.Resource {
	type object = *admissionregistrationv1.ValidatingWebhookConfiguration
	return kind[object]{
		name: "ValidatingWebhookConfiguration", plural: "validatingwebhookconfigurations", singular: "validatingwebhookconfiguration",
		make: func() object { return &admissionregistrationv1.ValidatingWebhookConfiguration{} },
		list: func() runtime.Object { return &admissionregistrationv1.ValidatingWebhookConfigurationList{} },
		defaults: func(o object) {
			for i := range o.Webhooks {
				defaultHook(viewValidating(&o.Webhooks[i]))
			}
		},
		validate: func(e *check.Errors, o, old object) { c.hooks(e, validatingViews(o), validatingViews(old)) },
		said:     func(o object) any { return o.Webhooks },
		columns:  webhookColumns(func(o object) int64 { return int64(len(o.Webhooks)) }),
	}.resource()
}

func webhookColumns[T registry.Object](count func(T) int64) []registry.Column {
	return []registry.Column{registry.NameColumn(), registry.Number("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration", count), registry.AgeColumn()}
}

// hook is what both kinds of webhooks have, by reference.
type hook struct {
	name        *string
	client      *admissionregistrationv1.WebhookClientConfig
	rules       []admissionregistrationv1.RuleWithOperations
	failure     **admissionregistrationv1.FailurePolicyType
	match       **admissionregistrationv1.MatchPolicyType
	namespace   **metav1.LabelSelector
	object      **metav1.LabelSelector
	sideEffects **admissionregistrationv1.SideEffectClass
	timeout     **int32
	versions    []string
	conditions  []admissionregistrationv1.MatchCondition
}

func viewMutating(w *admissionregistrationv1.MutatingWebhook) hook {
	return hook{&w.Name, &w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.SideEffects, &w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions}
}

func viewValidating(w *admissionregistrationv1.ValidatingWebhook) hook {
	return hook{&w.Name, &w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.SideEffects, &w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions}
}

func mutatingViews(o *admissionregistrationv1.MutatingWebhookConfiguration) (list []hook) {
	if o == nil {
		return nil
	}
	for i := range o.Webhooks {
		list = append(list, viewMutating(&o.Webhooks[i]))
	}
	return list
}

func validatingViews(o *admissionregistrationv1.ValidatingWebhookConfiguration) (list []hook) {
	if o == nil {
		return nil
	}
	for i := range o.Webhooks {
		list = append(list, viewValidating(&o.Webhooks[i]))
	}
	return list
}

func defaultHook(h hook) {
	set(h.failure, admissionregistrationv1.Fail)
	set(h.match, admissionregistrationv1.Equivalent)
	set(h.namespace, metav1.LabelSelector{})
	set(h.object, metav1.LabelSelector{})
	set(h.timeout, int32(defaultTimeout))
	if h.client.Service != nil {
		set(&h.client.Service.Port, int32(443))
	}
	for i := range h.rules {
		set(&h.rules[i].Scope, admissionregistrationv1.AllScopes)
	}
}

// hooks checks a configuration's webhooks; old are those that it had.
func (c checker) hooks(e *check.Errors, hooks, old []hook) {
	names := sets.New[string]()
	compiled := sets.New[string]() // conditions that were stored are not refused for what compiled then
	for _, h := range old {
		for _, m := range h.conditions {
			compiled.Insert(m.Expression)
		}
	}
	for i, h := range hooks {
		at := field.NewPath("webhooks").Index(i)
		e.Add(validation.IsFullyQualifiedName(at.Child("name"), *h.name)...)
		if names.Has(*h.name) {
			e.Duplicate(at.Child("name"), *h.name)
		}
		names.Insert(*h.name)
		c.hook(e, at, h, compiled)
	}
}

func (c checker) hook(e *check.Errors, at *field.Path, h hook, compiled sets.Set[string]) {
	checkVersions(e, at.Child("admissionReviewVersions"), h.versions)
	for i := range h.rules {
		checkRule(e, at.Child("rules").Index(i), &h.rules[i])
	}
	if *h.failure != nil {
		check.Supported(e, at.Child("failurePolicy"), **h.failure, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
	}
	if *h.match != nil {
		check.Supported(e, at.Child("matchPolicy"), **h.match, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)
	}
	if *h.sideEffects == nil {
		e.Required(at.Child("sideEffects"), "must specify one of None, NoneOnDryRun")
	} else {
		check.Supported(e, at.Child("sideEffects"), **h.sideEffects, admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun)
	}
	if t := *h.timeout; t != nil && (*t < 1 || *t > maxTimeout) {
		e.Invalid(at.Child("timeoutSeconds"), *t, "the timeout value must be between 1 and 30 seconds")
	}
	for name, s := range map[string]*metav1.LabelSelector{"namespaceSelector": *h.namespace, "objectSelector": *h.object} {
		if s != nil {
			e.Selector(at.Child(name), s)
		}
	}
	checkClient(e, at.Child("clientConfig"), h.client)
	c.conditions(e, at.Child("matchConditions"), h.conditions, false, compiled)
}

// reviewVersions are the forms of AdmissionReview that the server speaks, the preferred one first.
var reviewVersions = []string{"v1", "v1beta1"}

func checkVersions(e *check.Errors, at *field.Path, versions []string) {
	if len(versions) == 0 {
		e.Required(at, fmt.Sprintf("must specify one of %v", strings.Join(reviewVersions, ", ")))
		return
	}
	seen, known := sets.New[string](), false
	for i, v := range versions {
		if seen.Has(v) {
			e.Invalid(at.Index(i), v, "duplicate version")
		}
		seen.Insert(v)
		e.Each(at.Index(i), v, validation.IsDNS1035Label(v))
		known = known || slices.Contains(reviewVersions, v)
	}
	if !known {
		e.Invalid(at, versions, fmt.Sprintf("must include at least one of %v", strings.Join(reviewVersions, ", ")))
	}
}
