package device

import (
	"cmp"
	"slices"
)

// Device is one that a plug-in has told of.
type Device struct {
	ID      string
	Healthy bool
	// Nodes are the NUMA nodes that it is near to; none if that is not known.
	Nodes []int
}

// Choose picks n of the devices that are healthy and not taken, or says that there are too few. Those in keep, which the container's
// pod has from its init containers, come first; those that prefer names, as the plug-in advises, next; then those that are on as few
// NUMA nodes as possible; ties go by name. The result is sorted.
func Choose(devices []Device, taken map[string]bool, keep, prefer []string, n int) (chosen []string, ok bool) {
	free := map[string]Device{}
	for _, d := range devices {
		if d.Healthy && !taken[d.ID] {
			free[d.ID] = d
		}
	}
	for _, list := range [][]string{keep, prefer} {
		for _, id := range list {
			if _, is := free[id]; is && len(chosen) < n {
				chosen = append(chosen, id)
				delete(free, id)
			}
		}
	}
	if len(chosen)+len(free) < n {
		return nil, false
	}
	chosen = append(chosen, nearest(free, n-len(chosen))...)
	slices.Sort(chosen)
	return chosen, true
}

// nearest picks n of the free devices: from the node that has just enough of them, or, if none has, from the nodes that have most.
func nearest(free map[string]Device, n int) []string {
	byNode := map[int][]string{}
	for id, d := range free {
		node := -1
		if len(d.Nodes) > 0 {
			node = slices.Min(d.Nodes)
		}
		byNode[node] = append(byNode[node], id)
	}
	var nodes []int
	for node, ids := range byNode {
		slices.Sort(ids)
		nodes = append(nodes, node)
	}
	slices.SortFunc(nodes, func(a, b int) int {
		fitA, fitB := len(byNode[a]) >= n, len(byNode[b]) >= n
		switch {
		case fitA && fitB:
			return cmp.Or(cmp.Compare(len(byNode[a]), len(byNode[b])), cmp.Compare(a, b))
		case fitA:
			return -1
		case fitB:
			return 1
		}
		return cmp.Or(cmp.Compare(len(byNode[b]), len(byNode[a])), cmp.Compare(a, b))
	})
	var ids []string
	for _, node := range nodes {
		ids = append(ids, byNode[node]...)
	}
	return ids[:n]
}
