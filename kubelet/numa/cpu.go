package numa

import (
	"cmp"
	"slices"
)

// CPU is a logical CPU: a thread of a core, in a socket, on a NUMA node. Cache names the last-level cache that it shares with others; -1 if
// that is not known.
type CPU struct{ ID, Core, Socket, Node, Cache int }

// CPUOptions are the options of the CPU manager's static policy, under upstream's names.
type CPUOptions struct {
	// FullCores: full-pcpus-only. Nobody shares a core; [CPUOptions.Refuse] refuses others.
	FullCores bool
	// AcrossNodes: distribute-cpus-across-numa. What one node cannot give comes from several in equal parts.
	AcrossNodes bool
	// BySocket: align-by-socket. CPUs are near if they are in the socket of a near node.
	BySocket bool
	// AcrossCores: distribute-cpus-across-cores. A container's CPUs are on as many cores as can be.
	AcrossCores bool
	// ByCache: prefer-align-cpus-by-uncorecache. A container's CPUs share their last-level cache if they can.
	ByCache bool
}

// TakeCPUs takes n of the free CPUs for one container alone, or says that there are too few: whole sockets, NUMA nodes, caches if they count,
// and cores, then threads, so that containers share as little as they can. CPUs on the near nodes come first. Threads come from cores that
// are in use already, and cores from sockets that are, so that large requests still find room. The result is sorted.
func TakeCPUs(all []CPU, free []int, n int, near Set, o CPUOptions) ([]int, bool) {
	if len(free) < n {
		return nil, false
	}
	t := &taker{o: o, all: all, free: map[int]bool{}}
	for _, id := range free {
		t.free[id] = true
	}
	if o.BySocket {
		near = sockets(all, near)
	}
	if near != 0 {
		// Far CPUs are only taken when the near ones are used up.
		may := func(c CPU) bool { return near.Has(c.Node) }
		t.take(min(n, len(t.left(may))), may)
	}
	t.take(n-len(t.taken), anywhere)
	slices.Sort(t.taken)
	return t.taken, len(t.taken) == n
}

// sockets widens a set of nodes to all nodes of their sockets.
func sockets(all []CPU, nodes Set) Set {
	in := map[int]bool{}
	for _, c := range all {
		if nodes.Has(c.Node) {
			in[c.Socket] = true
		}
	}
	for _, c := range all {
		if in[c.Socket] {
			nodes |= SetOf(c.Node)
		}
	}
	return nodes
}

type taker struct {
	o     CPUOptions
	all   []CPU
	free  map[int]bool
	taken []int
}

// group tells sockets, nodes, caches or cores apart.
type group func(CPU) [2]int

func bySocket(c CPU) [2]int { return [2]int{c.Socket, 0} }
func byNode(c CPU) [2]int   { return [2]int{c.Socket, c.Node} }
func byCache(c CPU) [2]int  { return [2]int{c.Socket, c.Cache} }
func byCore(c CPU) [2]int   { return [2]int{c.Socket, c.Core} }

func anywhere(CPU) bool { return true }

// take takes n CPUs from those that may be had.
func (t *taker) take(n int, may func(CPU) bool) {
	if t.o.AcrossNodes && t.distribute(n, may) {
		return
	}
	t.pack(n, may)
}

// pack takes n CPUs as close together as can be.
func (t *taker) pack(n int, may func(CPU) bool) {
	n = t.takeWhole(n, bySocket, may)
	n = t.takeWhole(n, byNode, may)
	if t.o.ByCache {
		n = t.takeWhole(n, byCache, may)
		may = t.oneCache(n, may)
	}
	if !t.o.AcrossCores {
		n = t.takeWhole(n, byCore, may)
	}
	t.takeSingle(n, may)
}

// takeWhole takes groups of which every CPU is free, as long as no more are wanted than they have. It returns how many are still wanted.
func (t *taker) takeWhole(n int, by group, may func(CPU) bool) int {
	size := map[[2]int]int{}
	for _, c := range t.all {
		size[by(c)]++
	}
	free := map[[2]int][]CPU{}
	for _, c := range t.left(may) {
		free[by(c)] = append(free[by(c)], c)
	}
	for _, key := range t.sorted(free) {
		if len(free[key]) == size[key] && size[key] <= n {
			for _, c := range free[key] {
				t.have(c)
			}
			n -= size[key]
		}
	}
	return n
}

// sorted are groups in the order in which they are taken: from sockets that have fewest free CPUs first, then by number.
func (t *taker) sorted(groups map[[2]int][]CPU) [][2]int {
	perSocket := t.count(bySocket, anywhere)
	var keys [][2]int
	for k := range groups {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b [2]int) int {
		return cmp.Or(cmp.Compare(perSocket[[2]int{a[0]}], perSocket[[2]int{b[0]}]), cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	return keys
}

// count is how many CPUs that may be had are left in each group.
func (t *taker) count(by group, may func(CPU) bool) map[[2]int]int {
	n := map[[2]int]int{}
	for _, c := range t.left(may) {
		n[by(c)]++
	}
	return n
}

// oneCache narrows what may be had to the cache that has just enough, if any has enough.
func (t *taker) oneCache(n int, may func(CPU) bool) func(CPU) bool {
	var best [2]int
	least := 0
	for key, free := range t.count(byCache, may) {
		if n > 0 && free >= n && (least == 0 || free < least || free == least && slices.Compare(key[:], best[:]) < 0) {
			best, least = key, free
		}
	}
	if least == 0 {
		return may
	}
	return func(c CPU) bool { return byCache(c) == best && may(c) }
}

// takeSingle takes threads: from cores with fewest free ones first, in sockets with fewest; or from cores with most, to be on as many of them
// as can be.
func (t *taker) takeSingle(n int, may func(CPU) bool) {
	for ; n > 0; n-- {
		left := t.left(may)
		if len(left) == 0 {
			return
		}
		perSocket, perCore, sign := t.count(bySocket, anywhere), t.count(byCore, may), 1
		if t.o.AcrossCores {
			sign = -1
		}
		t.have(slices.MinFunc(left, func(a, b CPU) int {
			return cmp.Or(sign*cmp.Compare(perCore[byCore(a)], perCore[byCore(b)]), cmp.Compare(perSocket[bySocket(a)], perSocket[bySocket(b)]),
				cmp.Compare(a.Socket, b.Socket), cmp.Compare(a.Core, b.Core), cmp.Compare(a.ID, b.ID))
		}))
	}
}

// distribute takes n CPUs in equal parts from as few nodes as can give them so, and leaves those as evenly filled as can be. It says whether
// that can be done; if not, it has taken nothing. What one node can give is not distributed.
func (t *taker) distribute(n int, may func(CPU) bool) bool {
	free, nodes := map[int]int{}, Set(0)
	for _, c := range t.left(may) {
		free[c.Node]++
		nodes |= SetOf(c.Node)
	}
	unit := 1
	if t.o.FullCores {
		unit = ThreadsPerCore(t.all)
	}
	var best map[int]int
	bestNodes, bestSpread := Set(0), 0
	for s := -nodes & nodes; s != 0; s = (s - nodes) & nodes {
		if s.Len() == 1 && free[s.List()[0]] >= n {
			return false
		}
		parts, spread := share(free, s, n, unit)
		if parts != nil && (best == nil || s.Len() < bestNodes.Len() || s.Len() == bestNodes.Len() && spread < bestSpread) {
			best, bestNodes, bestSpread = parts, s, spread
		}
	}
	for _, node := range bestNodes.List() {
		t.pack(best[node], func(c CPU) bool { return c.Node == node && may(c) })
	}
	return best != nil
}

// share divides n among nodes: as much to each as goes in whole units, and a unit of the rest to those that have most left; nil if they cannot
// give that. The spread is how unevenly they are filled then: the sum over all pairs of how much more one has left than the other.
func share(free map[int]int, nodes Set, n, unit int) (parts map[int]int, spread int) {
	ids := nodes.List()
	each := n / len(ids) / unit * unit
	parts = map[int]int{}
	left := func(id int) int { return free[id] - parts[id] }
	for _, id := range ids {
		parts[id] = each
	}
	rest := n - each*len(ids)
	slices.SortStableFunc(ids, func(a, b int) int { return cmp.Compare(left(b), left(a)) })
	for _, id := range ids {
		more := min(unit, rest)
		parts[id], rest = parts[id]+more, rest-more
	}
	for _, a := range ids {
		if left(a) < 0 {
			return nil, 0
		}
		for _, b := range ids {
			spread += max(left(a)-left(b), 0)
		}
	}
	return parts, spread
}

// ThreadsPerCore is how many CPUs a core has.
func ThreadsPerCore(all []CPU) int {
	cores := map[[2]int]bool{}
	for _, c := range all {
		cores[byCore(c)] = true
	}
	return max(len(all)/max(len(cores), 1), 1)
}

// Siblings are the CPUs on the cores of some.
func Siblings(all []CPU, of []int) (ids []int) {
	cores := map[[2]int]bool{}
	for _, c := range all {
		if slices.Contains(of, c.ID) {
			cores[byCore(c)] = true
		}
	}
	for _, c := range all {
		if cores[byCore(c)] {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// SocketAligned says whether nodes are in as few sockets as any set of the given number of nodes could be (align-by-socket).
func SocketAligned(all []CPU, nodes Set, least int) bool {
	in, sockets, every := map[int]bool{}, map[int]bool{}, Set(0)
	for _, c := range all {
		sockets[c.Socket], every = true, every|SetOf(c.Node)
		if nodes.Has(c.Node) {
			in[c.Socket] = true
		}
	}
	perSocket := every.Len() / max(len(sockets), 1)
	return perSocket > 0 && len(in) == (least+perSocket-1)/perSocket
}

func (t *taker) left(may func(CPU) bool) []CPU {
	var left []CPU
	for _, c := range t.all {
		if t.free[c.ID] && may(c) {
			left = append(left, c)
		}
	}
	return left
}

func (t *taker) have(c CPU) {
	delete(t.free, c.ID)
	t.taken = append(t.taken, c.ID)
}
