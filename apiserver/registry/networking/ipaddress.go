package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// ipAddresses is the resource by which others may hold addresses of the Services' networks. The server's own allocator keeps
// claims instead (registry.Claim), which are committed with the Service.
func ipAddresses() *registry.Resource {
	type address = *networkingv1.IPAddress
	return &registry.Resource{
		Kind: kind("IPAddress"), Plural: "ipaddresses", Singular: "ipaddress", ShortNames: []string{"ip"},
		KeyPrefix: "/registry/ipaddresses/",
		New:       func() registry.Object { return &networkingv1.IPAddress{} },
		NewList:   func() runtime.Object { return &networkingv1.IPAddressList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(checkAddress),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, a, old address) {
				checkAddress(e, a)
				e.Immutable(field.NewPath("spec", "parentRef"), a.Spec.ParentRef, old.Spec.ParentRef)
			}),
			ValidateName: func(name string, _ bool) []string {
				var wrong []string
				for _, err := range validation.IsValidIP(field.NewPath(""), name) {
					wrong = append(wrong, err.Detail)
				}
				return wrong
			},

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"], func(a address) string {
				p := a.Spec.ParentRef
				if p == nil {
					return "<none>"
				}
				parts := []string{strings.ToLower(schema.GroupResource{Group: p.Group, Resource: p.Resource}.String())}
				if p.Namespace != "" {
					parts = append(parts, p.Namespace)
				}
				return strings.Join(append(parts, p.Name), "/")
			}),
		},
	}
}

func checkAddress(e *check.Errors, a *networkingv1.IPAddress) {
	at, p := field.NewPath("spec", "parentRef"), a.Spec.ParentRef
	if p == nil {
		e.Required(at, "")
		return
	}
	if p.Group != "" {
		e.Subdomain(at.Child("group"), p.Group)
	}
	if e.Present(at.Child("resource"), p.Resource) {
		e.Each(at.Child("resource"), p.Resource, path.IsValidPathSegmentName(p.Resource))
	}
	if e.Present(at.Child("name"), p.Name) {
		e.Each(at.Child("name"), p.Name, path.IsValidPathSegmentName(p.Name))
	}
	if p.Namespace != "" {
		e.Each(at.Child("namespace"), p.Namespace, path.IsValidPathSegmentName(p.Namespace))
	}
}
