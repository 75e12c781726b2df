package watchcache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/watchcache"
)

// A watch begins with the selected objects, says where they end, and goes on without a gap.
func TestInitialEvents(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	const n = 600 // more than one batch
	for i := range n {
		commit(t, engine, putPod(t, "a", fmt.Sprintf("p%03d", i), "web", "n1"), putPod(t, "b", fmt.Sprintf("p%03d", i), "db", "n1"))
	}
	last := list(t, caches[0], watchcache.Query{}, watchcache.ListOptions{}).Revision
	c, err := caches[0].Watch(deadline(t), watchcache.Query{Labels: must(labels.Parse("app=web"))}, watchcache.WatchOptions{InitialEvents: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	after := commit(t, engine, putPod(t, "a", "p000", "web", "n2"))
	seen := 0
	for {
		batch, err := c.Next(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		if batch.InitialEventsEnd {
			if batch.Revision != last || len(batch.Events) > 0 {
				t.Errorf("initial events end with %d events at %d, not %d", len(batch.Events), batch.Revision, last)
			}
			break
		}
		if batch.Revision != 0 {
			t.Errorf("initial events at %d", batch.Revision)
		}
		for _, e := range batch.Events {
			if e.Type != watchcache.Added || e.Item.Name != fmt.Sprintf("p%03d", seen) {
				t.Fatalf("initial event %d: %v %s", seen, e.Type, e.Item.Name)
			}
			seen++
		}
	}
	if seen != n {
		t.Errorf("%d initial events", seen)
	}
	want(t, events(t, c, 1), fmt.Sprintf("MODIFIED p000@%d", after))
}

// An object that stops matching is delivered as deleted, in its last matching state, with the revision of the change.
func TestSelectorTransitions(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	r1 := commit(t, engine, putPod(t, "a", "p", "web", "n1"))
	c, err := caches[0].Watch(deadline(t), watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "n2")}, watchcache.WatchOptions{From: r1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r2 := commit(t, engine, putPod(t, "a", "p", "web", "n2"))
	r3 := commit(t, engine, putPod(t, "a", "p", "db", "n2"))
	r4 := commit(t, engine, putPod(t, "a", "p", "db", "n3"))
	commit(t, engine, putPod(t, "a", "p", "db", "n1"))
	r6 := commit(t, engine, putPod(t, "a", "p", "db", "n2"))
	r7 := commit(t, engine, deletePod(t, "a", "p"))
	want(t, events(t, c, 5), fmt.Sprintf("ADDED p@%d", r2), fmt.Sprintf("MODIFIED p@%d", r3), fmt.Sprintf("DELETED p@%d", r4),
		fmt.Sprintf("ADDED p@%d", r6), fmt.Sprintf("DELETED p@%d", r7))
}

// Watchers that see an event in the same way share it, with its encodings.
func TestEventsAreShared(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	from, _ := engine.Current(t.Context())
	queries := []watchcache.Query{{}, {Namespace: "a"}, {Labels: must(labels.Parse("app=web"))}, {Name: "p", Namespace: "a"}}
	var cursors []*watchcache.Cursor
	for _, q := range queries {
		c, err := caches[0].Watch(deadline(t), q, watchcache.WatchOptions{From: from})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cursors = append(cursors, c)
	}
	commit(t, engine, putPod(t, "a", "p", "web", "n1"))
	commit(t, engine, deletePod(t, "a", "p"))
	encodings := 0
	var first []*watchcache.Event
	for _, c := range cursors {
		var got []*watchcache.Event
		for len(got) < 2 {
			batch, err := c.Next(deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, batch.Events...)
		}
		for _, e := range got {
			e.Encoded("test", func(e *watchcache.Event) ([]byte, error) { encodings++; return e.Item.Frame.Object(), nil })
		}
		if first == nil {
			first = got
		}
		if !slices.Equal(first, got) {
			t.Errorf("events %v are not those of the first watcher, %v", got, first)
		}
	}
	if encodings != 2 {
		t.Errorf("two events were encoded %d times", encodings)
	}
}

// A watcher that nothing concerns gets a bookmark that it can resume from, at the revision the store is at.
func TestBookmarks(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	c, err := caches[0].Watch(deadline(t), watchcache.Query{Namespace: "quiet"}, watchcache.WatchOptions{Bookmarks: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rev := commit(t, engine, putPod(t, "noisy", "p", "web", "n1"), storage.Op{Key: "/registry/other/x", Value: []byte("y")})
	for {
		batch, err := c.Next(deadline(t))
		if err != nil || len(batch.Events) > 0 {
			t.Fatalf("%+v %v", batch, err)
		}
		if batch.Revision == rev {
			return
		}
	}
}

// A watcher that is only interested in a quiet corner does not expire because the rest is busy; one that has missed an
// event of its own does, and says so for ever.
func TestOnlyMissedEventsExpire(t *testing.T) {
	engine := memory.New()
	cfg := podConfig()
	cfg.LogEvents = 16
	_, caches := serve(t, engine, cfg)
	from, _ := engine.Current(t.Context())
	watch := func(q watchcache.Query) *watchcache.Cursor {
		c, err := caches[0].Watch(deadline(t), q, watchcache.WatchOptions{From: from})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	quiet, busy := watch(watchcache.Query{Namespace: "quiet"}), watch(watchcache.Query{Namespace: "busy"})
	for i := range 100 {
		commit(t, engine, putPod(t, "busy", fmt.Sprintf("p%d", i), "web", "n1"))
	}
	rev := commit(t, engine, putPod(t, "quiet", "p", "web", "n1"))
	want(t, events(t, quiet, 1), fmt.Sprintf("ADDED p@%d", rev))
	for range 2 {
		if _, err := busy.Next(deadline(t)); !errors.Is(err, watchcache.ErrExpired) {
			t.Errorf("watcher that missed events: %v", err)
		}
	}
	if _, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{From: from}); !errors.Is(err, watchcache.ErrExpired) {
		t.Errorf("watch from a revision that the log no longer has: %v", err)
	}
}

// A cursor can be closed twice, and while it waits; a Next whose context ends can be repeated.
func TestCursorEnds(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	c, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	next := func(ctx context.Context) { _, err := c.Next(ctx); done <- err }
	go next(ctx)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("context ended: %v", err)
	}
	go next(t.Context())
	c.Close()
	if err := <-done; !errors.Is(err, watchcache.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	c.Close()
}

// Each commit wakes every waiting watcher that it concerns, whatever it selects by, with no later event to help.
func TestEveryEventWakes(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	ctx, cancel := context.WithCancel(t.Context())
	queries := []watchcache.Query{{}, {Namespace: "a"}, {Name: "p"}, {Namespace: "a", Name: "p"}, {Labels: must(labels.Parse("app=web"))},
		{Labels: must(labels.Parse("app!=db"))}, {Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, {Fields: fields.OneTermNotEqualSelector("spec.nodeName", "n2")}}
	got := make(chan storage.Revision, 2*len(queries))
	var wait sync.WaitGroup
	for i := range 2 * len(queries) {
		c, err := caches[0].Watch(ctx, queries[i%len(queries)], watchcache.WatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			defer c.Close()
			for {
				batch, err := c.Next(ctx)
				if err != nil {
					return
				}
				for _, e := range batch.Events {
					got <- e.Item.Revision
				}
			}
		}()
	}
	if stats := caches[0].Stats(); stats.Watchers != 2*len(queries) {
		t.Errorf("%d watchers", stats.Watchers)
	}
	for range 300 {
		rev := commit(t, engine, putPod(t, "a", "p", "web", "n1"))
		for i := range 2 * len(queries) {
			select {
			case r := <-got:
				if r != rev {
					t.Fatalf("event of revision %d after the commit at %d", r, rev)
				}
			case <-deadline(t).Done():
				t.Fatalf("%d of %d watchers were woken", i, 2*len(queries))
			}
		}
	}
	cancel()
	wait.Wait()
	if stats := caches[0].Stats(); stats.Watchers != 0 || stats.Objects != 1 || stats.LogEvents != 300 {
		t.Errorf("after all have left: %+v", stats)
	}
}

// A watcher that starts from an earlier revision gets what it missed, also when others already select by the same thing.
func TestWatchFromEarlier(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	start := commit(t, engine, putPod(t, "a", "p", "web", "n1"))
	var expected []string
	for range 3 {
		commit(t, engine, putPod(t, "other", "p", "web", "n2"))
		expected = append(expected, fmt.Sprintf("MODIFIED p@%d", commit(t, engine, putPod(t, "a", "p", "web", "n1"))))
	}
	for _, q := range []watchcache.Query{{Namespace: "a"}, {Namespace: "a", Name: "p"}, {Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}} {
		for _, from := range []storage.Revision{0, start + 4, start, start + 2} {
			c, err := caches[0].Watch(deadline(t), q, watchcache.WatchOptions{From: from})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			switch from {
			case start:
				want(t, events(t, c, 3), expected...)
			case start + 2:
				want(t, events(t, c, 2), expected[1:]...)
			case start + 4:
				want(t, events(t, c, 1), expected[2:]...)
			}
		}
	}
}

// The encodings of events that are no longer new are let go of, so that a log full of them does not hold everything twice.
func TestEncodingsOfOldEventsAreDropped(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	c, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	commit(t, engine, putPod(t, "a", "p", "web", "n1"))
	batch, err := c.Next(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	builds := 0
	encode := func() {
		if _, err := batch.Events[0].Encoded("test", func(*watchcache.Event) ([]byte, error) { builds++; return nil, nil }); err != nil {
			t.Fatal(err)
		}
	}
	encode()
	encode()
	if builds != 1 {
		t.Errorf("a new event was encoded %d times", builds)
	}
	for range 1100 {
		commit(t, engine, putPod(t, "a", "p", "web", "n1"))
	}
	list(t, caches[0], watchcache.Query{}, watchcache.ListOptions{})
	encode()
	encode()
	if builds != 3 {
		t.Errorf("an old event was encoded %d times", builds-1)
	}
}
