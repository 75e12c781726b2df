package nftables

import (
	"maps"
	"net/netip"
	"slices"

	"bareboat.dev/proxy/plan"
)

// state is what the kernel should hold for a rule set, kept so that one service's change costs one service's work. It is
// pure bookkeeping.
type state struct {
	services map[string]need
	want     elements
	owner    map[place]string // the service that an element is for
	hairpins map[netip.Addr]int
	shapes   map[shape]int // how many services use it
	dirty    map[place]bool
}

func newState() *state {
	return &state{
		services: map[string]need{}, want: elements{}, owner: map[place]string{}, hairpins: map[netip.Addr]int{},
		shapes: map[shape]int{}, dirty: map[place]bool{},
	}
}

// update brings the wanted state up to date with the set for the named services.
func (s *state) update(set *plan.Set, keys []string) {
	// All removals come first: within one update an address may move from one service to another.
	for _, key := range keys {
		old := s.services[key]
		for p := range old.elements {
			if s.owner[p] == key {
				s.remove(p)
			}
		}
		for _, a := range old.hairpin {
			if s.hairpins[a]--; s.hairpins[a] == 0 {
				delete(s.hairpins, a)
				s.remove(hairpin(a))
			}
		}
		for sh := range old.shapes {
			if s.shapes[sh]--; s.shapes[sh] == 0 {
				delete(s.shapes, sh)
			}
		}
		delete(s.services, key)
	}
	for _, key := range keys {
		svc, ok := set.Service(key)
		if !ok {
			continue
		}
		n := needOf(svc)
		for p, data := range n.elements {
			s.want[p], s.owner[p] = data, key
			s.dirty[p] = true
		}
		for _, a := range n.hairpin {
			if s.hairpins[a]++; s.hairpins[a] == 1 {
				s.want[hairpin(a)] = ""
				s.dirty[hairpin(a)] = true
			}
		}
		for sh := range n.shapes {
			s.shapes[sh]++
		}
		s.services[key] = n
	}
}

func (s *state) remove(p place) {
	delete(s.want, p)
	delete(s.owner, p)
	s.dirty[p] = true
}

func hairpin(a netip.Addr) place { return place{set: setHairpin, key: fieldAddr(a) + fieldAddr(a)} }

// allShapes are the shapes in use with those that they need.
func (s *state) allShapes() map[shape]bool {
	out := map[shape]bool{}
	var add func(shape)
	add = func(sh shape) {
		if !out[sh] {
			out[sh] = true
			for _, n := range sh.needs() {
				add(n)
			}
		}
	}
	for sh := range s.shapes {
		add(sh)
	}
	return out
}

// delta is one transaction's elements: what to delete, then what to add. An element whose data changed is in both.
type delta struct{ del, add []place }

// deletes says whether elements of a set go away.
func (d delta) deletes(set string) bool {
	return slices.ContainsFunc(d.del, func(p place) bool { return p.set == set })
}

// delta compares the wanted with the present elements, everywhere or where something changed.
func (s *state) delta(have elements, all bool) (d delta) {
	compare := func(p place) {
		is, exists := have[p]
		want, wanted := s.want[p]
		if exists && wanted && is == want {
			return
		}
		if exists {
			d.del = append(d.del, p)
		}
		if wanted {
			d.add = append(d.add, p)
		}
	}
	if !all {
		for p := range s.dirty {
			compare(p)
		}
		return d
	}
	for p := range s.want {
		compare(p)
	}
	for p := range have {
		if _, wanted := s.want[p]; !wanted {
			compare(p)
		}
	}
	return d
}

// settle records that the kernel now holds what was compared.
func (s *state) settle(have elements, d delta) {
	for _, p := range d.del {
		delete(have, p)
	}
	for _, p := range d.add {
		have[p] = s.want[p]
	}
	clear(s.dirty)
}

func (s *state) keys() []string {
	out := make([]string, 0, len(s.services))
	for k := range maps.Keys(s.services) {
		out = append(out, k)
	}
	return out
}
