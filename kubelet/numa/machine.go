package numa

// Machine is what a host has: CPUs in order of their numbers, and the NUMA nodes that they and memory are on.
type Machine struct {
	CPUs  []CPU
	Nodes []Node
}

// Node is one NUMA node. Sizes are in bytes.
type Node struct {
	ID     int
	Memory int64
	// HugePages is how much of the memory is in huge pages, by their size.
	HugePages map[int64]int64
	// Distances are those to each node (ACPI SLIT); 10 is the node itself.
	Distances map[int]int
}

// Set is the machine's nodes.
func (m Machine) Set() (s Set) {
	for _, n := range m.Nodes {
		s |= SetOf(n.ID)
	}
	return s
}

// Distances are those from each node to each.
func (m Machine) Distances() map[int]map[int]int {
	all := map[int]map[int]int{}
	for _, n := range m.Nodes {
		all[n.ID] = n.Distances
	}
	return all
}
