package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoint is one address and port behind a service port, before it is decided whether it serves.
type endpoint struct {
	addr        netip.AddrPort
	node        string
	ready       bool
	serving     bool
	terminating bool
	zones       []string // hints.forZones
	nodes       []string // hints.forNodes
}

// collect merges the slices of a family into one sorted list for one service port. An endpoint in two slices at once
// (it happens while slices are repacked) counts once, in its better state.
func collect(eps []*discoveryv1.EndpointSlice, port *corev1.ServicePort, family Family) []endpoint {
	found := map[netip.AddrPort]endpoint{}
	for _, slice := range eps {
		if slice.AddressType != discoveryv1.AddressType(family.String()) {
			continue
		}
		for _, number := range portNumbers(slice, port) {
			for i := range slice.Endpoints {
				e := &slice.Endpoints[i]
				if len(e.Addresses) == 0 {
					continue
				}
				// By the API, further addresses are alternatives of the same endpoint; consumers take the first.
				a, err := netip.ParseAddr(e.Addresses[0])
				if err != nil || a.Zone() != "" || a.IsUnspecified() || Of(a.Unmap()) != family {
					continue
				}
				n := describe(e, netip.AddrPortFrom(a.Unmap(), number))
				if old, twice := found[n.addr]; !twice || rank(n) > rank(old) {
					found[n.addr] = n
				}
			}
		}
	}
	out := make([]endpoint, 0, len(found))
	for _, e := range found {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b endpoint) int { return a.addr.Compare(b.addr) })
	return out
}

// portNumbers finds the slice's ports for a service port: same name, same protocol.
func portNumbers(slice *discoveryv1.EndpointSlice, port *corev1.ServicePort) []uint16 {
	var out []uint16
	for _, p := range slice.Ports {
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			continue
		}
		name, proto := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		if name == port.Name && proto == protocol(port.Protocol) {
			out = append(out, uint16(*p.Port))
		}
	}
	return out
}

// describe reads the conditions with the API's defaults: an unknown ready is ready, an unknown serving is ready.
func describe(e *discoveryv1.Endpoint, addr netip.AddrPort) endpoint {
	out := endpoint{addr: addr, ready: true}
	if e.NodeName != nil {
		out.node = *e.NodeName
	}
	if c := e.Conditions.Ready; c != nil {
		out.ready = *c
	}
	out.serving = out.ready
	if c := e.Conditions.Serving; c != nil {
		out.serving = *c
	}
	if c := e.Conditions.Terminating; c != nil {
		out.terminating = *c
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.zones = append(out.zones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			out.nodes = append(out.nodes, n.Name)
		}
	}
	return out
}

// rank orders the states of one endpoint seen twice.
func rank(e endpoint) int {
	switch {
	case e.ready:
		return 2
	case e.serving:
		return 1
	}
	return 0
}

// pool picks the endpoints that serve among those that belong: the ready ones, or, if there are none, those that are on
// their way out but still answer.
func pool(all []endpoint, belongs func(endpoint) bool) []netip.AddrPort {
	var ready, leaving []netip.AddrPort
	for _, e := range all {
		switch {
		case !belongs(e):
		case e.ready:
			ready = append(ready, e.addr)
		case e.serving && e.terminating:
			leaving = append(leaving, e.addr)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return leaving
}

// narrow applies topology hints to the ready endpoints; nil means that they do not apply. Hints by node are closer than
// hints by zone. One ready endpoint without a hint voids its type: the controller is then between two distributions.
func narrow(all []endpoint, node Node) []netip.AddrPort {
	byNode := hinted(all, node.Name, func(e endpoint) []string { return e.nodes })
	if byNode != nil {
		return byNode
	}
	return hinted(all, node.Zone, func(e endpoint) []string { return e.zones })
}

func hinted(all []endpoint, here string, hints func(endpoint) []string) []netip.AddrPort {
	if here == "" {
		return nil
	}
	var out []netip.AddrPort
	for _, e := range all {
		if !e.ready {
			continue
		}
		h := hints(e)
		if len(h) == 0 {
			return nil
		}
		if slices.Contains(h, here) {
			out = append(out, e.addr)
		}
	}
	return out
}

// readyHere counts the distinct addresses of ready endpoints on this node, whatever their port.
func readyHere(eps []*discoveryv1.EndpointSlice, node string, family Family) int {
	seen := map[string]bool{}
	for _, slice := range eps {
		if slice.AddressType != discoveryv1.AddressType(family.String()) {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			if ready && e.NodeName != nil && *e.NodeName == node && len(e.Addresses) > 0 {
				seen[e.Addresses[0]] = true
			}
		}
	}
	return len(seen)
}
