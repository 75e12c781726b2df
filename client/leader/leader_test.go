package leader_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/client/leader"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// electorate runs candidates and notes who leads when.
type electorate struct {
	t       *testing.T
	s       *clienttest.Server
	start   time.Time
	mu      sync.Mutex
	leading map[string]bool
	log     []string
}

func newElectorate(t *testing.T) *electorate {
	return &electorate{t: t, s: clienttest.NewServer(t), start: time.Now(), leading: map[string]bool{}}
}

// candidate takes part until the returned function is called, which waits for its end.
func (e *electorate) candidate(c *client.Client, id string) (stop func()) {
	ctx, cancel := context.WithCancel(e.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := leader.Run(ctx, c, leader.Config{Name: "test", Identity: id, OnStarted: func(ctx context.Context) {
			e.note(id, true)
			<-ctx.Done()
			e.note(id, false)
		}})
		if err != nil {
			e.t.Errorf("%s: %v", id, err)
		}
	}()
	return func() { cancel(); <-done }
}

func (e *electorate) note(id string, leads bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leading[id] = leads
	n := 0
	for _, l := range e.leading {
		if l {
			n++
		}
	}
	if n > 1 {
		e.t.Errorf("%d leaders at once after %v", n, time.Since(e.start))
	}
	e.log = append(e.log, fmt.Sprintf("%s %v %v", id, leads, time.Since(e.start).Round(10*time.Millisecond)))
}

func (e *electorate) expect(want ...string) {
	e.t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if fmt.Sprint(e.log) != fmt.Sprint(want) {
		e.t.Errorf("leadership:\n%v\nwant\n%v", e.log, want)
	}
}

// Shows that one candidate leads, and that the next takes over at once when it stops gracefully.
func TestGracefulHandover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newElectorate(t)
		stopA := e.candidate(e.s.NewClient(), "a")
		time.Sleep(100 * time.Millisecond)
		stopB := e.candidate(e.s.NewClient(), "b")
		time.Sleep(10 * time.Second)
		stopA()
		time.Sleep(200 * time.Millisecond)
		e.expect("a true 0s", "a false 10.1s", "b true 10.1s")
		lease, err := client.Of(e.s.Client(), client.Leases()).Get(t.Context(), "kube-system", "test")
		if err != nil || *lease.Spec.HolderIdentity != "b" || *lease.Spec.LeaseTransitions != 1 || *lease.Spec.LeaseDurationSeconds != 3 {
			t.Errorf("lease: %+v, %v", lease.Spec, err)
		}
		stopB()
	})
}

// Shows that a leader that cannot reach the API stops before its lease can be taken, and that the other takes it within the
// lease's duration of the last renewal.
func TestLeaderCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newElectorate(t)
		stopA := e.candidate(e.s.NewClient(), "a")
		time.Sleep(100 * time.Millisecond)
		stopB := e.candidate(e.s.NewClient(), "b")
		time.Sleep(5200 * time.Millisecond)
		e.s.Fail(func(method string, ref *apiv1.ResourceRef) error {
			if method == "Update" {
				return status.Error(codes.Unavailable, "down")
			}
			return nil
		})
		time.Sleep(2 * time.Second)
		e.s.Fail(nil)
		time.Sleep(1500 * time.Millisecond)
		stopB()
		stopA()
		if len(e.log) < 3 || e.log[0] != "a true 0s" || e.log[1] != "a false 7s" {
			t.Errorf("leadership: %v", e.log)
		}
	})
}

// Shows that when the store stalls, nobody leads after the deadline, and somebody does again once it is back.
func TestStoreStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newElectorate(t)
		stopA := e.candidate(e.s.NewClient(), "a")
		stopB := e.candidate(e.s.NewClient(), "b")
		time.Sleep(3500 * time.Millisecond)
		e.s.Fail(func(string, *apiv1.ResourceRef) error { return status.Error(codes.Unavailable, "down") })
		time.Sleep(60 * time.Second)
		e.mu.Lock()
		if e.leading["a"] || e.leading["b"] {
			t.Error("somebody leads although the store is gone")
		}
		e.mu.Unlock()
		e.s.Fail(nil)
		time.Sleep(5 * time.Second)
		e.mu.Lock()
		if !e.leading["a"] && !e.leading["b"] {
			t.Error("nobody leads although the store is back")
		}
		e.mu.Unlock()
		stopA()
		stopB()
	})
}

// Shows that work that ends by itself gives the lease up and ends the candidacy.
func TestWorkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		err := leader.Run(t.Context(), s.Client(), leader.Config{Name: "test", Identity: "a", OnStarted: func(context.Context) {}})
		lease, getErr := client.Of(s.Client(), client.Leases()).Get(t.Context(), "kube-system", "test")
		if err != nil || getErr != nil || *lease.Spec.HolderIdentity != "" {
			t.Errorf("run: %v; lease %+v, %v", err, lease, getErr)
		}
	})
}
