package device

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"bareboat.dev/kubelet/numa"
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
		{two, "", nil, nil, 0, "[]"},
		{two, "", nil, nil, 1, "[x]"}, // from where there are fewest, so that large requests find room
		{two, "", nil, nil, 2, "[x y]"},
		{two, "", nil, nil, 3, "[a b c]"},
		{two, "", nil, nil, 4, "[a b c x]"},
		{two, "", nil, nil, 6, "few"},
		{two, "x", nil, nil, 2, "[a b]"},
		{two, "", []string{"b"}, nil, 2, "[a b]"},
		{two, "b", []string{"b"}, nil, 1, "[b]"},
		{two, "", nil, []string{"c", "y"}, 2, "[c y]"},
		{two, "", []string{"a"}, []string{"c", "y"}, 2, "[a c]"},
		{append([]Device{sick}, two...), "", []string{"0"}, nil, 5, "[a b c x y]"},
		{[]Device{{ID: "z", Healthy: true}, {ID: "w", Healthy: true}}, "", nil, nil, 1, "[w]"},
	} {
		taken := map[string]bool{}
		for _, id := range c.taken {
			taken[string(id)] = true
		}
		r := Request{Devices: c.devices, Taken: taken, Keep: c.keep, N: c.n}
		if len(r.free()) < c.n {
			if c.want != "few" {
				t.Errorf("%+v: there are too few", c)
			}
			continue
		}
		ids, err := Choose(r, func([]string, []string, int) ([]string, error) { return c.prefer, nil })
		if got := fmt.Sprint(ids); err != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
}

// TestChooseHoldsItsPromises shows, for random devices, that what is chosen is free, healthy, as many as wanted and no device twice,
// and near where it can be.
func TestChooseHoldsItsPromises(t *testing.T) {
	for seed := range int64(2000) {
		r := rand.New(rand.NewSource(seed))
		var devices []Device
		taken, keep := map[string]bool{}, []string{"d1", "d2"}
		free := 0
		for i := range r.Intn(12) {
			d := Device{ID: fmt.Sprint("d", i), Healthy: r.Intn(4) > 0}
			for range r.Intn(3) {
				d.Nodes = append(d.Nodes, r.Intn(3))
			}
			if taken[d.ID] = r.Intn(4) == 0; d.Healthy && (!taken[d.ID] || slices.Contains(keep, d.ID)) {
				free++
			}
			devices = append(devices, d)
		}
		n := r.Intn(8)
		request := Request{Devices: devices, Taken: taken, Keep: keep, Near: numa.Set(r.Intn(8)), N: n}
		if got := len(request.free()); got != free {
			t.Fatalf("seed %d: %d are free, want %d", seed, got, free)
		}
		if free < n {
			continue
		}
		ids, err := Choose(request, func([]string, []string, int) ([]string, error) { return []string{"d3", "d3", "none"}, nil })
		if err != nil || len(ids) != n || len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Fatalf("seed %d: %v, %v of %d free, want %d", seed, ids, err, free, n)
		}
		near := func(list []string) (k int) {
			for _, d := range request.free() {
				if slices.Contains(list, d.ID) && d.near(request.Near) {
					k++
				}
			}
			return k
		}
		var all []string
		for _, d := range request.free() {
			all = append(all, d.ID)
		}
		if had := len(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !slices.Contains(keep, id) })); near(ids) < min(near(all), n-had) {
			t.Fatalf("seed %d: of %v, %v are near %v, but there are more", seed, ids, near(ids), request.Near.List())
		}
		for _, id := range ids {
			i := slices.IndexFunc(devices, func(d Device) bool { return d.ID == id })
			if i < 0 || !devices[i].Healthy || taken[id] && !slices.Contains(keep, id) {
				t.Fatalf("seed %d: %s is not to be had", seed, id)
			}
		}
	}
}
