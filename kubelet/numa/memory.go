package numa

// Groups are the sets of nodes from which memory is given across more than one node, or from one alone: a node belongs to one group as
// long as any container has memory from it, since a container that may use several nodes must not find one of them filled by others
// that may not (KEP-1769).
type Groups map[Set]int64

// Fits says whether memory may be given from exactly this set of nodes beside what is given already.
func (g Groups) Fits(nodes Set) bool {
	for other, given := range g {
		if given > 0 && other != nodes && other&nodes != 0 {
			return false
		}
	}
	return true
}

// TakeMemory takes n bytes from a set of nodes, the lowest first, and says how many from each; false if the set has too little, or is
// not to be had whole.
func TakeMemory(free map[int]int64, given Groups, nodes Set, n int64) (map[int]int64, bool) {
	if nodes == 0 || !given.Fits(nodes) {
		return nil, false
	}
	from := map[int]int64{}
	for _, node := range nodes.List() {
		take := min(max(free[node], 0), n)
		if take > 0 {
			from[node] = take
		}
		n -= take
	}
	if n > 0 {
		return nil, false
	}
	return from, true
}
