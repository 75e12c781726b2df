package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/controllermanager/plan"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Claims overlap if one path is the other or above it, unless both are narrowed to different elements.
func TestClaims(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"status", "status.conditions", true}, {"status.conditions", "status", true}, {"spec.replicas", "spec.template", false},
		{"status.conditions[Ready]", "status.conditions[Disk]", false}, {"status.conditions[Ready]", "status.conditions", true},
		{"metadata.finalizers[a]", "metadata.finalizers[a]", true}, {"spec", "status", false}, {"spec", "specific", false},
	} {
		if got := overlap(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
	writer := func(name, field string) Controller {
		return Controller{Name: name, Writes: []Claim{{plan.Pods, field}}}
	}
	if _, err := New(Options{}, writer("a", "status"), writer("b", "status.phase")); !errors.Is(err, ErrTwoWriters) {
		t.Errorf("two writers: %v", err)
	}
	if _, err := New(Options{}, writer("a", "status"), writer("b", "spec")); err != nil {
		t.Errorf("one writer each: %v", err)
	}
}

// recorder collects events.
type recorder struct {
	mu  sync.Mutex
	got []string
}

func (r *recorder) Event(about client.Object, _, reason, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, fmt.Sprintf("%s %s: %s", about.GetName(), reason, fmt.Sprintf(format, args...)))
}

// bench runs one controller on a model server until its test ends.
type bench struct {
	t      *testing.T
	server *clienttest.Server
	client *client.Client
	events *recorder
}

func run(t *testing.T, c Controller, before func(*bench)) *bench {
	t.Helper()
	s := clienttest.NewServer(t)
	b := &bench{t, s, s.Client(), &recorder{}}
	if before != nil {
		before(b)
	}
	e, err := New(Options{
		Client: b.client, Events: b.events, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
		Discover: func(context.Context) ([]Resource, error) {
			return []Resource{{Kind: plan.Pods}, {Kind: plan.ConfigMaps}}, nil
		},
	}, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) configMap(name string) *corev1.ConfigMap {
	b.t.Helper()
	m, err := client.Of(b.client, client.ConfigMaps()).Create(b.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}})
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

// counter declares a controller that raises a number in every ConfigMap up to most.
func counter(most int, steps chan<- Step) Controller {
	return Controller{
		Name: "counter", Reads: []plan.Kind{plan.ConfigMaps}, Writes: []Claim{{plan.ConfigMaps, "data"}},
		Setup: func(s *Setup) error {
			maps := Mirror(s, client.ConfigMaps())
			loop := s.Loop(LoopConfig{Name: "counter", Workers: 4, Step: func(_ context.Context, step Step) (plan.Plan, error) {
				var p plan.Plan
				m, ok := maps.Get(step.Namespace, step.Name)
				if !ok {
					return p, nil
				}
				steps <- step
				n := len(m.Data)
				if n < most {
					next := m.DeepCopy()
					if next.Data == nil {
						next.Data = map[string]string{}
					}
					next.Data[fmt.Sprint(n)] = "seen"
					p.Add(plan.Update(plan.ConfigMaps, next))
					p.EventOf(next, m, corev1.EventTypeNormal, "Raised", "to %d", n+1)
				}
				return p, nil
			}})
			maps.Enqueue(loop, Self[*corev1.ConfigMap])
			return nil
		},
	}
}

// A step never sees a state older than the write of the step before it: no write ever conflicts, though every key is queued
// by each of its own changes.
func TestStepsSeeTheirOwnWrites(t *testing.T) {
	const most = 20
	steps := make(chan Step, 1000)
	b := run(t, counter(most, steps), func(b *bench) {
		for i := range 5 {
			b.configMap(fmt.Sprint(i))
		}
	})
	for done := map[string]bool{}; len(done) < 5; {
		s := <-steps
		if s.Last != nil {
			t.Fatalf("a write of %s failed: %v", s.Key, s.Last)
		}
		m, err := client.Of(b.client, client.ConfigMaps()).Get(t.Context(), s.Namespace, s.Name)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Data) == most {
			done[s.Key] = true
		}
	}
}

// A failed write is tried again with what it failed with, and its event is recorded only once it succeeded.
func TestFailureIsRetried(t *testing.T) {
	steps := make(chan Step, 1000)
	var once sync.Once
	b := run(t, counter(1, steps), func(b *bench) {
		b.configMap("a")
		b.server.Fail(func(method string, ref *apiv1.ResourceRef) error {
			var err error
			if method == "Update" {
				once.Do(func() { err = status.Error(codes.PermissionDenied, "no") })
			}
			return err
		})
	})
	first, second := <-steps, <-steps
	var we *WriteError
	if first.Last != nil || !errors.As(second.Last, &we) || we.Write.ID() != "configmaps ns/a" {
		t.Errorf("first %v, second %v", first.Last, second.Last)
	}
	third := <-steps // the state that the successful write brought
	b.events.mu.Lock()
	defer b.events.mu.Unlock()
	if third.Last != nil || len(b.events.got) != 1 || b.events.got[0] != "a Raised: to 1" {
		t.Errorf("third %v, events %v", third.Last, b.events.got)
	}
}

// A deletion is seen before the next step, and deleting what is gone already is no failure.
func TestDeletionIsAwaited(t *testing.T) {
	steps := make(chan int, 100)
	var maps *View[*corev1.ConfigMap]
	run(t, Controller{
		Name: "reaper", Reads: []plan.Kind{plan.ConfigMaps}, Deletes: []plan.Kind{plan.ConfigMaps},
		Setup: func(s *Setup) error {
			maps = Mirror(s, client.ConfigMaps())
			loop := s.Loop(LoopConfig{Name: "reaper", Step: func(_ context.Context, s Step) (plan.Plan, error) {
				var p plan.Plan
				all := maps.List()
				steps <- len(all)
				if s.Last != nil {
					t.Errorf("failed: %v", s.Last)
				}
				for _, m := range all[:min(1, len(all))] {
					p.Add(plan.Delete(plan.ConfigMaps, m))
					p.After = 1
				}
				return p, nil
			}})
			maps.Enqueue(loop, func(*corev1.ConfigMap) []string { return []string{"all"} })
			return nil
		},
	}, func(b *bench) {
		for i := range 5 {
			b.configMap(fmt.Sprint(i))
		}
	})
	for want := 5; want > 0; {
		switch got := <-steps; {
		case got > want:
			t.Fatalf("a step sees %d objects after %d were deleted", got, 5-want)
		case got == want || got < want:
			want = got - 1
		}
	}
}

// apply refuses what was not declared, and what breaks the contract of plans.
func TestApplyRefuses(t *testing.T) {
	e := &Engine{}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "u", ResourceVersion: "1"}}
	c := Controller{Name: "c", Writes: []Claim{{plan.ConfigMaps, "data"}}}
	for what, p := range map[string]plan.Plan{
		"undeclared":    {Writes: []plan.Write{plan.Delete(plan.ConfigMaps, m)}},
		"twice":         {Writes: []plan.Write{plan.Update(plan.ConfigMaps, m), plan.UpdateStatus(plan.ConfigMaps, m)}},
		"unconditional": {Writes: []plan.Write{plan.Update(plan.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}})}},
	} {
		if err := e.apply(t.Context(), c, slog.New(slog.DiscardHandler), p); err == nil {
			t.Errorf("%s: applied", what)
		}
	}
}

// A guarded write happens only while its guard exists, is the same object and is not being deleted.
func TestGuard(t *testing.T) {
	s := clienttest.NewServer(t)
	b := &bench{t, s, s.Client(), &recorder{}}
	e := &Engine{opts: Options{Client: b.client, Events: b.events, Metrics: NewMetrics(prometheus.NewRegistry())}, views: map[viewID]anyView{}}
	c := Controller{Name: "c", Writes: []Claim{{plan.ConfigMaps, "data"}}}
	guard, target := b.configMap("guard"), b.configMap("target")
	write := func(g plan.Guard) error {
		w := plan.MergePatch(plan.ConfigMaps, target, []byte(`{"data":{"k":"v"}}`))
		w.Guard = &g
		return e.apply(t.Context(), c, slog.New(slog.DiscardHandler), plan.Plan{Writes: []plan.Write{w}})
	}
	if err := write(plan.Guard{Kind: plan.ConfigMaps, Namespace: "ns", Name: "guard", UID: "other"}); !errors.Is(err, ErrGuard) {
		t.Errorf("another uid: %v", err)
	}
	if err := write(plan.Guard{Kind: plan.ConfigMaps, Namespace: "ns", Name: "missing", UID: "x"}); !errors.Is(err, ErrGuard) || !Expected(err) {
		t.Errorf("missing: %v", err)
	}
	if err := write(plan.Guard{Kind: plan.ConfigMaps, Namespace: "ns", Name: "guard", UID: string(guard.UID)}); err != nil {
		t.Errorf("there: %v", err)
	}
}

// A controller whose kinds are not served is not set up; one for which they are optional is.
func TestMissingKinds(t *testing.T) {
	ran := make(chan string, 2)
	setup := func(name string) func(*Setup) error {
		return func(s *Setup) error {
			s.Go(func(context.Context) error { ran <- name; return nil })
			return nil
		}
	}
	s := clienttest.NewServer(t)
	e, err := New(Options{
		Client: s.Client(), Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
		Discover: func(context.Context) ([]Resource, error) { return []Resource{{Kind: plan.Pods}}, nil },
	},
		Controller{Name: "off", Reads: []plan.Kind{plan.Pods, plan.CronJobs}, Setup: setup("off")},
		Controller{Name: "on", Reads: []plan.Kind{plan.Pods}, Optional: []plan.Kind{plan.CronJobs}, Setup: setup("on")},
	)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := e.Run(ctx); err != nil {
		t.Fatal(err)
	}
	close(ran)
	for name := range ran {
		if name != "on" {
			t.Errorf("%s ran", name)
		}
	}
}

// A metadata watch tells a snapshot and then every change, across broken connections, and a new snapshot when history is lost.
func TestFollowMeta(t *testing.T) {
	s := clienttest.NewServer(t)
	b := &bench{t, s, s.Client(), nil}
	b.configMap("a")
	got := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		FollowMeta(ctx, s.Client(), plan.ConfigMaps, MetaHandler{
			Snapshot: func(objects []*Meta) { got <- fmt.Sprintf("snapshot of %d", len(objects)) },
			Changed:  func(m *Meta) { got <- "changed " + m.Name },
			Deleted:  func(m *Meta) { got <- "deleted " + m.Name },
		})
	}()
	defer func() { cancel(); <-done }()
	expect := func(want string) {
		t.Helper()
		if have := <-got; have != want {
			t.Fatalf("%s, want %s", have, want)
		}
	}
	expect("snapshot of 1")
	b.configMap("b")
	expect("changed b")
	s.Disconnect()
	// A fresh client writes meanwhile; the old one may still be finding out.
	b.client = s.NewClient()
	if err := client.Of(b.client, client.ConfigMaps()).Delete(t.Context(), "ns", "a", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("deleted a")
	b.configMap("c")
	expect("changed c")
}
