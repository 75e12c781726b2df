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
	hairpins map[netip.Addr]int
	shapes   map[shape]int  // how many services use it
	dirty    map[place]bool // changed since the last comparison; not kept up while everything is to be compared anyway
}

func newState() *state {
	return &state{
		services: map[string]need{}, want: elements{}, hairpins: map[netip.Addr]int{},
		shapes: map[shape]int{}, dirty: map[place]bool{},
	}
}

// elementsPerService is what most services need: a frontend and two endpoints, to make maps of the right size at once.
const elementsPerService = 3

// update brings the wanted state up to date with the set for the named services; all says that delta will compare
// everything. No two services need the same element: the set gives an address to one of them, and names both when it
// changes hands.
func (s *state) update(set *plan.Set, keys []string, all bool) {
	if len(s.services) == 0 {
		s.services = make(map[string]need, len(keys))
		s.want = make(elements, elementsPerService*len(keys))
	}
	mark := func(p place) {
		if !all {
			s.dirty[p] = true
		}
	}
	// All removals come first: within one update an address may move from one service to another.
	for _, key := range keys {
		old := s.services[key]
		for _, e := range old.elements {
			delete(s.want, e.place)
			mark(e.place)
		}
		for _, a := range old.hairpin {
			if s.hairpins[a]--; s.hairpins[a] == 0 {
				delete(s.hairpins, a)
				delete(s.want, hairpin(a))
				mark(hairpin(a))
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
		for _, e := range n.elements {
			s.want[e.place] = e.data
			mark(e.place)
		}
		for _, a := range n.hairpin {
			if s.hairpins[a]++; s.hairpins[a] == 1 {
				s.want[hairpin(a)] = ""
				mark(hairpin(a))
			}
		}
		for sh := range n.shapes {
			s.shapes[sh]++
		}
		s.services[key] = n
	}
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
	d.add = make([]place, 0, max(0, len(s.want)-len(have)))
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
