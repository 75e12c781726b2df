package core

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func endpoints() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Endpoints"), Plural: "endpoints", Singular: "endpoints", ShortNames: []string{"ep"},
		Namespaced: true, KeyPrefix: "/registry/services/endpoints/",
		New:     func() registry.Object { return &corev1.Endpoints{} },
		NewList: func() runtime.Object { return &corev1.EndpointsList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(ep *corev1.Endpoints) {
				for i := range ep.Subsets {
					for j := range ep.Subsets[i].Ports {
						if p := &ep.Subsets[i].Ports[j]; p.Protocol == "" {
							p.Protocol = corev1.ProtocolTCP
						}
					}
				}
			}),
			Validate:       registry.Checks(checkEndpoints),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, ep, _ *corev1.Endpoints) { checkEndpoints(e, ep) }),
			Warnings:       registry.Warns(endpointsWarnings),
			ValidateName:   dnsSubdomain,

			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"], endpointsText),
			registry.AgeColumn(),
		},
	}
}

func checkEndpoints(e *check.Errors, ep *corev1.Endpoints) {
	for i := range ep.Subsets {
		s, at := &ep.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			e.Required(at, "must specify `addresses` or `notReadyAddresses`")
		}
		for j := range s.Addresses {
			checkEndpointAddress(e, &s.Addresses[j], at.Child("addresses").Index(j))
		}
		for j := range s.NotReadyAddresses {
			checkEndpointAddress(e, &s.NotReadyAddresses[j], at.Child("notReadyAddresses").Index(j))
		}
		for j := range s.Ports {
			checkEndpointPort(e, &s.Ports[j], len(s.Ports) > 1, at.Child("ports").Index(j))
		}
	}
}

func checkEndpointAddress(e *check.Errors, a *corev1.EndpointAddress, at *field.Path) {
	if e.IP(at.Child("ip"), a.IP) {
		defer e.RoutableIP(at.Child("ip"), a.IP)
	}
	if a.Hostname != "" {
		e.Label(at.Child("hostname"), a.Hostname)
	}
	if a.NodeName != nil {
		e.Name(at.Child("nodeName"), *a.NodeName, dnsSubdomain)
	}
}

func checkEndpointPort(e *check.Errors, p *corev1.EndpointPort, needName bool, at *field.Path) {
	if p.Name != "" {
		e.Label(at.Child("name"), p.Name)
	} else if needName {
		e.Required(at.Child("name"), "")
	}
	e.Port(at.Child("port"), p.Port)
	checkProtocol(e, p.Protocol, at.Child("protocol"))
	if p.AppProtocol != nil {
		e.QualifiedName(at.Child("appProtocol"), *p.AppProtocol)
	}
}

func checkProtocol(e *check.Errors, p corev1.Protocol, at *field.Path) {
	check.OneOf(e, at, p, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
}

// maxEndpointsShown is how many endpoints are printed before "+ n more...".
const maxEndpointsShown = 3

func endpointsText(ep *corev1.Endpoints) string {
	var shown []string
	more := false
	count := 0
	for _, s := range ep.Subsets {
		ports := s.Ports
		if len(ports) == 0 {
			ports = []corev1.EndpointPort{{}}
		}
		for _, p := range ports {
			for _, a := range s.Addresses {
				count++
				switch {
				case len(shown) == maxEndpointsShown:
					more = true
				case len(s.Ports) == 0:
					shown = append(shown, a.IP)
				default:
					shown = append(shown, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
				}
			}
		}
	}
	if len(ep.Subsets) == 0 {
		return "<none>"
	}
	text := strings.Join(shown, ",")
	if more {
		return fmt.Sprintf("%s + %d more...", text, count-maxEndpointsShown)
	}
	return text
}
