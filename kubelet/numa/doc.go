// Package numa decides where on a machine's NUMA nodes containers get their CPUs, memory and devices: the topology manager's merge of
// hints (KEP-693), the CPU manager's static policy (KEP-3570) and the memory manager's (KEP-1769), as pure functions.
//
// Each resource gives hints, the sets of nodes on which a container's share could be ([Hints]); [Merge] finds the set that suits all of
// them under a policy; [TakeCPUs] and [TakeMemory] then take the shares from it.
//
//	hint, ok := numa.Merge(numa.SingleNode, nodes, numa.Hints(cpus, freeCPUs, 4), numa.Hints(memory, freeMemory, 8<<30))
//	ids, ok := numa.TakeCPUs(all, free, 4, hint.Nodes.List())
//
// [TakeCPUs] is what package cpus chooses by. The rest is not in force yet: memory and devices come from any node, as they do with
// Kubernetes' default policies.
package numa
