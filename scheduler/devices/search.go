package devices

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// maxTries bounds how many choices one decision takes back, or finds against a constraint, on all nodes together: at 1 µs each they
// take 65 ms. Only constraints that many combinations of devices break come near it.
const maxTries = 1 << 16

// search looks for devices on one node for all of a pod's claims, by trying them in order and taking choices back that lead nowhere.
type search struct {
	*Demand
	node  *corev1.Node
	pools []*pool
	// chosen are the devices by claim.
	chosen [][]choice
	// taken is what the choices take, left what they leave of pools' counters.
	taken map[deviceID]*usage
	left  map[*pool]map[string]map[string]resource.Quantity
	// candidates remembers the devices that an alternative selects here.
	candidates map[*alternative][]*device
	// constraints of the claim whose requests are being met, by claim.
	constraints [][]*constraint
}

// choice is a device for an alternative.
type choice struct {
	*device
	of       *alternative
	consumed map[resourcev1.QualifiedName]resource.Quantity
}

func (d *Demand) search(node *corev1.Node) *search {
	s := &search{
		Demand: d, node: node, pools: d.table.poolsFor(node.Name), chosen: make([][]choice, len(d.pending)),
		taken: map[deviceID]*usage{}, left: map[*pool]map[string]map[string]resource.Quantity{}, candidates: map[*alternative][]*device{},
	}
	for _, p := range d.pending {
		s.constraints = append(s.constraints, constraintsOf(p.claim))
	}
	return s
}

func (s *search) run() bool { return s.claim(0) }

// claim meets the claims from the i-th on.
func (s *search) claim(i int) bool { return i == len(s.pending) || s.request(i, 0) }

// request meets a claim's requests from the j-th on, and the claims after it.
func (s *search) request(i, j int) bool {
	if j == len(s.pending[i].requests) {
		return s.claim(i + 1)
	}
	alternatives := s.pending[i].requests[j].alternatives
	for n := range alternatives {
		a := &alternatives[n]
		list, ok := s.selected(a)
		if !ok || a.all && !s.complete() {
			continue
		}
		count := a.count
		if a.all {
			count = len(list)
		}
		if count == 0 || len(s.chosen[i])+count > resourcev1.AllocationResultsMaxSize || s.available(a, list, count) < count {
			continue
		}
		if s.pick(i, j, a, list, 0, count) {
			return true
		}
	}
	return false
}

// complete tells whether all pools are as their drivers mean them: only then is it known what all devices are.
func (s *search) complete() bool {
	return !slices.ContainsFunc(s.pools, func(p *pool) bool { return p.broken })
}

// selected lists the devices that an alternative asks for and that can be used from the node; false if an expression failed.
func (s *search) selected(a *alternative) ([]*device, bool) {
	if list, ok := s.candidates[a]; ok {
		return list, true
	}
	list := []*device{}
	for _, p := range s.pools {
		if p.broken {
			continue
		}
		for _, d := range p.devices {
			if !d.reach.from(s.node) {
				continue
			}
			ok, err := a.selects(s.table, d)
			if err != nil {
				if s.Err == nil {
					s.Err = err
				}
				return nil, false
			}
			if ok && (a.all || a.tolerates(d)) {
				list = append(list, d)
			}
		}
	}
	s.candidates[a] = list
	return list, true
}

// available counts, up to enough, devices of a list that nobody has, to give up early.
func (s *search) available(a *alternative, list []*device, enough int) int {
	n := 0
	for _, d := range list {
		if d.shared() {
			return enough // how often is found out by trying
		}
		if a.admin || s.table.used[d.id] == nil {
			if n++; n >= enough {
				break
			}
		}
	}
	return n
}

// pick chooses the remaining devices of a request from the list, beginning at from, and goes on with the next request.
func (s *search) pick(i, j int, a *alternative, list []*device, from, remaining int) bool {
	if remaining == 0 {
		return s.request(i, j+1)
	}
	for n := from; n < len(list) && s.tries > 0; n++ {
		c, ok := s.take(i, a, list[n])
		if ok {
			next := n + 1
			if list[n].shared() && !a.admin && !a.all {
				next = n // it may be given once more
			}
			if s.pick(i, j, a, list, next, remaining-1) {
				return true
			}
			s.giveBack(i, c)
		}
		if a.all {
			return false // each of them is needed
		}
	}
	return false
}

// take chooses a device for a claim, if it is free and keeps the claim's constraints.
func (s *search) take(i int, a *alternative, d *device) (choice, bool) {
	c := choice{device: d, of: a}
	var ok bool
	if c.consumed, ok = a.consumption(d); !ok || a.all && !a.tolerates(d) || !s.free(i, c) {
		return c, false
	}
	if !a.admin && s.taken[d.id] == nil && s.table.used[d.id] == nil && !s.count(d, 1) {
		return c, false
	}
	for n, k := range s.constraints[i] {
		if k.add(a, d) {
			continue
		}
		s.tries--
		for _, done := range s.constraints[i][:n] {
			done.remove(a, d)
		}
		s.uncount(c)
		return c, false
	}
	if !a.admin {
		if s.taken[d.id] == nil {
			s.taken[d.id] = &usage{}
		}
		s.taken[d.id].add(c.consumed, 1)
	}
	s.chosen[i] = append(s.chosen[i], c)
	return c, true
}

// giveBack undoes take.
func (s *search) giveBack(i int, c choice) {
	s.tries--
	s.chosen[i] = s.chosen[i][:len(s.chosen[i])-1]
	if !c.of.admin {
		u := s.taken[c.id]
		if u.add(c.consumed, -1); u.allocations == 0 {
			delete(s.taken, c.id)
		}
	}
	for _, k := range s.constraints[i] {
		k.remove(c.of, c.device)
	}
	s.uncount(c)
}

// uncount gives a device's counters back when nobody has it any more.
func (s *search) uncount(c choice) {
	if !c.of.admin && s.taken[c.id] == nil && s.table.used[c.id] == nil {
		s.count(c.device, -1)
	}
}

// free tells whether a device can be chosen: nobody has it, or it is shared and has enough left. An administrator may have any, but
// only once per claim.
func (s *search) free(i int, c choice) bool {
	if c.of.admin {
		return !slices.ContainsFunc(s.chosen[i], func(other choice) bool { return other.id == c.id })
	}
	used, taken := s.table.used[c.id], s.taken[c.id]
	if c.shared() {
		return c.fits(c.consumed, used, taken)
	}
	return used == nil && taken == nil
}

// count takes what a device consumes out of its pool's counters, or puts it back with sign -1; false, and nothing is taken, if it is
// more than there is.
func (s *search) count(d *device, sign int) bool {
	if len(d.ConsumesCounters) == 0 {
		return true
	}
	left := s.counters(d)
	if sign > 0 && !enough(left, d.ConsumesCounters) {
		return false
	}
	consumeCounters(left, d.ConsumesCounters, sign)
	return true
}

func consumeCounters(left map[string]map[string]resource.Quantity, consumed []resourcev1.DeviceCounterConsumption, sign int) {
	for _, set := range consumed {
		counters := left[set.CounterSet]
		for name, c := range set.Counters {
			q, ok := counters[name]
			if !ok {
				continue
			}
			q = q.DeepCopy()
			if sign > 0 {
				q.Sub(c.Value)
			} else {
				q.Add(c.Value)
			}
			counters[name] = q
		}
	}
}

func enough(left map[string]map[string]resource.Quantity, want []resourcev1.DeviceCounterConsumption) bool {
	for _, set := range want {
		for name, c := range set.Counters {
			if q, ok := left[set.CounterSet][name]; !ok || q.Cmp(c.Value) < 0 {
				return false
			}
		}
	}
	return true
}

// counters are what is left of the counters of a device's pool.
func (s *search) counters(d *device) map[string]map[string]resource.Quantity {
	p := s.table.pools[d.id.pool]
	if left, ok := s.left[p]; ok {
		return left
	}
	left := map[string]map[string]resource.Quantity{}
	for set, counters := range p.counters {
		left[set] = map[string]resource.Quantity{}
		for name, q := range counters {
			left[set][name] = q.DeepCopy()
		}
	}
	for _, other := range p.devices {
		if s.table.used[other.id] != nil {
			consumeCounters(left, other.ConsumesCounters, 1)
		}
	}
	s.left[p] = left
	return left
}
