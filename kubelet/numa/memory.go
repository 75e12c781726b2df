package numa

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Block is memory, or huge pages of a size, that one container has: so many bytes from a set of nodes.
type Block struct {
	// Resource is "memory" or "hugepages-<size>".
	Resource string
	Nodes    Set
	Size     int64
	// From is how much of it each node has given for it. What a container uses again of its pod's init containers is not in it.
	From map[int]int64
}

// Memory is what the nodes have to give and what they have given.
type Memory struct {
	// Allocatable is by node and resource, without what is reserved for the system.
	Allocatable map[int]map[string]int64
	Given       []Block
}

// ErrMemory: the nodes cannot give what is wanted, as it is wanted.
var ErrMemory = errors.New("[memorymanager]")

// nodes are those that there are.
func (m Memory) nodes() (s Set) {
	for id := range m.Allocatable {
		s |= SetOf(id)
	}
	return s
}

// free is what a node has left of a resource.
func (m Memory) free(node int, resource string) int64 {
	n := m.Allocatable[node][resource]
	for _, b := range m.Given {
		if b.Resource == resource {
			n -= b.From[node]
		}
	}
	return max(n, 0)
}

// groupFits says whether memory may be given from exactly this set of nodes beside what is given already: a node is either in one group of
// several nodes or on its own, since a container that may use several nodes must not find one of them filled by others that may not
// (KEP-1769).
func (m Memory) groupFits(nodes Set) bool {
	return !slices.ContainsFunc(m.Given, func(b Block) bool { return b.Nodes != nodes && b.Nodes&nodes != 0 })
}

// Hints are the sets of nodes that can give all that a container wants, by resource. What reuse tells of a set and a resource can be used
// again, beside what is free. All resources have the same hints; they are chosen together.
func (m Memory) Hints(want map[string]int64, reuse func(Set, string) int64) []Hint {
	hints, _ := Hints(m.nodes(), func(s Set) (could, can bool) {
		could, can = true, m.groupFits(s)
		for resource, n := range want {
			total, free := int64(0), reuse(s, resource)
			for _, id := range s.List() {
				total, free = total+m.Allocatable[id][resource], free+m.free(id, resource)
			}
			could, can = could && total >= n, can && free >= n
		}
		return could, could && can
	})
	return hints
}

// Take takes what a container wants from the near nodes, or from more nodes than these if they have too little, or from as few nodes as can
// be if no node is near in particular.
func (m Memory) Take(want map[string]int64, near Hint, reuse func(Set, string) int64) ([]Block, error) {
	nodes, err := m.choose(want, near, reuse)
	if err != nil {
		return nil, err
	}
	var blocks []Block
	for _, resource := range slices.Sorted(maps.Keys(want)) {
		n := want[resource]
		b := Block{Resource: resource, Nodes: nodes, Size: n, From: map[int]int64{}}
		n -= min(n, reuse(nodes, resource))
		for _, id := range nodes.List() {
			if take := min(m.free(id, resource), n); take > 0 {
				b.From[id], n = take, n-take
			}
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// choose finds the nodes to take from.
func (m Memory) choose(want map[string]int64, near Hint, reuse func(Set, string) int64) (Set, error) {
	none, which := "failed to get the default NUMA affinity, no NUMA nodes with enough memory is available", "default"
	if near.Nodes != 0 {
		none, which = "failed to find NUMA nodes to extend the current topology hint", "extended"
	}
	best := Hint{}
	for _, h := range m.Hints(want, reuse) {
		if h.Nodes == near.Nodes {
			return h.Nodes, nil
		}
		if h.Nodes&near.Nodes == near.Nodes && (best.Nodes == 0 || h.Preferred && !best.Preferred || h.Preferred == best.Preferred && h.Nodes.Len() < best.Nodes.Len()) {
			best = h
		}
	}
	switch {
	case best.Nodes == 0:
		return 0, fmt.Errorf("%w %s", ErrMemory, none)
	case near.Preferred && !best.Preferred:
		return 0, fmt.Errorf("%w failed to find the %s preferred hint", ErrMemory, which)
	}
	return best.Nodes, nil
}
