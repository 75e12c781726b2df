package device

import (
	"cmp"
	"slices"

	"bareboat.dev/kubelet/numa"
)

// Device is one that a plug-in has told of.
type Device struct {
	ID      string
	Healthy bool
	// Nodes are the NUMA nodes that it is near to; none if that is not known.
	Nodes []int
}

func (d Device) near(s numa.Set) bool { return numa.SetOf(d.Nodes...)&s != 0 }

// Request is what a container is to get of a resource.
type Request struct {
	Devices []Device
	// Taken are those that others have.
	Taken map[string]bool
	// Keep are those that the container's pod has from its init containers.
	Keep []string
	// Near are the nodes whose devices are to be preferred; none if it does not matter.
	Near numa.Set
	N    int
}

// free are the devices that may be had.
func (r Request) free() (all []Device) {
	for _, d := range r.Devices {
		if d.Healthy && (!r.Taken[d.ID] || slices.Contains(r.Keep, d.ID)) {
			all = append(all, d)
		}
	}
	return all
}

// Choose picks N of the devices that are healthy and not taken, of which there must be as many. Those to keep come first; then those on near nodes; then, among what is left,
// those that advise names; then those that are on as few NUMA nodes as possible; ties go by name. The result is sorted. Advise stands for
// the plug-in: of the available devices, which include those that must be among them, it prefers some, n in all; it may be nil.
func Choose(r Request, advise func(available, must []string, n int) ([]string, error)) ([]string, error) {
	free, chosen := r.free(), []string(nil)
	take := func(from []Device, ids ...string) {
		for _, id := range ids {
			if len(chosen) < r.N && !slices.Contains(chosen, id) && slices.ContainsFunc(from, func(d Device) bool { return d.ID == id }) {
				chosen = append(chosen, id)
			}
		}
	}
	take(free, r.Keep...)
	rest := func() (rest []Device) {
		for _, d := range free {
			if !slices.Contains(chosen, d.ID) {
				rest = append(rest, d)
			}
		}
		return rest
	}
	aligned := slices.DeleteFunc(rest(), func(d Device) bool { return !d.near(r.Near) })
	if len(aligned) <= r.N-len(chosen) {
		take(aligned, names(aligned)...)
		aligned = rest()
	}
	if missing := r.N - len(chosen); missing > 0 && missing < len(aligned) && advise != nil {
		preferred, err := advise(append(names(aligned), chosen...), chosen, r.N)
		if err != nil {
			return nil, err
		}
		take(aligned, preferred...)
	}
	left := slices.DeleteFunc(aligned, func(d Device) bool { return slices.Contains(chosen, d.ID) })
	chosen = append(chosen, nearest(left, r.N-len(chosen))...)
	slices.Sort(chosen)
	return chosen, nil
}

func names(devices []Device) (ids []string) {
	for _, d := range devices {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids
}

// nearest picks n of some devices: from the node that has just enough of them, or, if none has, from the nodes that have most; those of which
// no node is known come last if others will do.
func nearest(free []Device, n int) []string {
	byNode := map[int][]string{}
	for _, d := range free {
		node := -1
		if len(d.Nodes) > 0 {
			node = slices.Min(d.Nodes)
		}
		byNode[node] = append(byNode[node], d.ID)
	}
	var nodes []int
	for node, ids := range byNode {
		slices.Sort(ids)
		nodes = append(nodes, node)
	}
	slices.SortFunc(nodes, func(a, b int) int {
		fitA, fitB := len(byNode[a]) >= n, len(byNode[b]) >= n
		switch {
		case (a < 0) != (b < 0):
			return cmp.Compare(b, a)
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

// Hints are the sets of the known nodes whose devices suffice, keep among them; nil if no device is near to any node.
func (r Request) Hints(known numa.Set) []numa.Hint {
	var nodes numa.Set
	for _, d := range r.Devices {
		nodes |= numa.SetOf(d.Nodes...)
	}
	if nodes == 0 {
		return nil
	}
	if nodes &= known; nodes == 0 {
		nodes = known
	}
	free := r.free()
	hints, _ := numa.Hints(nodes, func(s numa.Set) (could, can bool) {
		all, have, kept := 0, 0, true
		for _, d := range r.Devices {
			if d.near(s) {
				all++
			}
		}
		for _, d := range free {
			switch {
			case d.near(s):
				have++
			case slices.Contains(r.Keep, d.ID) && len(d.Nodes) > 0:
				kept = false
			}
		}
		return all >= r.N, kept && have >= r.N
	})
	return hints
}
