package plan

import (
	"net/netip"
	"slices"
)

// Flow is a connection as the kernel tracks it: what the client sent to, and who answers.
type Flow struct {
	Protocol Protocol
	To       netip.AddrPort // destination as the client sees it
	From     netip.AddrPort // source of the answers: the endpoint, if the flow was translated
	ToHost   bool           // To is an address of this host
}

// Stale says that a tracked flow goes where the rules would not send a new one any more. UDP has no connections that end:
// while a client keeps sending from one port, its packets follow the first decision, to an endpoint that is gone, or,
// if the first came before the service had endpoints, to nowhere. Such entries have to be removed; those of TCP end by
// themselves and may finish with a terminating endpoint.
func (s *Set) Stale(f Flow) bool {
	place := Address{Addr: f.To.Addr(), Port: f.To.Port(), Protocol: f.Protocol}
	owners := s.claims[place]
	translated := f.From != f.To
	if len(owners) == 0 {
		// Without a service address, only a packet to this host, or one that was translated, can be a node port's.
		if !f.ToHost {
			return false
		}
		place.Addr = s.Family.Unspecified()
		if owners = s.claims[place]; len(owners) == 0 {
			return false
		}
	}
	for _, p := range s.services[owners[0]].Ports {
		for _, fe := range p.Frontends {
			if fe.Address != place || fe.Shadowed {
				continue
			}
			if !translated {
				return len(p.Cluster)+len(p.Local) > 0
			}
			return !slices.Contains(p.Cluster, f.From) && !slices.Contains(p.Local, f.From)
		}
	}
	return false
}

// HasUDP says whether a service has a UDP port in the set: whether its change can leave stale flows.
func (s Service) HasUDP() bool {
	return slices.ContainsFunc(s.Ports, func(p Port) bool { return p.Protocol == "UDP" })
}
