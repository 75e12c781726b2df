package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// proxyNameLabel hands a service over to another proxy; its presence, whatever its value, means "not this one".
const proxyNameLabel = "service.kubernetes.io/service-proxy-name"

// sourceRangesAnnotation is the older spelling of spec.loadBalancerSourceRanges; the field wins.
const sourceRangesAnnotation = "service.beta.kubernetes.io/load-balancer-source-ranges"

// defaultAffinitySeconds is the API's default for sessionAffinityConfig.clientIP.timeoutSeconds.
const defaultAffinitySeconds = 10800

// ForService plans one service in one family. The slices are those that belong to the service, of any family and in any
// order. The result shares nothing with the arguments.
func ForService(svc *corev1.Service, eps []*discoveryv1.EndpointSlice, node Node, family Family) Service {
	out := Service{Key: svc.Namespace + "/" + svc.Name}
	if !proxied(svc) {
		return out
	}
	c := compiler{svc: svc, node: node, family: family}
	hairpin := map[netip.Addr]bool{}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		frontends := c.frontends(port)
		if len(frontends) == 0 {
			continue
		}
		p := Port{
			Service: out.Key, Name: port.Name, Protocol: protocol(port.Protocol),
			AffinitySeconds: affinity(svc), Frontends: frontends,
		}
		endpoints := collect(eps, port, family)
		p.Cluster = pool(endpoints, func(e endpoint) bool { return true })
		if c.needsLocal() {
			p.Local = pool(endpoints, func(e endpoint) bool { return e.node == node.Name })
		}
		if hinted := narrow(endpoints, node); hinted != nil {
			p.Cluster = hinted
		}
		for _, e := range endpoints {
			if e.node == node.Name && (e.ready || e.serving) {
				hairpin[e.addr.Addr()] = true
			}
		}
		out.Ports = append(out.Ports, p)
	}
	slices.SortFunc(out.Ports, func(a, b Port) int { return cmp.Compare(a.ID(), b.ID()) })
	out.Hairpin = sortedAddrs(hairpin)
	if port := svc.Spec.HealthCheckNodePort; port > 0 && len(out.Ports) > 0 && externalLocal(svc) {
		out.Health = HealthCheck{Port: uint16(port), Endpoints: readyHere(eps, node.Name, family)}
	}
	return out
}

// proxied says whether this proxy is in charge of the service.
func proxied(svc *corev1.Service) bool {
	if _, other := svc.Labels[proxyNameLabel]; other {
		return false
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	return svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone
}

type compiler struct {
	svc    *corev1.Service
	node   Node
	family Family
}

func externalLocal(svc *corev1.Service) bool {
	return svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal &&
		(svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer ||
			len(svc.Spec.ExternalIPs) > 0)
}

func internalLocal(svc *corev1.Service) bool {
	return svc.Spec.InternalTrafficPolicy != nil &&
		*svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
}

func (c compiler) needsLocal() bool { return externalLocal(c.svc) || internalLocal(c.svc) }

// frontends lists the addresses of one service port in the compiler's family.
func (c compiler) frontends(port *corev1.ServicePort) []Frontend {
	var out []Frontend
	add := func(f Frontend) {
		f.Protocol = protocol(port.Protocol)
		if f.Addr.IsValid() && Of(f.Addr) == c.family && f.Port != 0 {
			out = append(out, f)
		}
	}
	spec := &c.svc.Spec
	ips := spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{spec.ClusterIP}
	}
	for _, ip := range ips {
		add(Frontend{Kind: ClusterIP, Address: at(ip, port.Port), LocalOnly: internalLocal(c.svc)})
	}
	// An address family that the service does not have gets no node port either.
	inFamily := len(out) > 0
	local := externalLocal(c.svc)
	if c.node.AllowExternalIPs {
		for _, ip := range spec.ExternalIPs {
			add(Frontend{Kind: ExternalIP, Address: at(ip, port.Port), LocalOnly: local})
		}
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		restricted, sources := c.sources()
		for _, ing := range c.svc.Status.LoadBalancer.Ingress {
			if ing.IP == "" || (ing.IPMode != nil && *ing.IPMode != corev1.LoadBalancerIPModeVIP) {
				continue
			}
			add(Frontend{
				Kind: LoadBalancer, Address: at(ing.IP, port.Port), LocalOnly: local,
				Restricted: restricted, Sources: sources,
			})
		}
	}
	if inFamily && port.NodePort > 0 &&
		(spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer) {
		add(Frontend{
			Kind: NodePort, LocalOnly: local,
			Address: Address{Addr: c.family.Unspecified(), Port: uint16(port.NodePort)},
		})
	}
	slices.SortFunc(out, func(a, b Frontend) int { return a.Compare(b.Address) })
	// One address listed twice (say, as external and as load balancer address) is one frontend.
	return slices.CompactFunc(out, func(a, b Frontend) bool { return a.Address == b.Address })
}

// sources reads the load balancer's source ranges. A service that has ranges, but none in this family, admits nobody in
// this family: a restriction must never turn into its opposite.
func (c compiler) sources() (restricted bool, out []netip.Prefix) {
	ranges := c.svc.Spec.LoadBalancerSourceRanges
	if text := strings.TrimSpace(c.svc.Annotations[sourceRangesAnnotation]); len(ranges) == 0 && text != "" {
		ranges = strings.Split(text, ",")
	}
	for _, r := range ranges {
		p, err := netip.ParsePrefix(strings.TrimSpace(r))
		if err != nil || Of(p.Addr()) != c.family {
			continue
		}
		if p.Bits() == 0 {
			return false, nil
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return len(ranges) > 0, slices.Compact(out)
}

func at(ip string, port int32) Address {
	a, err := netip.ParseAddr(strings.TrimSpace(ip))
	if err != nil || port < 1 || port > 65535 || a.Zone() != "" || a.IsUnspecified() {
		return Address{}
	}
	return Address{Addr: a.Unmap(), Port: uint16(port)}
}

func protocol(p corev1.Protocol) Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func affinity(svc *corev1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil &&
		*c.ClientIP.TimeoutSeconds > 0 {
		return *c.ClientIP.TimeoutSeconds
	}
	return defaultAffinitySeconds
}

func sortedAddrs(set map[netip.Addr]bool) []netip.Addr {
	out := make([]netip.Addr, 0, len(set))
	for a := range set {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
