package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Set is the rule set of a family: every service's rules, with claims on the same address resolved. It is a plain value
// in one goroutine's hands; Put and Delete are the only ways to change it.
type Set struct {
	Family Family

	services map[string]Service
	claims   map[Address][]string // sorted keys of the services that want the address
	health   map[string]bool      // keys of the services with a health check
}

// NewSet is an empty rule set.
func NewSet(f Family) *Set {
	return &Set{Family: f, services: map[string]Service{}, claims: map[Address][]string{}, health: map[string]bool{}}
}

// Len is the number of services with rules.
func (s *Set) Len() int { return len(s.services) }

// Keys lists the services with rules, sorted.
func (s *Set) Keys() []string { return slices.Sorted(maps.Keys(s.services)) }

// HealthChecks lists the health-check answers by service.
func (s *Set) HealthChecks() map[string]HealthCheck {
	out := map[string]HealthCheck{}
	for key := range s.health {
		out[key] = s.services[key].Health
	}
	return out
}

// Service is the rules of one service; ok is false if it has none. The value is shared: do not modify it.
func (s *Set) Service(key string) (svc Service, ok bool) {
	svc, ok = s.services[key]
	return svc, ok
}

// Put replaces the rules of one service and returns the sorted keys of the services whose rules differ now: none, this
// one, or also others that lost or won an address. Putting an empty Service deletes it.
func (s *Set) Put(svc Service) []string {
	old, had := s.services[svc.Key]
	if !had && svc.Empty() {
		return nil
	}
	touched := map[string]bool{svc.Key: true}
	for a := range addresses(old) {
		s.claims[a] = slices.DeleteFunc(s.claims[a], func(k string) bool { return k == svc.Key })
		for _, k := range s.claims[a] {
			touched[k] = true
		}
		if len(s.claims[a]) == 0 {
			delete(s.claims, a)
		}
	}
	for a := range addresses(svc) {
		for _, k := range s.claims[a] {
			touched[k] = true
		}
		i, _ := slices.BinarySearch(s.claims[a], svc.Key)
		s.claims[a] = slices.Insert(s.claims[a], i, svc.Key)
	}
	delete(s.health, svc.Key)
	if svc.Health.Port > 0 {
		s.health[svc.Key] = true
	}
	if svc.Empty() {
		delete(s.services, svc.Key)
	} else {
		s.services[svc.Key] = svc
	}
	changed := make([]string, 0, len(touched))
	for key := range touched {
		before := s.services[key]
		if key == svc.Key {
			before = old
		}
		if after := s.settle(key); !after.Equal(before) {
			changed = append(changed, key)
		}
	}
	slices.Sort(changed)
	return changed
}

// Delete removes a service's rules; the result is as Put's.
func (s *Set) Delete(key string) []string { return s.Put(Service{Key: key}) }

// settle marks the frontends of one service that another one owns, on a copy, and stores it.
func (s *Set) settle(key string) Service {
	svc, ok := s.services[key]
	if !ok {
		return Service{}
	}
	svc.Ports = slices.Clone(svc.Ports)
	taken := map[Address]bool{} // two ports of one service can collide only by a broken object; the first one wins
	for i := range svc.Ports {
		fs := slices.Clone(svc.Ports[i].Frontends)
		for j := range fs {
			fs[j].Shadowed = s.claims[fs[j].Address][0] != key || taken[fs[j].Address]
			taken[fs[j].Address] = true
		}
		svc.Ports[i].Frontends = fs
	}
	s.services[key] = svc
	return svc
}

// addresses yields each address of a service once.
func addresses(svc Service) map[Address]struct{} {
	out := map[Address]struct{}{}
	for _, p := range svc.Ports {
		for _, f := range p.Frontends {
			out[f.Address] = struct{}{}
		}
	}
	return out
}

// Equal compares by value.
func (s *Set) Equal(o *Set) bool {
	return s.Family == o.Family && maps.EqualFunc(s.services, o.services, Service.Equal)
}

// String prints the rule set, sorted, one frontend a line.
func (s *Set) String() string {
	var b strings.Builder
	for _, key := range s.Keys() {
		b.WriteString(s.services[key].String())
	}
	return b.String()
}

// String prints one service's rules.
func (s Service) String() string {
	var b strings.Builder
	for _, p := range s.Ports {
		fmt.Fprintf(&b, "%s\n", p.ID())
		for _, f := range p.Frontends {
			fmt.Fprintf(&b, "  %s %s: %s\n", f.Kind, netip.AddrPortFrom(f.Addr, f.Port), p.describe(f))
		}
		fmt.Fprintf(&b, "  cluster: %s\n", list(p.Cluster))
		if len(p.Local) > 0 {
			fmt.Fprintf(&b, "  local: %s\n", list(p.Local))
		}
		if p.AffinitySeconds > 0 {
			fmt.Fprintf(&b, "  affinity: %ds\n", p.AffinitySeconds)
		}
	}
	if s.Health.Port > 0 {
		fmt.Fprintf(&b, "%s health :%d: %d\n", s.Key, s.Health.Port, s.Health.Endpoints)
	}
	if len(s.Hairpin) > 0 {
		fmt.Fprintf(&b, "%s hairpin: %v\n", s.Key, s.Hairpin)
	}
	return b.String()
}

func (p Port) describe(f Frontend) string {
	out := p.Action(f).String()
	if f.LocalOnly {
		out += " local"
	}
	if f.Restricted {
		out += fmt.Sprintf(" from %v", f.Sources)
	}
	if f.Shadowed {
		out += " (shadowed)"
	}
	return out
}

func list(eps []netip.AddrPort) string {
	if len(eps) == 0 {
		return "none"
	}
	out := make([]string, len(eps))
	for i, e := range eps {
		out[i] = e.String()
	}
	return strings.Join(out, " ")
}
