// Package discovery is discovery.k8s.io/v1.
package discovery

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{endpointSlices()} }

func endpointSlices() *registry.Resource {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	return &registry.Resource{
		Kind: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), Plural: "endpointslices", Singular: "endpointslice",
		Namespaced: true, KeyPrefix: "/registry/endpointslices/",
		New:     func() registry.Object { return &discoveryv1.EndpointSlice{} },
		NewList: func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(s *discoveryv1.EndpointSlice) {
				for i := range s.Ports {
					setIfNil(&s.Ports[i].Name, "")
					setIfNil(&s.Ports[i].Protocol, corev1.ProtocolTCP)
				}
			}),
			PrepareCreate: registry.On(func(s *discoveryv1.EndpointSlice) { dropTopology(s, nil) }),
			PrepareUpdate: registry.OnChange(dropTopology),
			Validate:      registry.Checks(checkSlice),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, s, old *discoveryv1.EndpointSlice) {
				checkSlice(e, s)
				e.Immutable(field.NewPath("addressType"), s.AddressType, old.AddressType)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(s, old *discoveryv1.EndpointSlice) bool {
				return !equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) || !equality.Semantic.DeepEqual(s.Ports, old.Ports) ||
					s.AddressType != old.AddressType || !equality.Semantic.DeepEqual(s.Labels, old.Labels)
			}),

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("AddressType", doc["addressType"], func(s *discoveryv1.EndpointSlice) string { return string(s.AddressType) }),
			registry.Text("Ports", doc["ports"], slicePorts),
			registry.Text("Endpoints", doc["endpoints"], sliceEndpoints),
			registry.AgeColumn(),
		},
	}
}

func setIfNil[T any](dst **T, value T) {
	if *dst == nil {
		*dst = &value
	}
}

// dropTopology drops what v1 does not let a client write, unless the endpoints are those of before. An endpoint that was
// known by the deprecated field to be on a node gets that as its node name, so that a partial update does not lose it.
func dropTopology(s, old *discoveryv1.EndpointSlice) {
	nodes := sets.New[string]()
	if old != nil {
		if equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
			return
		}
		for i := range old.Endpoints {
			if name, ok := old.Endpoints[i].DeprecatedTopology[corev1.LabelHostname]; ok {
				nodes.Insert(name)
			}
		}
	}
	for i := range s.Endpoints {
		ep := &s.Endpoints[i]
		name, ok := ep.DeprecatedTopology[corev1.LabelHostname]
		if ep.NodeName == nil && ok && nodes.Has(name) && len(apivalidation.NameIsDNSSubdomain(name, false)) == 0 {
			ep.NodeName = &name
		}
		ep.DeprecatedTopology = nil
	}
}

// The bounds of a slice.
const (
	maxPorts        = 20000
	maxEndpoints    = 1000
	maxAddresses    = 100
	maxZoneHints    = 8
	maxTopologyKeys = 16
)

func checkSlice(e *check.Errors, s *discoveryv1.EndpointSlice) {
	checkEndpoints(e, s, field.NewPath("endpoints"))
	checkPorts(e, s.Ports, field.NewPath("ports"))
	check.OneOf(e, field.NewPath("addressType"), s.AddressType,
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
}

func checkEndpoints(e *check.Errors, s *discoveryv1.EndpointSlice, at *field.Path) {
	if len(s.Endpoints) > maxEndpoints {
		e.Add(field.TooMany(at, len(s.Endpoints), maxEndpoints))
		return
	}
	for i := range s.Endpoints {
		ep, here := &s.Endpoints[i], at.Index(i)
		addresses := here.Child("addresses")
		if len(ep.Addresses) == 0 {
			e.Required(addresses, "must contain at least 1 address")
		} else if len(ep.Addresses) > maxAddresses {
			e.Add(field.TooMany(addresses, len(ep.Addresses), maxAddresses))
		}
		for j, a := range ep.Addresses {
			checkAddress(e, s.AddressType, a, addresses, j)
		}
		if ep.NodeName != nil {
			e.Name(here.Child("nodeName"), *ep.NodeName, apivalidation.NameIsDNSSubdomain)
		}
		checkTopology(e, ep.DeprecatedTopology, here.Child("deprecatedTopology"))
		if ep.Hostname != nil {
			e.Label(here.Child("hostname"), *ep.Hostname)
		}
		if ep.Hints != nil {
			checkHints(e, ep.Hints, here.Child("hints"))
		}
	}
}

// checkAddress checks the i-th of the addresses at list.
func checkAddress(e *check.Errors, t discoveryv1.AddressType, a string, list *field.Path, i int) {
	at := list.Index(i)
	switch t {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
		if !e.IP(at, a) {
			return
		}
		if strings.Contains(a, ":") != (t == discoveryv1.AddressTypeIPv6) {
			e.Invalid(list, a, fmt.Sprintf("must be an %s address", t))
		}
		e.RoutableIP(at, a)
	case discoveryv1.AddressTypeFQDN:
		e.Subdomain(at, a)
	}
}

func checkTopology(e *check.Errors, topology map[string]string, at *field.Path) {
	if len(topology) > maxTopologyKeys {
		e.Add(field.TooMany(at, len(topology), maxTopologyKeys))
	}
	e.Labels(at, topology)
	if _, set := topology["topology.kubernetes.io/zone"]; set {
		e.Invalid(at.Key(corev1.LabelTopologyZone), topology[corev1.LabelTopologyZone], "must use zone field instead")
	}
	if _, set := topology[corev1.LabelHostname]; set {
		e.Invalid(at.Key(corev1.LabelHostname), topology[corev1.LabelHostname], "must use nodeName field instead")
	}
}

func checkHints(e *check.Errors, h *discoveryv1.EndpointHints, at *field.Path) {
	zones, nodes := at.Child("forZones"), at.Child("forNodes")
	if len(h.ForZones) > maxZoneHints {
		e.Add(field.TooMany(zones, len(h.ForZones), maxZoneHints))
		return
	}
	seen := sets.New[string]()
	for i, z := range h.ForZones {
		here := zones.Index(i).Child("name")
		if seen.Has(z.Name) {
			e.Duplicate(here, z.Name)
		} else {
			e.Add(labelValue(z.Name, here)...)
		}
		seen.Insert(z.Name)
	}
	if len(h.ForNodes) > maxZoneHints {
		e.Add(field.TooMany(nodes, len(h.ForNodes), maxZoneHints))
		return
	}
	seen = sets.New[string]()
	for i, n := range h.ForNodes {
		here := nodes.Index(i).Child("name")
		if seen.Has(n.Name) {
			e.Duplicate(here, n.Name)
		} else {
			e.Name(here, n.Name, apivalidation.NameIsDNSSubdomain)
		}
		seen.Insert(n.Name)
	}
}

func labelValue(value string, at *field.Path) field.ErrorList {
	var e check.Errors
	e.Labels(at, map[string]string{"zone": value})
	for _, err := range e.List {
		err.Field = at.String()
	}
	return e.List
}

func checkPorts(e *check.Errors, ports []discoveryv1.EndpointPort, at *field.Path) {
	if len(ports) > maxPorts {
		e.Add(field.TooMany(at, len(ports), maxPorts))
		return
	}
	names := sets.New[string]()
	for i, p := range ports {
		here := at.Index(i)
		if p.Name != nil {
			if *p.Name != "" {
				e.Label(here.Child("name"), *p.Name)
			}
			if names.Has(*p.Name) {
				e.Duplicate(here.Child("name"), *p.Name)
			}
			names.Insert(*p.Name)
		}
		if p.Protocol == nil {
			e.Required(here.Child("protocol"), "")
		} else {
			check.Supported(e, here.Child("protocol"), *p.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
		}
		if p.AppProtocol != nil {
			e.QualifiedName(here.Child("appProtocol"), *p.AppProtocol)
		}
	}
}

// maxShown is how much of a list a column shows before "+ n more...".
const maxShown = 3

func shown(items []string, none string) string {
	switch {
	case len(items) == 0:
		return none
	case len(items) > maxShown:
		return fmt.Sprintf("%s + %d more...", strings.Join(items[:maxShown], ","), len(items)-maxShown)
	}
	return strings.Join(items, ",")
}

func slicePorts(s *discoveryv1.EndpointSlice) string {
	var list []string
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			list = append(list, fmt.Sprint(*p.Port))
		case p.Name != nil:
			list = append(list, *p.Name)
		default:
			list = append(list, "*")
		}
	}
	return shown(list, "<unset>")
}

func sliceEndpoints(s *discoveryv1.EndpointSlice) string {
	var list []string
	for _, ep := range s.Endpoints {
		list = append(list, ep.Addresses...)
	}
	return shown(list, "<unset>")
}
