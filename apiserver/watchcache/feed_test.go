package watchcache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/watchcache"
)

// A resource that is added while others are served is filled and takes part; one that is removed ends its watchers.
func TestAddAndRemove(t *testing.T) {
	engine := memory.New()
	feed, _ := serve(t, engine)
	rev := commit(t, engine, putPod(t, "a", "p", "web", "n1"))
	pods, err := feed.Add(podConfig())
	if err != nil {
		t.Fatal(err)
	}
	page := list(t, pods, watchcache.Query{}, watchcache.ListOptions{})
	want(t, names(page.Items), "a/p")
	c, err := pods.Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{From: rev})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rev = commit(t, engine, deletePod(t, "a", "p"))
	want(t, events(t, c, 1), fmt.Sprintf("DELETED p@%d", rev))
	feed.Remove(pods)
	if _, err := c.Next(deadline(t)); !errors.Is(err, watchcache.ErrExpired) {
		t.Errorf("watcher of a removed resource: %v", err)
	}
	if _, err := pods.List(deadline(t), watchcache.Query{}, watchcache.ListOptions{}); !errors.Is(err, watchcache.ErrClosed) {
		t.Errorf("list of a removed resource: %v", err)
	}
}

// flaky is an engine whose watches fail when told to.
type flaky struct {
	storage.Engine
	mu       sync.Mutex
	watchers []storage.Watcher
}

func (f *flaky) Watch(ctx context.Context, prefix string, from storage.Revision) (storage.Watcher, error) {
	w, err := f.Engine.Watch(ctx, prefix, from)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers = append(f.watchers, w)
	return &unlucky{w}, nil
}

// fail makes the watches that there are fail.
func (f *flaky) fail() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watchers {
		w.Close()
	}
	f.watchers = nil
}

// unlucky says that the store is unavailable when its watcher is closed.
type unlucky struct{ storage.Watcher }

func (u *unlucky) Next(ctx context.Context) (storage.Batch, error) {
	b, err := u.Watcher.Next(ctx)
	if errors.Is(err, storage.ErrClosed) {
		err = storage.ErrUnavailable
	}
	return b, err
}

// When the store's watch fails the feed resumes it, and watchers miss nothing and notice nothing.
func TestFeedResumes(t *testing.T) {
	engine := &flaky{Engine: memory.New()}
	_, caches := serve(t, engine, podConfig())
	c, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 5 {
		engine.fail()
		rev := commit(t, engine, putPod(t, "a", fmt.Sprintf("p%d", i), "web", "n1"))
		want(t, events(t, c, 1), fmt.Sprintf("ADDED p%d@%d", i, rev))
	}
}

// When the store has forgotten what the feed missed, the feed loads anew: watchers are told, lists show the new state.
func TestFeedLoadsAnewAfterCompaction(t *testing.T) {
	engine := &stoppable{Engine: memory.New(), gate: make(chan struct{}, 1)}
	_, caches := serve(t, engine, podConfig())
	commit(t, engine, putPod(t, "a", "stays", "web", "n1"), putPod(t, "a", "goes", "web", "n1"))
	c, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	engine.stop()
	commit(t, engine, deletePod(t, "a", "goes"), putPod(t, "a", "comes", "web", "n1"))
	rev := commit(t, engine, storage.Op{Key: "/registry/other", Value: nil})
	if err := engine.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	engine.resume()
	for err = nil; err == nil; {
		var batch watchcache.Batch
		if batch, err = c.Next(deadline(t)); len(batch.Events) > 0 {
			t.Errorf("events after a gap: %+v", batch)
		}
	}
	if !errors.Is(err, watchcache.ErrExpired) {
		t.Errorf("watcher after a gap: %v", err)
	}
	page := list(t, caches[0], watchcache.Query{}, watchcache.ListOptions{})
	want(t, names(page.Items), "a/comes", "a/stays")
}

// stoppable is an engine whose watches can be held up.
type stoppable struct {
	storage.Engine
	gate chan struct{}
}

func (s *stoppable) stop()   { s.gate <- struct{}{} }
func (s *stoppable) resume() { <-s.gate }

func (s *stoppable) Watch(ctx context.Context, prefix string, from storage.Revision) (storage.Watcher, error) {
	w, err := s.Engine.Watch(ctx, prefix, from)
	return &gated{w, s}, err
}

type gated struct {
	storage.Watcher
	engine *stoppable
}

func (g *gated) Next(ctx context.Context) (storage.Batch, error) {
	select {
	case g.engine.gate <- struct{}{}:
		defer func() { <-g.engine.gate }()
	case <-ctx.Done():
		return storage.Batch{}, ctx.Err()
	}
	next, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	b, err := g.Watcher.Next(next)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return storage.Batch{}, nil
	}
	return b, err
}

// A watcher resumes on a server that has just started, from a revision before the start.
func TestResumeAfterRestart(t *testing.T) {
	engine := memory.New()
	start := commit(t, engine, putPod(t, "a", "before", "web", "n1"))
	var revs []storage.Revision
	for i := range 5 {
		revs = append(revs, commit(t, engine, putPod(t, "a", fmt.Sprintf("p%d", i), "web", "n1")))
	}
	_, caches := serve(t, engine, podConfig())
	c, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{From: start})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var expected []string
	for i, rev := range revs {
		expected = append(expected, fmt.Sprintf("ADDED p%d@%d", i, rev))
	}
	want(t, events(t, c, 5), expected...)
}

// A read from the store gets past a page on which nothing is an object.
func TestReadsPastJunk(t *testing.T) {
	t.Parallel()
	engine := &stoppable{Engine: memory.New(), gate: make(chan struct{}, 1)}
	_, caches := serve(t, engine, podConfig())
	engine.stop()
	defer engine.resume()
	const junk = 600
	for i := 0; i < junk; i += storage.MaxOps {
		var ops []storage.Op
		for k := i; k < min(i+storage.MaxOps, junk); k++ {
			ops = append(ops, storage.Op{Key: fmt.Sprintf("%sA/junk%03d", podsAt, k), Value: []byte("junk")})
		}
		commit(t, engine, ops...)
	}
	commit(t, engine, putPod(t, "a", "after", "web", "n1"), putPod(t, "b", "other", "web", "n1"))
	page := list(t, caches[0], watchcache.Query{}, watchcache.ListOptions{})
	want(t, names(page.Items), "a/after", "b/other")
}

// Without progress notifications of the store a fresh read is answered from the store itself, and a watch from there
// misses and repeats nothing.
func TestReadsPastALaggingFeed(t *testing.T) {
	t.Parallel()
	engine := &stoppable{Engine: memory.New(), gate: make(chan struct{}, 1)}
	_, caches := serve(t, engine, podConfig())
	engine.stop()
	commit(t, engine, putPod(t, "a", "x", "web", "n1"))
	rev := commit(t, engine, putPod(t, "b", "y", "web", "n2"))
	page := list(t, caches[0], watchcache.Query{}, watchcache.ListOptions{})
	want(t, names(page.Items), "a/x", "b/y")
	page = list(t, caches[0], watchcache.Query{Namespace: "b"}, watchcache.ListOptions{})
	want(t, names(page.Items), "b/y")
	if it, _, err := caches[0].Get(deadline(t), "a", "x", watchcache.ReadOptions{}); err != nil || it.Name != "x" {
		t.Errorf("get: %v", err)
	}
	fresh, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{InitialEvents: true})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	resumed, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{From: rev})
	if err != nil {
		t.Fatal(err)
	}
	defer resumed.Close()
	want(t, events(t, fresh, 2), fmt.Sprintf("ADDED x@%d", rev-1), fmt.Sprintf("ADDED y@%d", rev))
	engine.resume()
	next := commit(t, engine, deletePod(t, "a", "x"))
	want(t, events(t, fresh, 1), fmt.Sprintf("DELETED x@%d", next))
	want(t, events(t, resumed, 1), fmt.Sprintf("DELETED x@%d", next))
}
