package numa

import (
	"cmp"
	"slices"
)

// CPU is a logical CPU: a thread of a core, in a socket, on a NUMA node.
type CPU struct{ ID, Core, Socket, Node int }

// TakeCPUs takes n of the free CPUs for one container alone, or says that there are too few: whole sockets, then whole cores, then
// threads, so that containers share as little as they can. CPUs on the near nodes come first. Threads come from cores that are in use
// already, and cores from sockets that are, so that large requests still find room. The result is sorted.
func TakeCPUs(all []CPU, free []int, n int, near []int) ([]int, bool) {
	t := taker{want: n, near: SetOf(near...), free: map[int]bool{}}
	for _, id := range free {
		t.free[id] = true
	}
	for _, c := range all {
		if t.free[c.ID] {
			t.cpus = append(t.cpus, c)
		}
	}
	if len(t.cpus) < n {
		return nil, false
	}
	// Far CPUs are only taken when the near ones are used up.
	if len(near) > 0 {
		t.within(all, func(c CPU) bool { return t.near.Has(c.Node) })
	}
	t.within(all, func(CPU) bool { return true })
	slices.Sort(t.taken)
	return t.taken, true
}

// FullCores says whether n CPUs are whole cores: the option full-pcpus-only refuses others.
func FullCores(all []CPU, n int) bool {
	cores := map[[2]int]int{}
	for _, c := range all {
		cores[[2]int{c.Socket, c.Core}]++
	}
	for _, threads := range cores {
		if n%threads != 0 {
			return false
		}
	}
	return true
}

type taker struct {
	want  int
	near  Set
	free  map[int]bool
	cpus  []CPU
	taken []int
}

// group tells sockets, or cores, apart.
type group func(CPU) [2]int

func bySocket(c CPU) [2]int { return [2]int{c.Socket, 0} }
func byCore(c CPU) [2]int   { return [2]int{c.Socket, c.Core} }

// within takes as many as are still wanted from the CPUs that may be taken.
func (t *taker) within(all []CPU, may func(CPU) bool) {
	t.takeWhole(all, bySocket, may)
	t.takeWhole(all, byCore, may)
	t.takeSingle(may)
}

// takeWhole takes groups of which every CPU is free, as long as no more are wanted than they have.
func (t *taker) takeWhole(all []CPU, by group, may func(CPU) bool) {
	size := map[[2]int]int{}
	for _, c := range all {
		size[by(c)]++
	}
	free := map[[2]int][]CPU{}
	for _, c := range t.left(may) {
		free[by(c)] = append(free[by(c)], c)
	}
	for _, key := range t.sorted(free) {
		if len(free[key]) == size[key] && size[key] <= t.want-len(t.taken) {
			for _, c := range free[key] {
				t.take(c)
			}
		}
	}
}

// sorted are groups in the order in which they are taken: from sockets that have fewest free CPUs first, then by number.
func (t *taker) sorted(groups map[[2]int][]CPU) [][2]int {
	perSocket := t.perSocket()
	var keys [][2]int
	for k := range groups {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b [2]int) int {
		return cmp.Or(cmp.Compare(perSocket[a[0]], perSocket[b[0]]), cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	return keys
}

func (t *taker) perSocket() map[int]int {
	n := map[int]int{}
	for _, c := range t.left(func(CPU) bool { return true }) {
		n[c.Socket]++
	}
	return n
}

// takeSingle takes threads: from cores with fewest free ones first, in sockets with fewest.
func (t *taker) takeSingle(may func(CPU) bool) {
	for len(t.taken) < t.want {
		left := t.left(may)
		if len(left) == 0 {
			return
		}
		perSocket, perCore := t.perSocket(), map[[2]int]int{}
		for _, c := range left {
			perCore[byCore(c)]++
		}
		t.take(slices.MinFunc(left, func(a, b CPU) int {
			return cmp.Or(cmp.Compare(perCore[byCore(a)], perCore[byCore(b)]), cmp.Compare(perSocket[a.Socket], perSocket[b.Socket]),
				cmp.Compare(a.Socket, b.Socket), cmp.Compare(a.Core, b.Core), cmp.Compare(a.ID, b.ID))
		}))
	}
}

func (t *taker) left(may func(CPU) bool) []CPU {
	var left []CPU
	for _, c := range t.cpus {
		if t.free[c.ID] && may(c) {
			left = append(left, c)
		}
	}
	return left
}

func (t *taker) take(c CPU) {
	delete(t.free, c.ID)
	t.taken = append(t.taken, c.ID)
}
