package events_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/client/events"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// with runs a recorder while f records.
func with(t *testing.T, f func(t *testing.T, s *clienttest.Server, rec *events.Recorder)) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		rec := events.NewRecorder(s.Client(), "tester", "host-1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- rec.Run(ctx) }()
		f(t, s, rec)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func stored(t *testing.T, s *clienttest.Server) []*corev1.Event {
	t.Helper()
	time.Sleep(time.Second)
	evs, _, err := client.Of(s.Client(), client.Events()).List(t.Context(), "", client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return evs
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "u-" + "1"}}
}

// Shows that equal events become one with a count, across batches, and different ones do not.
func TestAggregation(t *testing.T) {
	with(t, func(t *testing.T, s *clienttest.Server, rec *events.Recorder) {
		for range 3 {
			rec.Event(pod("p"), corev1.EventTypeWarning, "FailedScheduling", "0/%d nodes are available", 5)
			rec.Event(pod("p"), corev1.EventTypeWarning, "FailedScheduling", "0/%d nodes are available", 6)
			time.Sleep(time.Second)
		}
		evs := stored(t, s)
		if len(evs) != 2 {
			t.Fatalf("%d events, want 2", len(evs))
		}
		for _, ev := range evs {
			ref := ev.InvolvedObject
			if ev.Count != 3 || ev.LastTimestamp.Sub(ev.FirstTimestamp.Time) != 2*time.Second || ev.Source.Component != "tester" ||
				ref.Kind != "Pod" || ref.APIVersion != "v1" || ref.UID != "u-1" || ev.Namespace != "shop" {
				t.Errorf("event %+v", ev)
			}
		}
	})
}

// Shows that an event whose predecessor has expired is written anew.
func TestExpiredPredecessor(t *testing.T) {
	with(t, func(t *testing.T, s *clienttest.Server, rec *events.Recorder) {
		rec.Event(pod("p"), corev1.EventTypeNormal, "Pulled", "image pulled")
		for _, ev := range stored(t, s) {
			if err := client.Of(s.Client(), client.Events()).Delete(t.Context(), ev.Namespace, ev.Name, client.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		rec.Event(pod("p"), corev1.EventTypeNormal, "Pulled", "image pulled")
		if evs := stored(t, s); len(evs) != 1 || evs[0].Count != 1 {
			t.Errorf("events: %v", evs)
		}
	})
}

// Shows that one noisy object is limited while others are heard, and that what is dropped is counted.
func TestRateLimit(t *testing.T) {
	with(t, func(t *testing.T, s *clienttest.Server, rec *events.Recorder) {
		for i := range 100 {
			rec.Event(pod("noisy"), corev1.EventTypeNormal, "Noise", "number %d", i)
		}
		rec.Event(pod("quiet"), corev1.EventTypeNormal, "Once", "only one")
		if evs := stored(t, s); len(evs) != 26 || rec.Dropped() != 75 {
			t.Errorf("%d events, %d dropped", len(evs), rec.Dropped())
		}
	})
}

// Shows that what is recorded just before the end is written, and that a server that does not answer does not hold the end up.
func TestFlush(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := clienttest.NewServer(t)
			c := s.Client()
			rec := events.NewRecorder(c, "tester", "host-1")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- rec.Run(ctx) }()
			time.Sleep(time.Second)
			if !answers {
				s.Fail(func(string, *apiv1.ResourceRef) error { time.Sleep(time.Minute); return nil })
			}
			rec.Event(pod("p"), corev1.EventTypeNormal, "Last", "the last words")
			start := time.Now()
			cancel()
			if err := <-done; err != nil || time.Since(start) > 2*time.Second {
				t.Errorf("ended after %v with %v", time.Since(start), err)
			}
			if answers {
				if evs := stored(t, s); len(evs) != 1 {
					t.Errorf("%d events", len(evs))
				}
			}
			time.Sleep(2 * time.Minute)
		})
	}
}

// Shows that cluster-scoped objects have their events in the default namespace, with their group.
func TestReference(t *testing.T) {
	ref := events.Reference(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	if fmt.Sprint(ref.APIVersion, ref.Kind) != "v1Node" {
		t.Errorf("%+v", ref)
	}
}
