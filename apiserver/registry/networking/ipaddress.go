package networking

import (
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/core"
)

// ipAddresses is the resource by which everybody sees which addresses of the Services' networks are held, and by which others
// than Services may hold one. An address that a client makes takes the claim that a Service would take; those of Services are
// written with the Service's own claim (registry.Claim) and are told by the label of who manages them.
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
			Claims: func(obj registry.Object) []registry.Claim {
				ip, err := netip.ParseAddr(obj.GetName())
				if err != nil || obj.GetLabels()[networkingv1.LabelManagedBy] == core.AddressManager {
					return nil
				}
				return []registry.Claim{{
					Key: "serviceip/" + ip.Unmap().String(), Field: field.NewPath("metadata", "name"), Value: obj.GetName(),
					Detail: "provided IP is already allocated",
				}}
			},
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
