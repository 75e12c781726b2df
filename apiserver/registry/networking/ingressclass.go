package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

const maxController = 250

func ingressClasses() *registry.Resource {
	return &registry.Resource{
		Kind: kind("IngressClass"), Plural: "ingressclasses", Singular: "ingressclass",
		KeyPrefix: "/registry/ingressclasses/",
		New:       func() registry.Object { return &networkingv1.IngressClass{} },
		NewList:   func() runtime.Object { return &networkingv1.IngressClassList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(c *networkingv1.IngressClass) {
				if p := c.Spec.Parameters; p != nil && p.Scope == nil {
					scope := networkingv1.IngressClassParametersReferenceScopeCluster
					p.Scope = &scope
				}
			}),
			Validate: registry.Checks(checkIngressClass),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, old *networkingv1.IngressClass) {
				checkIngressClass(e, c)
				e.Immutable(field.NewPath("spec", "controller"), c.Spec.Controller, old.Spec.Controller)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(c, old *networkingv1.IngressClass) bool {
				return !equality.Semantic.DeepEqual(c.Spec, old.Spec)
			}),

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Controller", "Controller that is responsible for handling this class",
				func(c *networkingv1.IngressClass) string { return c.Spec.Controller }),
			registry.Text("Parameters", "A reference to a resource with additional parameters", parametersText),
			registry.AgeColumn(),
		},
	}
}

func parametersText(c *networkingv1.IngressClass) string {
	p := c.Spec.Parameters
	if p == nil {
		return "<none>"
	}
	of := p.Kind
	if p.APIGroup != nil {
		of += "." + *p.APIGroup
	}
	return of + "/" + p.Name
}

func checkIngressClass(e *check.Errors, c *networkingv1.IngressClass) {
	at := field.NewPath("spec")
	if len(c.Spec.Controller) > maxController {
		e.Add(field.TooLong(at.Child("controller"), "", maxController))
	}
	e.Add(validation.IsDomainPrefixedPath(at.Child("controller"), c.Spec.Controller)...)
	p, at := c.Spec.Parameters, at.Child("parameters")
	if p == nil {
		return
	}
	checkReference(e, &corev1.TypedLocalObjectReference{APIGroup: p.APIGroup, Kind: p.Kind, Name: p.Name}, at)
	if p.Scope == nil {
		e.Required(at.Child("scope"), "")
		return
	}
	const cluster, namespace = networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace
	switch {
	case *p.Scope != cluster && *p.Scope != namespace:
		e.Add(field.NotSupported(at.Child("scope"), *p.Scope, []string{cluster, namespace}))
	case *p.Scope == namespace && p.Namespace == nil:
		e.Required(at.Child("namespace"), "`parameters.scope` is set to 'Namespace'")
	case *p.Scope == namespace:
		e.Name(at.Child("namespace"), *p.Namespace, apivalidation.ValidateNamespaceName)
	case p.Namespace != nil:
		e.Forbidden(at.Child("namespace"), "`parameters.scope` is set to 'Cluster'")
	}
}
