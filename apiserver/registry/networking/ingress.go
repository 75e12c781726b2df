package networking

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// classAnnotation named an ingress's class before the field did.
const classAnnotation = "kubernetes.io/ingress.class"

func ingresses() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Ingress"), Plural: "ingresses", Singular: "ingress",
		ShortNames: []string{"ing"},
		Namespaced: true, KeyPrefix: "/registry/ingress/",
		New:     func() registry.Object { return &networkingv1.Ingress{} },
		NewList: func() runtime.Object { return &networkingv1.IngressList{} },
		Strategy: registry.Strategy{
			PrepareCreate: registry.On(func(in *networkingv1.Ingress) { in.Status = networkingv1.IngressStatus{} }),
			PrepareUpdate: registry.OnChange(func(in, old *networkingv1.Ingress) { in.Status = old.Status }),
			Validate: registry.Checks(func(e *check.Errors, in *networkingv1.Ingress) {
				checkIngress(e, &in.Spec, field.NewPath("spec"))
				class, set := in.Annotations[classAnnotation]
				if set && in.Spec.IngressClassName != nil && class != *in.Spec.IngressClassName {
					e.Invalid(field.NewPath("annotations", classAnnotation), class, "must match `ingressClassName` when both are specified")
				}
			}),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, in, _ *networkingv1.Ingress) {
				checkIngress(e, &in.Spec, field.NewPath("spec"))
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			Warnings:     registry.Warns(ingressWarnings),
			ChangeWarnings: func(obj, old registry.Object) []string {
				if was, set := old.GetAnnotations()[classAnnotation]; set && was == obj.GetAnnotations()[classAnnotation] {
					return nil
				}
				return ingressWarnings(obj.(*networkingv1.Ingress))
			},
			SpecChanged: registry.Differs(func(in, old *networkingv1.Ingress) bool {
				return !equality.Semantic.DeepEqual(in.Spec, old.Spec)
			}),

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Class", "The name of the IngressClass resource that should be used for additional configuration",
				func(in *networkingv1.Ingress) string {
					if in.Spec.IngressClassName == nil {
						return "<none>"
					}
					return *in.Spec.IngressClassName
				}),
			registry.Text("Hosts", "Hosts that incoming requests are matched against before the ingress rule",
				func(in *networkingv1.Ingress) string { return hostsText(in.Spec.Rules) }),
			registry.Text("Address", "Address is a list containing ingress points for the load-balancer", addressText),
			registry.Text("Ports", "Ports of TLS configurations that open", func(in *networkingv1.Ingress) string {
				if len(in.Spec.TLS) > 0 {
					return "80, 443"
				}
				return "80"
			}),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(
				func(in, body *networkingv1.Ingress) { in.Status = body.Status },
				func(e *check.Errors, in, _ *networkingv1.Ingress) {
					checkPoints(e, in.Status.LoadBalancer.Ingress, field.NewPath("status", "loadBalancer", "ingress"))
				}),
		},
	}
}

// hostsText names the first three rules' hosts.
func hostsText(rules []networkingv1.IngressRule) string {
	const most = 3
	var hosts []string
	more := false
	for _, r := range rules {
		more = more || len(hosts) == most
		if !more && r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	switch {
	case len(hosts) == 0:
		return "*"
	case more:
		return fmt.Sprintf("%s + %d more...", strings.Join(hosts, ","), len(rules)-most)
	}
	return strings.Join(hosts, ",")
}

func addressText(in *networkingv1.Ingress) string {
	at := sets.New[string]()
	for _, p := range in.Status.LoadBalancer.Ingress {
		if p.IP != "" {
			at.Insert(p.IP)
		} else if p.Hostname != "" {
			at.Insert(p.Hostname)
		}
	}
	return strings.Join(sets.List(at), ",")
}

func checkIngress(e *check.Errors, s *networkingv1.IngressSpec, at *field.Path) {
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		e.Invalid(at, s.Rules, "either `defaultBackend` or `rules` must be specified")
	}
	if s.DefaultBackend != nil {
		checkBackend(e, s.DefaultBackend, at.Child("defaultBackend"))
	}
	for i, r := range s.Rules {
		here := at.Child("rules").Index(i)
		if r.Host != "" {
			if netutils.ParseIPSloppy(r.Host) != nil {
				e.Invalid(here.Child("host"), r.Host, "must be a DNS name, not an IP address")
			}
			checkHost(e, r.Host, here.Child("host"))
		}
		if r.HTTP == nil {
			continue
		}
		paths := here.Child("http", "paths")
		if len(r.HTTP.Paths) == 0 {
			e.Required(paths, "")
		}
		for j := range r.HTTP.Paths {
			checkPath(e, &r.HTTP.Paths[j], paths.Index(j))
		}
	}
	for i, tls := range s.TLS {
		here := at.Child("tls").Index(i)
		for j, host := range tls.Hosts {
			checkHost(e, host, here.Child("hosts").Index(j))
		}
		if tls.SecretName != "" {
			e.Name(here.Child("secretName"), tls.SecretName, apivalidation.NameIsDNSSubdomain)
		}
	}
	if s.IngressClassName != nil {
		e.Name(at.Child("ingressClassName"), *s.IngressClassName, apivalidation.NameIsDNSSubdomain)
	}
}

// checkHost: a DNS name whose first label may be an asterisk.
func checkHost(e *check.Errors, host string, at *field.Path) {
	if strings.Contains(host, "*") {
		e.Each(at, host, validation.IsWildcardDNS1123Subdomain(host))
		return
	}
	e.Subdomain(at, host)
}

func checkPath(e *check.Errors, p *networkingv1.HTTPIngressPath, at *field.Path) {
	here := at.Child("path")
	if p.PathType == nil {
		e.Required(at.Child("pathType"), "pathType must be specified")
		return
	}
	absolute := strings.HasPrefix(p.Path, "/")
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !absolute {
			e.Invalid(here, p.Path, "must be an absolute path")
		}
		for _, s := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, s) {
				e.Invalid(here, p.Path, "must not contain '"+s+"'")
			}
		}
		for _, s := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, s) {
				e.Invalid(here, p.Path, "cannot end with '"+s+"'")
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !absolute {
			e.Invalid(here, p.Path, "must be an absolute path")
		}
	default:
		e.Add(field.NotSupported(at.Child("pathType"), *p.PathType, []networkingv1.PathType{
			networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix,
		}))
	}
	checkBackend(e, &p.Backend, at.Child("backend"))
}

func checkBackend(e *check.Errors, b *networkingv1.IngressBackend, at *field.Path) {
	switch {
	case b.Resource != nil && b.Service != nil:
		e.Invalid(at, "", "cannot set both resource and service backends")
	case b.Resource != nil:
		checkReference(e, b.Resource, at.Child("resource"))
	case b.Service != nil:
		if name := at.Child("service", "name"); e.Present(name, b.Service.Name) {
			e.Name(name, b.Service.Name, apivalidation.NameIsDNSLabel)
		}
		port := b.Service.Port
		switch {
		case port.Name != "" && port.Number != 0:
			e.Invalid(at, "", "cannot set both port name & port number")
		case port.Name != "":
			e.Each(at.Child("service", "port", "name"), port.Name, validation.IsValidPortName(port.Name))
		case port.Number != 0:
			e.Port(at.Child("service", "port", "number"), port.Number)
		default:
			e.Required(at, "port name or number is required")
		}
	default:
		e.Invalid(at, "", "resource or service backend is required")
	}
}

func checkReference(e *check.Errors, r *corev1.TypedLocalObjectReference, at *field.Path) {
	if r.APIGroup != nil {
		e.Subdomain(at.Child("apiGroup"), *r.APIGroup)
	}
	for _, f := range []struct{ name, value string }{{"kind", r.Kind}, {"name", r.Name}} {
		if f.value == "" {
			e.Required(at.Child(f.name), f.name+" is required")
		} else {
			e.Each(at.Child(f.name), f.value, path.IsValidPathSegmentName(f.value))
		}
	}
}

func checkPoints(e *check.Errors, points []networkingv1.IngressLoadBalancerIngress, at *field.Path) {
	for i, p := range points {
		if p.IP != "" {
			e.IP(at.Index(i).Child("ip"), p.IP)
		}
		if p.Hostname != "" {
			here := at.Index(i).Child("hostname")
			e.Subdomain(here, p.Hostname)
			if netutils.ParseIPSloppy(p.Hostname) != nil {
				e.Invalid(here, p.Hostname, "must be a DNS name, not an IP address")
			}
		}
	}
}

func ingressWarnings(i *networkingv1.Ingress) []string {
	if _, set := i.Annotations[classAnnotation]; !set {
		return nil
	}
	return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
}
