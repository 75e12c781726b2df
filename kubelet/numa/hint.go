package numa

import (
	"cmp"
	"math/bits"
)

// MaxNodes bounds the nodes of a machine: a set of them is a word. Hints are made for every set of nodes, of which there are 2^n, so that
// it is the option max-allowable-numa-nodes that bounds the work; its default is DefaultMaxNodes, as upstream's.
const (
	MaxNodes        = 64
	DefaultMaxNodes = 8
)

// Set is a set of NUMA nodes, a bit for each.
type Set uint64

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
func (s Set) Len() int       { return bits.OnesCount64(uint64(s)) }
func (s Set) Has(n int) bool { return s&SetOf(n) != 0 }
func (s Set) List() (nodes []int) {
	for rest := s; rest != 0; rest &= rest - 1 {
		nodes = append(nodes, bits.TrailingZeros64(uint64(rest)))
	}
	return nodes
}

// Hint is a set of nodes on which a share could be. As an answer of [Merge], an empty set means that any node will do.
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

// Hints are the sets of nodes that can give a share now, preferred if no fewer nodes could give it if nobody had anything; and how many
// nodes that are. A share that no set can give has an empty list, which is not nil: a nil list is of a resource that does not care.
func Hints(nodes Set, fits func(Set) (could, can bool)) (hints []Hint, least int) {
	hints, least = []Hint{}, nodes.Len()
	for s := -nodes & nodes; s != 0; s = (s - nodes) & nodes { // every set in nodes but the empty one, in ascending order
		could, can := fits(s)
		if could {
			least = min(least, s.Len())
		}
		if can {
			hints = append(hints, Hint{Nodes: s})
		}
	}
	for i := range hints {
		hints[i].Preferred = hints[i].Nodes.Len() == least
	}
	return hints, least
}

// Layout is what hints are merged by.
type Layout struct {
	Policy Policy
	Nodes  Set
	// Distances are those from each node to each (ACPI SLIT), by which sets of as many nodes are compared under the option
	// prefer-closest-numa-nodes; nil if it is not set.
	Distances map[int]map[int]int
}

// Merge finds the set of nodes that suits all resources, and says whether the policy lets the container run there. Of all ways to choose a
// hint from each resource, it is what the chosen have in common: preferably of hints that are preferred and equal, and then as narrow as can
// be; otherwise as close as can be to the nodes of the resource that needs most.
func Merge(l Layout, resources ...[]Hint) (Hint, bool) {
	if l.Policy == None {
		return Hint{}, true
	}
	merged, widest := map[partial]bool{{Hint: Hint{l.Nodes, true}}: true}, 0
	for _, hints := range resources {
		hints = usable(l.Policy, hints)
		merged, widest = cross(merged, hints), max(widest, narrowest(hints))
	}
	best, found := Hint{Nodes: l.Nodes}, false
	for m := range merged {
		if !found || l.better(m.Hint, best, widest) {
			best, found = m.Hint, true
		}
	}
	switch l.Policy {
	case Restricted:
		return best, best.Preferred
	case SingleNode:
		if best.Nodes == l.Nodes {
			best.Nodes = 0
		}
		return best, best.Preferred
	}
	return best, true
}

// usable are a resource's hints under a policy. The empty set stands for no nodes in particular: that is preferred by a resource that does
// not care, and all that is left for one that cannot be satisfied.
func usable(p Policy, hints []Hint) []Hint {
	switch {
	case hints == nil:
		return []Hint{{Preferred: true}}
	case len(hints) == 0:
		hints = []Hint{{}}
	}
	if p != SingleNode {
		return hints
	}
	var single []Hint
	for _, h := range hints {
		if h.Preferred && h.Nodes.Len() <= 1 {
			single = append(single, h)
		}
	}
	return single
}

// narrowest is how many nodes the narrowest hint has; 0 if none names any.
func narrowest(hints []Hint) (n int) {
	for _, h := range hints {
		if k := h.Nodes.Len(); k > 0 && (n == 0 || k < n) {
			n = k
		}
	}
	return n
}

// partial is what hints that were chosen from some of the resources have in common. Invariant: if it is preferred and named, all that named
// nodes named these.
type partial struct {
	Hint
	// named says that any of them named nodes.
	named bool
}

// cross combines every choice with every hint of one more resource. There are at most 4 × 2^nodes different ones, however many resources
// there are.
func cross(choices map[partial]bool, hints []Hint) map[partial]bool {
	all := map[partial]bool{}
	for c := range choices {
		for _, h := range hints {
			next := partial{Hint{c.Nodes, c.Preferred && h.Preferred}, c.named}
			if h.Nodes != 0 {
				next.Nodes, next.named = c.Nodes&h.Nodes, true
				next.Preferred = next.Preferred && (!c.named || c.Nodes == h.Nodes)
			}
			if next.Nodes != 0 {
				all[next] = true
			}
		}
	}
	return all
}

// better says whether a is to be had rather than b: preferred before not; narrow before wide among the preferred; as many nodes as the
// resource that needs most, or nearly as many, before more among the others.
func (l Layout) better(a, b Hint, widest int) bool {
	if a.Preferred != b.Preferred {
		return a.Preferred
	}
	if !a.Preferred {
		if x, y := away(a.Nodes.Len(), widest), away(b.Nodes.Len(), widest); x != y {
			return x < y
		}
	}
	if a.Nodes.Len() != b.Nodes.Len() {
		return a.Nodes.Len() < b.Nodes.Len()
	}
	if l.Distances != nil && l.Policy != SingleNode {
		if c := cmp.Compare(l.spread(a.Nodes), l.spread(b.Nodes)); c != 0 {
			return c < 0
		}
	}
	return a.Nodes < b.Nodes
}

// away orders numbers of nodes by how far they are from the wanted one: below it the nearest first, then all above it.
func away(n, want int) int {
	if n > want {
		return n + MaxNodes
	}
	return want - n
}

// spread is the sum of the distances between a set's nodes; sets of as many nodes compare by it as by the mean.
func (l Layout) spread(s Set) (sum int) {
	for _, a := range s.List() {
		for _, b := range s.List() {
			sum += l.Distances[a][b]
		}
	}
	return sum
}
