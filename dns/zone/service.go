package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// services answers names below svc: namespace, service, then an endpoint or _protocol and _port.
func (b *builder) services(l []string) bool {
	if len(l) == 0 {
		return true
	}
	if len(l) == 1 {
		return b.src.NamespaceExists(l[0])
	}
	svc, ok := b.src.Service(l[0], l[1])
	if !ok {
		return false
	}
	owner := l[1] + "." + l[0] + ".svc." + b.zone.Domain
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return len(l) == 2 && b.external(svc)
	}
	switch {
	case len(l) == 2:
		b.addresses(b.serviceAddrs(svc))
		return true
	case len(l) == 3 && strings.HasPrefix(l[2], "_"):
		return b.hasProtocol(svc, l[2]) // nothing there, but names below it
	case len(l) == 3:
		return b.endpoint(svc, l[2])
	case len(l) == 4 && strings.HasPrefix(l[2], "_") && strings.HasPrefix(l[3], "_"):
		return b.srv(svc, owner, l[2][1:], l[3][1:])
	}
	return false
}

// external adds the alias that an ExternalName service is. A name that is an address is no name.
func (b *builder) external(svc *corev1.Service) bool {
	target := dns.Fqdn(strings.ToLower(svc.Spec.ExternalName))
	if _, err := netip.ParseAddr(svc.Spec.ExternalName); err == nil {
		return true
	}
	if _, ok := dns.IsDomainName(target); !ok || target == "." {
		return true
	}
	b.add(&dns.CNAME{Hdr: header(b.q.Name, dns.TypeCNAME), Target: target})
	if !b.asks(dns.TypeCNAME) {
		b.target = target
	}
	return true
}

func headless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }

// ClusterAddrs are the addresses of a service that is not headless.
func ClusterAddrs(svc *corev1.Service) []netip.Addr {
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP}
	}
	var out []netip.Addr
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func (b *builder) serviceAddrs(svc *corev1.Service) []netip.Addr {
	if !headless(svc) {
		return ClusterAddrs(svc)
	}
	var out []netip.Addr
	for _, e := range b.endpoints(svc) {
		out = append(out, e.addr)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// endpoint is a ready endpoint of a service.
type endpoint struct {
	name  string // its label in the service's domain
	addr  netip.Addr
	ports []discoveryv1.EndpointPort
}

// endpoints lists the ready endpoints of a service, in the order of their slices' names, so that answers are stable.
func (b *builder) endpoints(svc *corev1.Service) []endpoint {
	found := b.src.Slices(svc.Namespace, svc.Name)
	found = slices.SortedFunc(slices.Values(found), func(x, y *discoveryv1.EndpointSlice) int {
		return strings.Compare(x.Name, y.Name)
	})
	var out []endpoint
	for _, s := range found {
		for i := range s.Endpoints {
			if addr, name, ok := ready(&s.Endpoints[i]); ok {
				out = append(out, endpoint{name, addr, s.Ports})
			}
		}
	}
	return out
}

// ready reads an endpoint that may be published. One that is not ready is published by its controller as ready if the
// service asks for that, so nothing else is to be looked at here.
func ready(e *discoveryv1.Endpoint) (addr netip.Addr, name string, ok bool) {
	if len(e.Addresses) == 0 || e.Conditions.Ready != nil && !*e.Conditions.Ready {
		return addr, "", false
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return addr, "", false
	}
	addr = addr.Unmap()
	if e.Hostname != nil && *e.Hostname != "" {
		return addr, strings.ToLower(*e.Hostname), true
	}
	return addr, dash(addr), true
}

// EndpointAddrs are the addresses of a slice's ready endpoints.
func EndpointAddrs(s *discoveryv1.EndpointSlice) []netip.Addr {
	var out []netip.Addr
	for i := range s.Endpoints {
		if a, _, ok := ready(&s.Endpoints[i]); ok {
			out = append(out, a)
		}
	}
	return out
}

// endpoint adds the addresses of the endpoints with that name, of which there can be several: one per family, say.
func (b *builder) endpoint(svc *corev1.Service, name string) bool {
	var addrs []netip.Addr
	for _, e := range b.endpoints(svc) {
		if e.name == name {
			addrs = append(addrs, e.addr)
		}
	}
	exists := len(addrs) > 0
	slices.SortFunc(addrs, netip.Addr.Compare)
	b.addresses(slices.Compact(addrs))
	return exists
}

// ports lists the named ports of a service as (lower-case protocol, name, number).
type port struct {
	protocol, name string
	number         uint16
}

func servicePorts(svc *corev1.Service) []port {
	var out []port
	for _, p := range svc.Spec.Ports {
		proto := p.Protocol
		if proto == "" {
			proto = corev1.ProtocolTCP
		}
		if p.Name != "" {
			out = append(out, port{strings.ToLower(string(proto)), strings.ToLower(p.Name), uint16(p.Port)})
		}
	}
	return out
}

func endpointPorts(ports []discoveryv1.EndpointPort) []port {
	var out []port
	for _, p := range ports {
		proto := corev1.ProtocolTCP
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		if p.Name != nil && *p.Name != "" && p.Port != nil {
			out = append(out, port{strings.ToLower(string(proto)), strings.ToLower(*p.Name), uint16(*p.Port)})
		}
	}
	return out
}

func (b *builder) hasProtocol(svc *corev1.Service, label string) bool {
	return slices.ContainsFunc(servicePorts(svc), func(p port) bool { return "_"+p.protocol == label })
}

// srv adds the places of a named port. With a cluster address there is one; a headless service has one for each ready
// endpoint, whose own port number counts.
func (b *builder) srv(svc *corev1.Service, owner, protocol, name string) bool {
	exists := false
	place := func(target string, number uint16, addrs ...netip.Addr) {
		exists = true
		if !b.asks(dns.TypeSRV) {
			return
		}
		b.add(&dns.SRV{Hdr: header(b.q.Name, dns.TypeSRV), Target: target, Port: number})
		for _, a := range addrs {
			b.extra = append(b.extra, address(target, a))
		}
	}
	if !headless(svc) {
		for _, p := range servicePorts(svc) {
			if p.protocol == protocol && p.name == name {
				place(owner, p.number, ClusterAddrs(svc)...)
			}
		}
	} else {
		type spot struct {
			target string
			port   uint16
		}
		seen := map[spot]bool{} // one target and port once, with the addresses of both families
		for _, e := range b.endpoints(svc) {
			for _, p := range endpointPorts(e.ports) {
				if p.protocol != protocol || p.name != name {
					continue
				}
				target := e.name + "." + owner
				if at := (spot{target, p.number}); !seen[at] {
					seen[at] = true
					place(target, p.number, e.addr)
				} else if b.asks(dns.TypeSRV) {
					b.extra = append(b.extra, address(target, e.addr))
				}
			}
		}
	}
	// All records weigh the same, and together about what one record may.
	for _, rr := range b.records {
		rr.(*dns.SRV).Weight = uint16(max(1, 100/len(b.records)))
	}
	if headless(svc) && !exists {
		return slices.ContainsFunc(servicePorts(svc), func(p port) bool { return p.protocol == protocol && p.name == name })
	}
	return exists
}
