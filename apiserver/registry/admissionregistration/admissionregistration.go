// Package admissionregistration is admissionregistration.k8s.io/v1: the webhooks and the policies that writes are held to. What they do
// to a write is for the packages under admission.
package admissionregistration

import (
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	c := checker{expression.NewCompiler()}
	return []*registry.Resource{
		c.mutatingWebhooks(), c.validatingWebhooks(), c.validatingPolicies(), c.validatingBindings(), c.mutatingPolicies(), c.mutatingBindings(),
	}
}

// checker validates; it compiles the expressions that are new.
type checker struct{ compiler *expression.Compiler }

// kind is what the group's kinds have in common: cluster-wide, without status, with a generation that counts changes of what they say.
type kind[T registry.Object] struct {
	name, plural, singular string
	make                   func() T
	list                   func() runtime.Object
	defaults               func(T)
	validate               func(e *check.Errors, obj, old T)
	said                   func(T) any
	columns                []registry.Column
}

func (k kind[T]) resource() *registry.Resource {
	var none T
	return &registry.Resource{
		Kind: admissionregistrationv1.SchemeGroupVersion.WithKind(k.name), Plural: k.plural, Singular: k.singular,
		Categories: []string{"api-extensions"}, KeyPrefix: "/registry/" + k.plural + "/",
		New: func() registry.Object { return k.make() }, NewList: k.list,
		Strategy: registry.Strategy{
			AnyFinalizer:   true,
			Default:        registry.On(k.defaults),
			Validate:       registry.Checks(func(e *check.Errors, obj T) { k.validate(e, obj, none) }),
			ValidateUpdate: registry.ChecksChange(k.validate),
			SpecChanged:    registry.Differs(func(obj, old T) bool { return !equality.Semantic.DeepEqual(k.said(obj), k.said(old)) }),
		},
		Columns: k.columns,
	}
}

func set[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}
