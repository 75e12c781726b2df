package core

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// network is the cluster's view of service addresses and node ports.
type network struct {
	primary corev1.IPFamily
	cidrs   map[corev1.IPFamily]netip.Prefix
	ports   PortRange
}

func serviceNetwork(c Config) *network {
	n := &network{cidrs: map[corev1.IPFamily]netip.Prefix{}, ports: c.NodePorts}
	for _, cidr := range c.ServiceCIDRs {
		family := corev1.IPv4Protocol
		if cidr.Addr().Is6() {
			family = corev1.IPv6Protocol
		}
		if n.primary == "" {
			n.primary = family
		}
		n.cidrs[family] = cidr.Masked()
	}
	return n
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// allocate is the Service's Strategy.Allocate.
func (n *network) allocate(obj, oldObj registry.Object, pick registry.Picker) field.ErrorList {
	s := obj.(*corev1.Service)
	old, _ := oldObj.(*corev1.Service)
	var e check.Errors
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		if n.fillFamilies(&e, s, old); len(e.List) > 0 {
			return e.List
		}
		if !headless(s) {
			n.fillClusterIPs(&e, s, old, pick)
		}
	}
	n.fillNodePorts(&e, s, old, pick)
	n.fillHealthCheckPort(&e, s, old, pick)
	return e.List
}

// fillFamilies settles ipFamilyPolicy and ipFamilies (KEP-563), as far as the addresses and the cluster decide them.
func (n *network) fillFamilies(e *check.Errors, s, old *corev1.Service) {
	if n.unchangedPreference(s, old) {
		return
	}
	spec := field.NewPath("spec")
	unselected := s.Spec.ClusterIP == corev1.ClusterIPNone && len(s.Spec.Selector) == 0
	if s.Spec.IPFamilyPolicy == nil {
		switch {
		case old != nil && old.Spec.IPFamilyPolicy != nil:
			s.Spec.IPFamilyPolicy = new(*old.Spec.IPFamilyPolicy)
		case unselected:
			s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
		default:
			s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
		}
	}
	if checkClusterIPs(e, s); len(e.List) > 0 {
		return
	}
	single := singleStack(s)
	n.checkPolicyChange(e, s, old, single, spec.Child("ipFamilyPolicy"))
	for i, ip := range s.Spec.ClusterIPs {
		if ip == corev1.ClusterIPNone || i < len(s.Spec.IPFamilies) {
			continue
		}
		family := familyOf(ip)
		if _, served := n.cidrs[family]; !served {
			e.Invalid(spec.Child("clusterIPs").Index(i), s.Spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", family))
			continue
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, family)
	}
	if len(e.List) > 0 {
		return
	}
	if !unselected {
		n.checkServed(e, s, spec)
	}
	if len(e.List) > 0 {
		return
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{n.primary}
	}
	if !single && len(s.Spec.IPFamilies) == 1 && (unselected || len(n.cidrs) == 2) {
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, otherFamily(s.Spec.IPFamilies[0]))
	}
}

// unchangedPreference: a service that prefers dual stack is not moved by a change of the cluster, only by one of its own.
func (n *network) unchangedPreference(s, old *corev1.Service) bool {
	if old == nil || s.Spec.IPFamilyPolicy == nil || *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyPreferDualStack ||
		!same(s.Spec.IPFamilyPolicy, old.Spec.IPFamilyPolicy) || old.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	return s.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) &&
		slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies)
}

func (n *network) checkPolicyChange(e *check.Errors, s, old *corev1.Service, single bool, at *field.Path) {
	if old != nil && single {
		if len(s.Spec.ClusterIPs) > 1 && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
			s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1]
		}
		if len(s.Spec.IPFamilies) > 1 && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = s.Spec.IPFamilies[:1]
		}
	}
	if old != nil && !single {
		if n := len(s.Spec.ClusterIPs); n > 0 && n < len(old.Spec.ClusterIPs) && s.Spec.ClusterIPs[0] == old.Spec.ClusterIPs[0] {
			e.Invalid(at, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP")
		}
		if n := len(s.Spec.IPFamilies); n > 0 && n < len(old.Spec.IPFamilies) && s.Spec.IPFamilies[0] == old.Spec.IPFamilies[0] {
			e.Invalid(at, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family")
		}
	}
	if single {
		if len(s.Spec.ClusterIPs) == 2 {
			e.Invalid(at, s.Spec.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified")
		}
		if len(s.Spec.IPFamilies) == 2 {
			e.Invalid(at, s.Spec.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified")
		}
	}
}

func (n *network) checkServed(e *check.Errors, s *corev1.Service, spec *field.Path) {
	if *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(n.cidrs) < 2 {
		e.Invalid(spec.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services")
	}
	for i, family := range s.Spec.IPFamilies {
		if _, served := n.cidrs[family]; !served {
			e.Invalid(spec.Child("ipFamilies").Index(i), family, "not configured on this cluster")
		}
	}
}

func otherFamily(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func (n *network) fillClusterIPs(e *check.Errors, s, old *corev1.Service, pick registry.Picker) {
	at := field.NewPath("spec", "clusterIPs")
	for i, family := range s.Spec.IPFamilies {
		if i < len(s.Spec.ClusterIPs) {
			if old != nil && slices.Contains(old.Spec.ClusterIPs, s.Spec.ClusterIPs[i]) {
				continue
			}
			ip, err := netip.ParseAddr(s.Spec.ClusterIPs[i])
			networks := n.networks(family, pick)
			if len(networks) > 0 && (err != nil || !slices.ContainsFunc(networks, func(cidr netip.Prefix) bool { return usable(cidr, ip) })) {
				e.Invalid(at, s.Spec.ClusterIPs, fmt.Sprintf(
					"failed to allocate IP %s: the provided network does not match the current range", s.Spec.ClusterIPs[i]))
			}
			continue
		}
		ip, ok := pickFromAny(n.networks(family, pick), pick)
		if !ok {
			e.Add(field.InternalError(at, fmt.Errorf("failed to allocate a serviceIP: range is full")))
			return
		}
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, ip.String())
	}
	if len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
}

// maxCIDRSize bounds how much of a network is used: 2^20 addresses, as large as kube-apiserver's largest (a /12 or a /108).
const maxCIDRSize = 1 << 20

// hosts returns how many addresses of a network can be given out; address number 0 is the first after the network's own.
func hosts(cidr netip.Prefix) int {
	bits := cidr.Addr().BitLen() - cidr.Bits()
	size := maxCIDRSize
	if bits < 20 {
		size = 1 << bits
	}
	size-- // the network's own address
	if cidr.Addr().Is4() && bits <= 20 {
		size-- // the broadcast address
	}
	return size
}

func usable(cidr netip.Prefix, ip netip.Addr) bool {
	if !cidr.Contains(ip) || ip == cidr.Addr() {
		return false
	}
	return !cidr.Addr().Is4() || cidr.Bits() == 32 || cidr.Contains(ip.Next())
}

// networks are those that addresses of a family can be taken from: the server's own and then the ServiceCIDRs that are ready
// (KEP-1880), by name. A family that the server has no network of is not served, whatever ServiceCIDRs say.
func (n *network) networks(family corev1.IPFamily, pick registry.Picker) []netip.Prefix {
	own, served := n.cidrs[family]
	if !served {
		return nil
	}
	list := []netip.Prefix{own}
	for _, obj := range pick.Objects(networkingv1.GroupName, "servicecidrs") {
		c, ok := obj.(*networkingv1.ServiceCIDR)
		if !ok || c.DeletionTimestamp != nil || !meta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			continue
		}
		for _, text := range c.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is4() == own.Addr().Is4() && !slices.Contains(list, p.Masked()) {
				list = append(list, p.Masked())
			}
		}
	}
	return list
}

func pickFromAny(networks []netip.Prefix, pick registry.Picker) (netip.Addr, bool) {
	for _, cidr := range networks {
		if ip, ok := pickIP(cidr, pick); ok {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// pickIP takes a free address, at random from the upper part of the network and only then from the lower: people choose
// fixed addresses from the lower part, a sixteenth of the network, 16 to 256 addresses (KEP-3070).
func pickIP(cidr netip.Prefix, pick registry.Picker) (netip.Addr, bool) {
	n := hosts(cidr)
	lower := 0
	if n >= 16 {
		lower = min(max(16, n/16), 256, n)
	}
	for _, band := range [][2]int{{lower, n}, {0, lower}} {
		if ip, ok := pickFrom(cidr, band[0], band[1], pick); ok {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func pickFrom(cidr netip.Prefix, from, to int, pick registry.Picker) (netip.Addr, bool) {
	if to <= from {
		return netip.Addr{}, false
	}
	start := pick.Intn(to - from)
	for i := range to - from {
		ip := addressAt(cidr, from+(start+i)%(to-from))
		if !pick.Taken(ipClaim(ip)) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// addressAt returns address number i of a network.
func addressAt(cidr netip.Prefix, i int) netip.Addr {
	base := cidr.Addr().As16()
	sum := new(big.Int).Add(new(big.Int).SetBytes(base[:]), big.NewInt(int64(i)+1))
	var out [16]byte
	sum.FillBytes(out[:])
	ip := netip.AddrFrom16(out)
	if cidr.Addr().Is4() {
		return ip.Unmap()
	}
	return ip
}

// AddressManager is who the IPAddresses of Services say that they are managed by, as Kubernetes' allocator does.
const AddressManager = "ipallocator.k8s.io"

// ServiceAddress is the IPAddress by which everybody can see that a Service holds an address.
func ServiceAddress(s *corev1.Service, ip netip.Addr) *networkingv1.IPAddress {
	a := &networkingv1.IPAddress{}
	a.Name = ip.Unmap().String()
	a.Labels = map[string]string{
		networkingv1.LabelIPAddressFamily: string(familyOf(a.Name)), networkingv1.LabelManagedBy: AddressManager,
	}
	a.Spec.ParentRef = &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name}
	return a
}

func ipClaim(ip netip.Addr) string { return "serviceip/" + ip.Unmap().String() }

func portClaim(port int32) string { return fmt.Sprintf("nodeport/%d", port) }

func (n *network) fillNodePorts(e *check.Errors, s, old *corev1.Service, pick registry.Picker) {
	if !mayHaveNodePort(s) {
		return
	}
	at := field.NewPath("spec", "ports")
	byPort := map[int32]int32{} // one service port over several protocols shares its node port
	for i := range s.Spec.Ports {
		if p := &s.Spec.Ports[i]; p.NodePort != 0 {
			byPort[p.Port] = p.NodePort
			n.checkRange(e, p.NodePort, old, at.Index(i).Child("nodePort"))
		}
	}
	if !needsNodePort(s) {
		return
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort != 0 {
			continue
		}
		if shared := byPort[p.Port]; shared != 0 && !usesNodePort(s, p.Protocol, shared) {
			p.NodePort = shared
			continue
		}
		port, ok := n.pickPort(s, pick)
		if !ok {
			e.Add(field.InternalError(at.Index(i).Child("nodePort"), fmt.Errorf("failed to allocate a nodePort: range is full")))
			return
		}
		p.NodePort, byPort[p.Port] = port, port
	}
}

func usesNodePort(s *corev1.Service, protocol corev1.Protocol, port int32) bool {
	return slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == port && p.Protocol == protocol })
}

func (n *network) checkRange(e *check.Errors, port int32, old *corev1.Service, at *field.Path) {
	if port >= n.ports.First && port <= n.ports.Last || old != nil && slices.ContainsFunc(serviceClaims(old), func(c registry.Claim) bool {
		return c.Key == portClaim(port)
	}) {
		return
	}
	e.Invalid(at, port, fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", n.ports.First, n.ports.Last))
}

// pickPort takes a free port, at random from the upper part of the range first; people choose fixed ports from the lower
// part, a 32nd of the range, 16 to 128 ports (KEP-3668).
func (n *network) pickPort(s *corev1.Service, pick registry.Picker) (int32, bool) {
	size := int(n.ports.Last-n.ports.First) + 1
	lower := 0
	if size >= 16 {
		lower = min(max(16, size/32), 128, size)
	}
	for _, band := range [][2]int{{lower, size}, {0, lower}} {
		width := band[1] - band[0]
		if width <= 0 {
			continue
		}
		start := pick.Intn(width)
		for i := range width {
			port := n.ports.First + int32(band[0]+(start+i)%width)
			own := s.Spec.HealthCheckNodePort == port || slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == port })
			if !own && !pick.Taken(portClaim(port)) {
				return port, true
			}
		}
	}
	return 0, false
}

func (n *network) fillHealthCheckPort(e *check.Errors, s, old *corev1.Service, pick registry.Picker) {
	if !needsHealthCheckPort(s) {
		return
	}
	at := field.NewPath("spec", "healthCheckNodePort")
	if s.Spec.HealthCheckNodePort != 0 {
		n.checkRange(e, s.Spec.HealthCheckNodePort, old, at)
		return
	}
	port, ok := n.pickPort(s, pick)
	if !ok {
		e.Add(field.InternalError(at, fmt.Errorf("failed to allocate a HealthCheck NodePort %d: range is full", port)))
		return
	}
	s.Spec.HealthCheckNodePort = port
}

// serviceClaims are the addresses and ports that a service holds.
func serviceClaims(s *corev1.Service) []registry.Claim {
	var claims []registry.Claim
	take := func(c registry.Claim) {
		if !slices.ContainsFunc(claims, func(other registry.Claim) bool { return other.Key == c.Key }) {
			claims = append(claims, c)
		}
	}
	add := func(key string, at *field.Path, value any, detail string) {
		take(registry.Claim{Key: key, Field: at, Value: value, Detail: detail})
	}
	for _, text := range s.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(text); err == nil {
			take(registry.Claim{
				Key: ipClaim(ip), Field: field.NewPath("spec", "clusterIPs"), Value: s.Spec.ClusterIPs,
				Detail: fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", text),
				Shown: func() registry.Shown {
					return registry.Shown{Group: networkingv1.GroupName, Plural: "ipaddresses", Object: ServiceAddress(s, ip)}
				},
			})
		}
	}
	for i, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			add(portClaim(p.NodePort), field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort, "provided port is already allocated")
		}
	}
	if port := s.Spec.HealthCheckNodePort; port != 0 {
		add(portClaim(port), field.NewPath("spec", "healthCheckNodePort"), port, "provided port is already allocated")
	}
	return claims
}
