package numa

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// machine has sockets of cores with two threads each; each socket is a NUMA node. The second threads are numbered after all first ones,
// as Linux does.
func machine(sockets, cores int) (all []CPU) {
	for thread := range 2 {
		for s := range sockets {
			for c := range cores {
				all = append(all, CPU{ID: thread*sockets*cores + s*cores + c, Core: c, Socket: s, Node: s, Cache: c / 2})
			}
		}
	}
	return all
}

func ids(all []CPU, but ...int) (free []int) {
	for _, c := range all {
		if !slices.Contains(but, c.ID) {
			free = append(free, c.ID)
		}
	}
	return free
}

// TestTakeCPUs shows, on two sockets of four cores (0-3 and 4-7, whose second threads are 8-11 and 12-15), what containers get.
func TestTakeCPUs(t *testing.T) {
	all := machine(2, 4)
	for _, c := range []struct {
		used []int
		n    int
		near []int
		o    CPUOptions
		want string
	}{
		{nil, 8, nil, CPUOptions{}, "[0 1 2 3 8 9 10 11]"}, // a socket
		{nil, 2, nil, CPUOptions{}, "[0 8]"},               // a core
		{nil, 3, nil, CPUOptions{}, "[0 1 8]"},             // a core and a thread
		{[]int{0}, 1, nil, CPUOptions{}, "[8]"},            // the other thread of a core that is in use
		{[]int{4}, 2, nil, CPUOptions{}, "[5 13]"},         // a core of the socket that is in use
		{[]int{4}, 8, nil, CPUOptions{}, "[0 1 2 3 8 9 10 11]"},
		{nil, 2, []int{1}, CPUOptions{}, "[4 12]"}, // near
		{nil, 10, []int{1}, CPUOptions{}, "[0 4 5 6 7 8 12 13 14 15]"},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, 3, nil, CPUOptions{}, "[8 9 10]"},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, 9, nil, CPUOptions{}, "[] false"},
		{nil, 0, nil, CPUOptions{}, "[]"},
		{nil, 4, nil, CPUOptions{AcrossNodes: true}, "[0 1 8 9]"}, // one node can give it
		{nil, 10, nil, CPUOptions{AcrossNodes: true}, "[0 1 2 4 5 6 8 9 12 13]"},
		{nil, 12, nil, CPUOptions{AcrossNodes: true, FullCores: true}, "[0 1 2 4 5 6 8 9 10 12 13 14]"},
		{[]int{0, 1, 8, 9}, 9, nil, CPUOptions{AcrossNodes: true}, "[2 3 4 5 6 10 11 12 13]"}, // the rest from where there is more
		{nil, 3, nil, CPUOptions{AcrossCores: true}, "[0 1 2]"},
		{nil, 6, []int{1}, CPUOptions{AcrossCores: true}, "[4 5 6 7 12 13]"},
		{[]int{0}, 4, nil, CPUOptions{}, "[1 2 9 10]"},
		{[]int{0}, 4, nil, CPUOptions{ByCache: true}, "[2 3 10 11]"}, // a cache that is free
		{[]int{0}, 3, nil, CPUOptions{ByCache: true}, "[1 8 9]"},     // just enough in the first
	} {
		got, ok := TakeCPUs(all, ids(all, c.used...), c.n, SetOf(c.near...), c.o)
		text := fmt.Sprint(got)
		if !ok {
			text += " false"
		}
		if text != c.want {
			t.Errorf("%d of all but %v near %v: %s, want %s", c.n, c.used, c.near, text, c.want)
		}
	}
	if ThreadsPerCore(all) != 2 || fmt.Sprint(Siblings(all, []int{1, 12})) != "[1 4 9 12]" {
		t.Error("cores are not those of the machine:", ThreadsPerCore(all), Siblings(all, []int{1, 12}))
	}
}

// TestTakeCPUsHoldsItsPromises shows, on random machines, that what is taken is free, as much as wanted, and that containers share no more
// cores than they must: at most one core of a container is taken in part if the free CPUs were whole cores, unless options say otherwise.
func TestTakeCPUsHoldsItsPromises(t *testing.T) {
	for seed := range int64(1000) {
		r := rand.New(rand.NewSource(seed))
		all := machine(1+r.Intn(4), 1+r.Intn(6))
		free := ids(all)
		for len(free) > 0 {
			n := 1 + r.Intn(len(free))
			o := CPUOptions{AcrossNodes: r.Intn(2) > 0, BySocket: r.Intn(2) > 0, ByCache: r.Intn(2) > 0, AcrossCores: r.Intn(4) == 0}
			got, ok := TakeCPUs(all, free, n, SetOf(r.Intn(4)), o)
			if !ok || len(got) != n {
				t.Fatalf("seed %d: %d of %v: %v", seed, n, free, got)
			}
			before := cores(all, free)
			partly := 0
			for core, k := range cores(all, got) {
				if before[core] == 2 && k == 1 {
					partly++
				}
			}
			if partly > 1 && !o.AcrossCores && !o.AcrossNodes && !o.ByCache {
				t.Fatalf("seed %d: %d of %v: %v breaks %d cores up", seed, n, free, got, partly)
			}
			for _, id := range got {
				i := slices.Index(free, id)
				if i < 0 {
					t.Fatalf("seed %d: %d is not free", seed, id)
				}
				free = slices.Delete(free, i, i+1)
			}
		}
	}
}

func cores(all []CPU, which []int) map[[2]int]int {
	n := map[[2]int]int{}
	for _, c := range all {
		if slices.Contains(which, c.ID) {
			n[byCore(c)]++
		}
	}
	return n
}

func text(h Hint) string {
	s := strings.Trim(fmt.Sprint(h.Nodes.List()), "[]")
	if h.Nodes == 0 {
		s = "-"
	}
	if h.Preferred {
		s += "!"
	}
	return s
}

// TestHints shows where a share could be: any set of nodes that has enough free, preferred if no fewer nodes could ever have it.
func TestHints(t *testing.T) {
	capacity := map[int]int64{0: 10, 3: 10}
	for _, c := range []struct {
		free map[int]int64
		n    int64
		want string
	}{
		{map[int]int64{0: 10, 3: 10}, 4, "0! 3! 0 3"},
		{map[int]int64{0: 3, 3: 10}, 4, "3! 0 3"},
		{map[int]int64{0: 3, 3: 3}, 4, "0 3"},
		{map[int]int64{0: 10, 3: 10}, 14, "0 3!"},
		{map[int]int64{0: 1, 3: 1}, 14, ""},
	} {
		var got []string
		hints, _ := Hints(SetOf(0, 3), func(s Set) (could, can bool) {
			var all, left int64
			for _, id := range s.List() {
				all, left = all+capacity[id], left+c.free[id]
			}
			return all >= c.n, left >= c.n
		})
		for _, h := range hints {
			got = append(got, text(h))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%d of %v: %v, want %s", c.n, c.free, got, c.want)
		}
	}
}

// TestMerge shows what each policy makes of the hints of several resources.
func TestMerge(t *testing.T) {
	hint := func(preferred bool, nodes ...int) Hint { return Hint{SetOf(nodes...), preferred} }
	either := []Hint{hint(true, 0), hint(true, 1), hint(false, 0, 1)}
	first := []Hint{hint(true, 0), hint(false, 0, 1)}
	second := []Hint{hint(true, 1), hint(false, 0, 1)}
	wide := []Hint{hint(true, 0, 1)}
	for _, c := range []struct {
		resources [][]Hint
		want      string // best-effort, restricted, single-numa-node
	}{
		{nil, "0 1! yes, 0 1! yes, -! yes"},
		{[][]Hint{nil, nil}, "0 1! yes, 0 1! yes, -! yes"},
		{[][]Hint{either}, "0! yes, 0! yes, 0! yes"},
		{[][]Hint{either, second}, "1! yes, 1! yes, 1! yes"},
		{[][]Hint{first, second}, "0 yes, 0 no, - no"},
		{[][]Hint{wide}, "0 1! yes, 0 1! yes, - no"},
		{[][]Hint{wide, first}, "0 1 yes, 0 1 no, - no"},
		{[][]Hint{first, {}}, "0 yes, 0 no, - no"},
		{[][]Hint{first, nil}, "0! yes, 0! yes, 0! yes"},
		{[][]Hint{{}}, "0 1 yes, 0 1 no, - no"},
	} {
		var got []string
		for _, p := range []Policy{BestEffort, Restricted, SingleNode} {
			h, ok := Merge(Layout{Policy: p, Nodes: SetOf(0, 1)}, c.resources...)
			verdict := " no"
			if ok {
				verdict = " yes"
			}
			got = append(got, text(h)+verdict)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%v: %s, want %s", c.resources, strings.Join(got, ", "), c.want)
		}
	}
	if h, ok := Merge(Layout{Policy: None, Nodes: SetOf(0, 1)}, wide, first); h != (Hint{}) || !ok {
		t.Errorf("the policy none has %v, %v", h, ok)
	}
}

// TestClosest shows that nodes close to each other are taken rather than low ones, if that is asked for.
func TestClosest(t *testing.T) {
	far := map[int]map[int]int{}
	for a := range 4 {
		far[a] = map[int]int{}
		for b := range 4 {
			far[a][b] = 10 + 20*max(a-b, b-a)
		}
	}
	far[1][3], far[3][1] = 12, 12
	pairs, _ := Hints(SetOf(0, 1, 2, 3), func(s Set) (could, can bool) { return s.Len() > 1, s.Len() > 1 })
	for _, c := range []struct {
		distances map[int]map[int]int
		want      string
	}{{nil, "0 1!"}, {far, "1 3!"}} {
		if h, _ := Merge(Layout{Policy: BestEffort, Nodes: SetOf(0, 1, 2, 3), Distances: c.distances}, pairs); text(h) != c.want {
			t.Errorf("%s, want %s", text(h), c.want)
		}
	}
}

// naive merges by trying every combination of hints, as the KEP tells it.
func naive(l Layout, resources [][]Hint) (Hint, bool) {
	widest := 0
	var lists [][]Hint
	for _, hints := range resources {
		if hints == nil {
			hints = []Hint{{Preferred: true}}
		} else if len(hints) == 0 {
			hints = []Hint{{}}
		}
		var kept []Hint
		least := 0
		for _, h := range hints {
			if l.Policy == SingleNode && (!h.Preferred || h.Nodes.Len() > 1) {
				continue
			}
			kept = append(kept, h)
			if n := h.Nodes.Len(); n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		lists, widest = append(lists, kept), max(widest, least)
	}
	var best *Hint
	var walk func(i int, chosen []Hint)
	walk = func(i int, chosen []Hint) {
		if i < len(lists) {
			for _, h := range lists[i] {
				walk(i+1, append(chosen, h))
			}
			return
		}
		common := Hint{l.Nodes, true}
		var named []Set
		for _, h := range chosen {
			common.Preferred = common.Preferred && h.Preferred
			if h.Nodes != 0 {
				named = append(named, h.Nodes)
				common.Nodes &= h.Nodes
			}
		}
		for _, s := range named {
			common.Preferred = common.Preferred && s == named[0]
		}
		if common.Nodes != 0 && (best == nil || naiveBetter(common, *best, widest)) {
			best = &common
		}
	}
	walk(0, nil)
	if best == nil {
		best = &Hint{Nodes: l.Nodes}
	}
	if l.Policy == SingleNode && best.Nodes == l.Nodes {
		best.Nodes = 0
	}
	return *best, l.Policy == BestEffort || best.Preferred
}

// naiveBetter says whether a candidate replaces the current one, case by case.
func naiveBetter(a, b Hint, widest int) bool {
	narrower := a.Nodes.Len() < b.Nodes.Len() || a.Nodes.Len() == b.Nodes.Len() && a.Nodes < b.Nodes
	x, y := a.Nodes.Len(), b.Nodes.Len()
	switch {
	case a.Preferred != b.Preferred:
		return a.Preferred
	case a.Preferred:
		return narrower
	case y > widest:
		return narrower
	case y == widest:
		return x == widest && narrower
	case x > widest:
		return false
	case x != y:
		return x > y
	}
	return narrower
}

// TestMergeIsTheNaive shows, for random hints on one to four nodes, that merging is what trying every combination gives, in any order of the
// resources.
func TestMergeIsTheNaive(t *testing.T) {
	for seed := range int64(5000) {
		r := rand.New(rand.NewSource(seed))
		l := Layout{Policy: []Policy{BestEffort, Restricted, SingleNode}[r.Intn(3)], Nodes: Set(1)<<(1+r.Intn(4)) - 1}
		var resources [][]Hint
		for range r.Intn(4) {
			var hints []Hint
			if r.Intn(5) > 0 {
				hints = []Hint{}
			}
			for n := r.Intn(5); hints != nil && len(hints) < n; {
				hints = append(hints, Hint{1 + Set(r.Int63n(int64(l.Nodes))), r.Intn(2) > 0})
			}
			resources = append(resources, hints)
		}
		want, admitted := naive(l, resources)
		for range 3 {
			if got, ok := Merge(l, resources...); got != want || ok != admitted {
				t.Fatalf("seed %d: %v on %v merge to %v, %v, want %v, %v", seed, resources, l, got, ok, want, admitted)
			}
			r.Shuffle(len(resources), func(i, j int) { resources[i], resources[j] = resources[j], resources[i] })
		}
	}
}

// TestMemory shows, on two nodes of ten bytes, where memory comes from: one node if it has enough, a group of both if it has not, and then
// neither for others alone.
func TestMemory(t *testing.T) {
	const mem = "memory"
	none := func(Set, string) int64 { return 0 }
	m := Memory{Allocatable: map[int]map[string]int64{0: {mem: 10}, 1: {mem: 10}}}
	take := func(n int64, near Hint, want string) {
		t.Helper()
		blocks, err := m.Take(map[string]int64{mem: n}, near, none)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(blocks[0].Nodes.List(), blocks[0].From)
			m.Given = append(m.Given, blocks...)
		}
		if got != want {
			t.Errorf("%d near %s: %s, want %s", n, text(near), got, want)
		}
	}
	take(4, Hint{}, "[0] map[0:4]")
	take(8, Hint{}, "[1] map[1:8]")
	take(3, Hint{SetOf(1), false}, "[memorymanager] failed to find NUMA nodes to extend the current topology hint")
	take(3, Hint{SetOf(0), true}, "[0] map[0:3]")
	take(5, Hint{}, "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available")
	m.Given = nil
	take(14, Hint{}, "[0 1] map[0:10 1:4]")
	take(2, Hint{}, "[0 1] map[1:2]")
	take(2, Hint{Preferred: true}, "[memorymanager] failed to find the default preferred hint")
	take(2, Hint{SetOf(1), false}, "[0 1] map[1:2]")
	take(1, Hint{SetOf(1), true}, "[memorymanager] failed to find the extended preferred hint")
	blocks, err := m.Take(map[string]int64{mem: 14}, Hint{}, func(s Set, _ string) int64 { return 13 * int64(s>>1&s&1) })
	if err != nil || fmt.Sprint(blocks[0].From, blocks[0].Size) != "map[1:1] 14" {
		t.Errorf("beside what can be used again: %v, %v", blocks, err)
	}
}

// TestMemoryHoldsItsPromises shows, for random requests, that no node gives more than it has, that what is given adds up, and that groups of
// nodes do not overlap.
func TestMemoryHoldsItsPromises(t *testing.T) {
	none := func(Set, string) int64 { return 0 }
	for seed := range int64(500) {
		r := rand.New(rand.NewSource(seed))
		m := Memory{Allocatable: map[int]map[string]int64{}}
		for id := range 1 + r.Intn(4) {
			m.Allocatable[id] = map[string]int64{"memory": int64(r.Intn(20)), "hugepages-2Mi": int64(r.Intn(8))}
		}
		for range 12 {
			want := map[string]int64{"memory": 1 + int64(r.Intn(15))}
			if r.Intn(3) == 0 {
				want["hugepages-2Mi"] = 1 + int64(r.Intn(5))
			}
			near := Hint{Set(r.Intn(1 << len(m.Allocatable))), false}
			blocks, err := m.Take(want, near, none)
			if err != nil {
				continue
			}
			for _, b := range blocks {
				sum := int64(0)
				for id, n := range b.From {
					sum += n
					if !b.Nodes.Has(id) {
						t.Fatalf("seed %d: %+v is from elsewhere", seed, b)
					}
				}
				if sum != want[b.Resource] || b.Nodes&near.Nodes != near.Nodes {
					t.Fatalf("seed %d: %+v, want %v near %s", seed, b, want, text(near))
				}
				if !m.groupFits(b.Nodes) {
					t.Fatalf("seed %d: %s overlaps %v", seed, text(Hint{Nodes: b.Nodes}), m.Given)
				}
			}
			m.Given = append(m.Given, blocks...)
			for id, resources := range m.Allocatable {
				for resource, have := range resources {
					for _, b := range m.Given {
						if b.Resource == resource {
							have -= b.From[id]
						}
					}
					if have < 0 {
						t.Fatalf("seed %d: node %d gives more %s than it has", seed, id, resource)
					}
				}
			}
		}
	}
}
