package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func serviceCIDRs() *registry.Resource {
	type cidrs = *networkingv1.ServiceCIDR
	return &registry.Resource{
		Kind: kind("ServiceCIDR"), Plural: "servicecidrs", Singular: "servicecidr",
		KeyPrefix: "/registry/servicecidrs/",
		New:       func() registry.Object { return &networkingv1.ServiceCIDR{} },
		NewList:   func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		Strategy: registry.Strategy{
			PrepareCreate:  registry.On(func(c cidrs) { c.Status = networkingv1.ServiceCIDRStatus{} }),
			PrepareUpdate:  registry.OnChange(func(c, old cidrs) { c.Status = old.Status }),
			Validate:       registry.Checks(checkServiceCIDR),
			ValidateUpdate: registry.ChecksChange(checkServiceCIDRUpdate),
			ValidateName:   apivalidation.NameIsDNSSubdomain,

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"], func(c cidrs) string { return strings.Join(c.Spec.CIDRs, ",") }),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(c, body cidrs) { c.Status = body.Status }, nil),
		},
	}
}

func checkServiceCIDR(e *check.Errors, c *networkingv1.ServiceCIDR) {
	list, at := c.Spec.CIDRs, field.NewPath("spec", "cidrs")
	switch {
	case len(list) == 0:
		e.Required(at, "at least one CIDR required")
		return
	case len(list) > 2:
		e.Invalid(at, list, "may only hold up to 2 values")
	case len(list) == 2 && strings.Contains(list[0], ":") == strings.Contains(list[1], ":"):
		e.Invalid(at, list, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96")
	}
	for i, cidr := range list {
		e.Add(validation.IsValidCIDR(at.Index(i), cidr)...)
	}
}

// checkServiceCIDRUpdate: the second family may be added; nothing else changes.
func checkServiceCIDRUpdate(e *check.Errors, c, old *networkingv1.ServiceCIDR) {
	at, is, was := field.NewPath("spec", "cidrs"), c.Spec.CIDRs, old.Spec.CIDRs
	if len(is) != len(was) && !(len(was) == 1 && len(is) == 2) {
		e.Invalid(at, is, apivalidation.FieldImmutableErrorMsg)
		return
	}
	for i := range was {
		if is[i] != was[i] {
			e.Invalid(at.Index(i), is[i], apivalidation.FieldImmutableErrorMsg)
		}
	}
	if len(is) > len(was) {
		checkServiceCIDR(e, c)
	}
}
