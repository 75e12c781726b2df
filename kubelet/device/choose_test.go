package device

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"
)

// TestChoose shows which devices a container gets: those of its pod's init containers, those that its plug-in advises, then near ones.
func TestChoose(t *testing.T) {
	on := func(node int, ids ...string) (all []Device) {
		for _, id := range ids {
			all = append(all, Device{ID: id, Healthy: true, Nodes: []int{node}})
		}
		return all
	}
	two := slices.Concat(on(0, "a", "b", "c"), on(1, "x", "y"))
	sick := Device{ID: "0", Nodes: []int{0}}
	for _, c := range []struct {
		devices      []Device
		taken        string
		keep, prefer []string
		n            int
		want         string
	}{
		{two, "", nil, nil, 0, "[] true"},
		{two, "", nil, nil, 1, "[x] true"}, // from where there are fewest, so that large requests find room
		{two, "", nil, nil, 2, "[x y] true"},
		{two, "", nil, nil, 3, "[a b c] true"},
		{two, "", nil, nil, 4, "[a b c x] true"},
		{two, "", nil, nil, 6, "[] false"},
		{two, "x", nil, nil, 2, "[a b] true"},
		{two, "", []string{"b"}, nil, 2, "[a b] true"},
		{two, "b", []string{"b"}, nil, 1, "[a] true"},
		{two, "", nil, []string{"c", "y"}, 2, "[c y] true"},
		{two, "", []string{"a"}, []string{"c", "y"}, 2, "[a c] true"},
		{append([]Device{sick}, two...), "", []string{"0"}, nil, 5, "[a b c x y] true"},
		{[]Device{{ID: "z", Healthy: true}, {ID: "w", Healthy: true}}, "", nil, nil, 1, "[w] true"},
	} {
		taken := map[string]bool{}
		for _, id := range c.taken {
			taken[string(id)] = true
		}
		ids, ok := Choose(c.devices, taken, c.keep, c.prefer, c.n)
		if got := fmt.Sprint(ids, " ", ok); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestChooseHoldsItsPromises shows, for random devices, that what is chosen is free, healthy, as many as wanted and no device twice,
// and that it is refused only if there are too few.
func TestChooseHoldsItsPromises(t *testing.T) {
	for seed := range int64(2000) {
		r := rand.New(rand.NewSource(seed))
		var devices []Device
		taken := map[string]bool{}
		free := 0
		for i := range r.Intn(12) {
			d := Device{ID: fmt.Sprint("d", i), Healthy: r.Intn(4) > 0}
			for range r.Intn(3) {
				d.Nodes = append(d.Nodes, r.Intn(3))
			}
			if taken[d.ID] = r.Intn(4) == 0; d.Healthy && !taken[d.ID] {
				free++
			}
			devices = append(devices, d)
		}
		n := r.Intn(8)
		ids, ok := Choose(devices, taken, []string{"d1", "d2"}, []string{"d3", "d3", "none"}, n)
		if ok != (free >= n) || ok && len(ids) != n || len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Fatalf("seed %d: %v, %v of %d free, want %d", seed, ids, ok, free, n)
		}
		for _, id := range ids {
			i := slices.IndexFunc(devices, func(d Device) bool { return d.ID == id })
			if i < 0 || !devices[i].Healthy || taken[id] {
				t.Fatalf("seed %d: %s is not to be had", seed, id)
			}
		}
	}
}
