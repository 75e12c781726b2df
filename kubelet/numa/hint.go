package numa

import (
	"math/bits"
	"slices"
)

// MaxNodes bounds the nodes of a machine: hints are made for every set of them, of which there are 2^8 (upstream has the same limit).
const MaxNodes = 8

// Set is a set of NUMA nodes, a bit for each.
type Set uint8

// SetOf makes a set. Nodes beyond MaxNodes are left out.
func SetOf(nodes ...int) (s Set) {
	for _, n := range nodes {
		if n >= 0 && n < MaxNodes {
			s |= 1 << n
		}
	}
	return s
}

// Len is how many nodes are in the set, Has whether one is, List which.
func (s Set) Len() int       { return bits.OnesCount8(uint8(s)) }
func (s Set) Has(n int) bool { return s&SetOf(n) != 0 }
func (s Set) List() (nodes []int) {
	for n := range MaxNodes {
		if s.Has(n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Hint is a set of nodes on which a share could be.
type Hint struct {
	Nodes Set
	// Preferred says that no fewer nodes could ever have such a share.
	Preferred bool
}

// Policy is how much the nodes of a container's resources must agree, as --topology-manager-policy names it.
type Policy string

// The policies.
const (
	None       Policy = "none"
	BestEffort Policy = "best-effort"
	Restricted Policy = "restricted"
	SingleNode Policy = "single-numa-node"
)

// Hints are the sets of nodes that have n free units of a resource, of capacity units in all; by node. A resource that no set of nodes
// has enough of gives an empty list, which is not nil: a nil list is of a resource that does not care.
func Hints(capacity, free map[int]int64, n int64) []Hint {
	hints, least := []Hint{}, MaxNodes+1
	var all Set
	for node := range capacity {
		all |= SetOf(node)
	}
	for s := Set(1); s <= all && s != 0; s++ {
		if s&^all != 0 {
			continue
		}
		var total, left int64
		for _, node := range s.List() {
			total, left = total+capacity[node], left+free[node]
		}
		if total >= n {
			least = min(least, s.Len())
		}
		if left >= n {
			hints = append(hints, Hint{Nodes: s})
		}
		if s == ^Set(0) {
			break // the next would be the empty set again
		}
	}
	for i := range hints {
		hints[i].Preferred = hints[i].Nodes.Len() == least
	}
	return hints
}

// Merge finds the set of nodes that suits all resources, and says whether the policy lets the container run there. The result is the
// narrowest common set of preferred hints, of any hints if there is none of those, and all nodes if there is no common set.
func Merge(p Policy, nodes Set, resources ...[]Hint) (Hint, bool) {
	anywhere := Hint{Nodes: nodes, Preferred: true}
	if p == None {
		return anywhere, true
	}
	merged := map[Hint]bool{anywhere: true}
	for _, hints := range resources {
		merged = cross(merged, usable(p, nodes, hints))
	}
	best := Hint{Nodes: nodes}
	for h := range merged {
		if better(h, best) {
			best = h
		}
	}
	switch p {
	case Restricted:
		return best, best.Preferred
	case SingleNode:
		if best == anywhere && len(merged) == 1 {
			return best, true // nobody cares
		}
		return best, best.Preferred && best.Nodes.Len() == 1
	}
	return best, true
}

// usable are a resource's hints under a policy. A resource that does not care is content anywhere; one that cannot be satisfied is so
// nowhere in particular.
func usable(p Policy, nodes Set, hints []Hint) []Hint {
	if hints == nil {
		return []Hint{{Nodes: nodes, Preferred: true}}
	}
	if p == SingleNode {
		hints = slices.DeleteFunc(slices.Clone(hints), func(h Hint) bool { return h.Nodes.Len() != 1 || !h.Preferred })
	}
	if len(hints) == 0 {
		return []Hint{{Nodes: nodes}}
	}
	return hints
}

// cross combines every hint of one side with every one of the other. There are at most 2 × 2^MaxNodes different ones.
func cross(a map[Hint]bool, b []Hint) map[Hint]bool {
	all := map[Hint]bool{}
	for x := range a {
		for _, y := range b {
			if nodes := x.Nodes & y.Nodes; nodes != 0 {
				all[Hint{nodes, x.Preferred && y.Preferred}] = true
			}
		}
	}
	return all
}

// better says whether a is to be had rather than b: preferred, then narrow, then on lower nodes.
func better(a, b Hint) bool {
	if a.Preferred != b.Preferred {
		return a.Preferred
	}
	if a.Nodes.Len() != b.Nodes.Len() {
		return a.Nodes.Len() < b.Nodes.Len()
	}
	return a.Nodes < b.Nodes
}
