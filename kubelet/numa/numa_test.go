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
				all = append(all, CPU{ID: thread*sockets*cores + s*cores + c, Core: c, Socket: s, Node: s})
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
		want string
	}{
		{nil, 8, nil, "[0 1 2 3 8 9 10 11]"}, // a socket
		{nil, 2, nil, "[0 8]"},               // a core
		{nil, 3, nil, "[0 1 8]"},             // a core and a thread
		{[]int{0}, 1, nil, "[8]"},            // the other thread of a core that is in use
		{[]int{4}, 2, nil, "[5 13]"},         // a core of the socket that is in use
		{[]int{4}, 8, nil, "[0 1 2 3 8 9 10 11]"},
		{nil, 2, []int{1}, "[4 12]"}, // near
		{nil, 10, []int{1}, "[0 4 5 6 7 8 12 13 14 15]"},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, 3, nil, "[8 9 10]"},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, 9, nil, "[] false"},
		{nil, 0, nil, "[]"},
	} {
		got, ok := TakeCPUs(all, ids(all, c.used...), c.n, c.near)
		text := fmt.Sprint(got)
		if !ok {
			text += " false"
		}
		if text != c.want {
			t.Errorf("%d of all but %v near %v: %s, want %s", c.n, c.used, c.near, text, c.want)
		}
	}
	if FullCores(all, 3) || !FullCores(all, 4) {
		t.Error("three threads are whole cores, or four are not")
	}
}

// TestTakeCPUsHoldsItsPromises shows, on random machines, that what is taken is free, as much as wanted, and that containers share no more
// cores than they must: at most one core of a container is taken in part if the free CPUs were whole cores.
func TestTakeCPUsHoldsItsPromises(t *testing.T) {
	for seed := range int64(3000) {
		r := rand.New(rand.NewSource(seed))
		all := machine(1+r.Intn(4), 1+r.Intn(6))
		free := ids(all)
		for len(free) > 0 {
			n := 1 + r.Intn(len(free))
			got, ok := TakeCPUs(all, free, n, []int{r.Intn(4)})
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
			if partly > 1 {
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
	if h.Preferred {
		s += "!"
	}
	return s
}

// TestHints shows where a share could be: any set of nodes that has enough free, preferred if no fewer nodes could ever have it.
func TestHints(t *testing.T) {
	capacity := map[int]int64{0: 10, 1: 10}
	for _, c := range []struct {
		free map[int]int64
		n    int64
		want string
	}{
		{map[int]int64{0: 10, 1: 10}, 4, "0! 1! 0 1"},
		{map[int]int64{0: 3, 1: 10}, 4, "1! 0 1"},
		{map[int]int64{0: 3, 1: 3}, 4, "0 1"},
		{map[int]int64{0: 10, 1: 10}, 14, "0 1!"},
		{map[int]int64{0: 1, 1: 1}, 14, ""},
	} {
		var got []string
		for _, h := range Hints(capacity, c.free, c.n) {
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
	both := SetOf(0, 1)
	either := []Hint{hint(true, 0), hint(true, 1), hint(false, 0, 1)}
	first := []Hint{hint(true, 0), hint(false, 0, 1)}
	second := []Hint{hint(true, 1), hint(false, 0, 1)}
	wide := []Hint{hint(true, 0, 1)}
	for _, c := range []struct {
		resources [][]Hint
		want      string // best-effort, restricted, single-numa-node
	}{
		{nil, "0 1! yes, 0 1! yes, 0 1! yes"},
		{[][]Hint{nil, nil}, "0 1! yes, 0 1! yes, 0 1! yes"},
		{[][]Hint{either}, "0! yes, 0! yes, 0! yes"},
		{[][]Hint{either, second}, "1! yes, 1! yes, 1! yes"},
		{[][]Hint{first, second}, "0 yes, 0 no, 0 1 no"},
		{[][]Hint{wide}, "0 1! yes, 0 1! yes, 0 1 no"},
		{[][]Hint{wide, first}, "0! yes, 0! yes, 0 no"},
		{[][]Hint{first, {}}, "0 yes, 0 no, 0 no"},
		{[][]Hint{first, nil}, "0! yes, 0! yes, 0! yes"},
	} {
		var got []string
		for _, p := range []Policy{BestEffort, Restricted, SingleNode} {
			h, ok := Merge(p, both, c.resources...)
			got = append(got, text(h)+map[bool]string{true: " yes", false: " no"}[ok])
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%v:\n got %s\nwant %s", c.resources, s, c.want)
		}
	}
	if h, ok := Merge(None, both, first, second); !ok || h.Nodes != both {
		t.Errorf("none: %v, %v", h, ok)
	}
}

// TestTakeMemory shows that memory comes from the nodes asked for, and that nodes are not in two groups at a time.
func TestTakeMemory(t *testing.T) {
	free := map[int]int64{0: 10, 1: 10, 2: 10}
	for _, c := range []struct {
		given Groups
		nodes Set
		n     int64
		want  string
	}{
		{nil, SetOf(1), 7, "map[1:7] true"},
		{nil, SetOf(0, 1), 15, "map[0:10 1:5] true"},
		{nil, SetOf(0, 1), 21, "map[] false"},
		{Groups{SetOf(0, 1): 5}, SetOf(0), 1, "map[] false"},
		{Groups{SetOf(0, 1): 5}, SetOf(0, 1), 1, "map[0:1] true"},
		{Groups{SetOf(0, 1): 5}, SetOf(2), 1, "map[2:1] true"},
		{Groups{SetOf(0, 1): 0}, SetOf(0), 1, "map[0:1] true"},
		{nil, 0, 0, "map[] false"},
	} {
		from, ok := TakeMemory(free, c.given, c.nodes, c.n)
		if got := fmt.Sprint(from, ok); got != c.want {
			t.Errorf("%d of %v beside %v: %s, want %s", c.n, c.nodes.List(), c.given, got, c.want)
		}
	}
}
