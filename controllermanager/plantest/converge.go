package plantest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// maxRounds bounds a story: one that takes longer does not converge.
const maxRounds = 300

// lagRounds is how long a lagging story is played before its mirrors catch up.
const lagRounds = 40

// Story is a controller in its surroundings.
type Story struct {
	// Start is the world before; it is not changed.
	Start *World
	// Plans makes the plans of all cores under test from a view, by a name for each core and the object it is about.
	Plans func(view *World) map[string]plan.Plan
	// Environment, optional, does what others do between two rounds (kubelets, schedulers), and moves the clock if the
	// story needs that. It must come to rest.
	Environment func(w *World)
	// Writes, optional, are the fields that the cores under test declare; a change of any other fails the test.
	Writes []engine.Claim
	// Invariant, optional, must hold after every single write.
	Invariant func(w *World) error
}

// Run plays the story to its end and returns the world in which nothing is left to do.
func (s Story) Run(t testing.TB) *World {
	t.Helper()
	w := s.Start.Clone()
	s.settle(t, w, nil)
	return w
}

// settle runs rounds until a whole round changes nothing. before, if given, is told each plan before it is applied.
func (s Story) settle(t testing.TB, w *World, before func(w *World, p plan.Plan)) {
	t.Helper()
	for range maxRounds {
		rev := w.Revision()
		plans := s.Plans(w)
		for _, id := range slices.Sorted(maps.Keys(plans)) {
			p := plans[id]
			if err := p.Check(); err != nil {
				t.Fatalf("plan of %s: %v", id, err)
			}
			if before != nil {
				before(w, p)
			}
			for _, x := range p.Writes {
				s.apply(t, w, x)
			}
		}
		if s.Environment != nil {
			s.Environment(w)
			s.check(t, w, "the environment")
		}
		if w.Revision() == rev {
			return
		}
	}
	t.Fatalf("no end after %d rounds; last plans: %v\n%s", maxRounds, describe(s.Plans(w)), w.Dump())
}

func (s Story) apply(t testing.TB, w *World, x plan.Write) {
	t.Helper()
	// A write may lose against another of the same round; that is what preconditions are for.
	before := w.objects[keyOf(x.Kind, x.Object)]
	if err := w.Apply(x); err == nil && x.Verb != plan.VerbDelete {
		if err := unclaimed(s.Writes, x.Kind, before, w.objects[keyOf(x.Kind, x.Object)]); err != nil {
			t.Fatal(err)
		}
	}
	s.check(t, w, fmt.Sprintf("%s %s", x.Verb, x.ID()))
}

func (s Story) check(t testing.TB, w *World, after string) {
	t.Helper()
	if s.Invariant == nil {
		return
	}
	if err := s.Invariant(w); err != nil {
		t.Fatalf("after %s: %v", after, err)
	}
}

// Crash plays the story once for every write in it: the controller dies with some of its plan carried out, the world goes
// on, a new controller starts from what it sees. Every end must be the same as that of the undisturbed story. Since a
// plan's writes go out in no promised order, which ones are carried out is also tried at random.
func (s Story) Crash(t testing.TB) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	want := s.Run(t).Dump()
	type crash struct {
		w     *World
		about string
	}
	var crashes []crash
	w := s.Start.Clone()
	round := 0
	s.settle(t, w, func(w *World, p plan.Plan) {
		round++
		for n := range p.Writes {
			after := w.Clone()
			for _, x := range p.Writes[:n] {
				s.apply(t, after, x)
			}
			some := w.Clone()
			for _, i := range random.Perm(len(p.Writes))[:n] {
				s.apply(t, some, p.Writes[i])
			}
			about := fmt.Sprintf("plan %d, %d of %d writes", round, n, len(p.Writes))
			crashes = append(crashes, crash{after, about}, crash{some, about + ", any"})
		}
	})
	for _, c := range crashes {
		s.settle(t, c.w, nil)
		if got := c.w.Dump(); got != want {
			t.Fatalf("crash at %s ends differently:\n%s", c.about, diff(got, want))
		}
	}
}

// Stale plays the story with a second controller beside it that always decides from a view some plans old, as a deposed
// leader would whose last requests arrive late. The invariant must hold, and the end must be the same.
func (s Story) Stale(t testing.TB, behind ...int) {
	t.Helper()
	want := s.Run(t).Dump()
	for _, n := range behind {
		w := s.Start.Clone()
		var history []*World
		s.settle(t, w, func(w *World, _ plan.Plan) {
			history = append(history, w.Clone())
			if len(history) <= n {
				return
			}
			plans := s.Plans(history[len(history)-1-n])
			for _, id := range slices.Sorted(maps.Keys(plans)) {
				for _, x := range plans[id].Writes {
					s.apply(t, w, x)
				}
			}
		})
		if got := w.Dump(); got != want {
			t.Fatalf("with a view %d steps old beside it ends differently:\n%s", n, diff(got, want))
		}
	}
}

func describe(plans map[string]plan.Plan) []string {
	var out []string
	for _, p := range plans {
		for _, x := range p.Writes {
			out = append(out, fmt.Sprintf("%s/%s %s", x.Verb, x.Subresource, x.ID()))
		}
	}
	return out
}

// Lag plays the story many times with mirrors that lag: each core decides from the state of a random moment, which is only
// as new as its own last write, as the engine guarantees. Others' writes, other cores' among them, are seen late. The
// invariant must hold, and the end must be the same.
func (s Story) Lag(t testing.TB, times int) {
	t.Helper()
	want := s.Run(t).Dump()
	for seed := range times {
		random := rand.New(rand.NewPCG(uint64(seed), 7))
		w := s.Start.Clone()
		history := []*World{w.Clone()}
		seen := map[string]int{}
		for range lagRounds {
			plans := s.Plans(w)
			for _, id := range slices.Sorted(maps.Keys(plans)) {
				from := seen[id] + random.IntN(len(history)-seen[id])
				// A mirror never goes back.
				seen[id] = from
				p := s.Plans(history[from])[id]
				for _, x := range p.Writes {
					s.apply(t, w, x)
				}
				if len(p.Writes) > 0 {
					history = append(history, w.Clone())
					seen[id] = len(history) - 1
				}
			}
			if s.Environment != nil {
				s.Environment(w)
				s.check(t, w, "the environment")
			}
			history = append(history, w.Clone())
		}
		s.settle(t, w, nil)
		if got := w.Dump(); got != want {
			t.Fatalf("with lagging mirrors (seed %d) ends differently:\n%s", seed, diff(got, want))
		}
	}
}

// diff shows the lines that two dumps do not share.
func diff(got, want string) string {
	have := strings.Split(got, "\n")
	wanted := strings.Split(want, "\n")
	var out []string
	for _, line := range have {
		if !slices.Contains(wanted, line) {
			out = append(out, "got  "+line)
		}
	}
	for _, line := range wanted {
		if !slices.Contains(have, line) {
			out = append(out, "want "+line)
		}
	}
	return strings.Join(out, "\n")
}
