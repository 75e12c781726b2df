// Package numa decides where on a machine's NUMA nodes containers get their CPUs, memory and devices: the topology manager's merge of
// hints (KEP-693), the CPU manager's static policy (KEP-3570) and the memory manager's (KEP-1769), as pure functions.
//
// Each resource gives hints, the sets of nodes on which a container's share could be ([Hints]); [Merge] finds the set that suits all of
// them under a policy; [TakeCPUs] and [Memory.Take] then take the shares from it.
//
//	m, err := topology.ReadMachine("/")
//	cpus, _ := numa.Hints(m.Set(), func(s numa.Set) (could, can bool) { return total(s) >= 4, free(s) >= 4 })
//	near, ok := numa.Merge(numa.Layout{Policy: numa.SingleNode, Nodes: m.Set()}, cpus, memory)
//	ids, ok := numa.TakeCPUs(m.CPUs, free, 4, near.Nodes, numa.CPUOptions{})
//
// Packages cpus, memory and device hold what has been given away; package topology asks them in turn.
package numa
