package watchcache_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/watchcache"
)

// Each of hundreds of watchers of one collection gets every event, in order, while some of them come and go.
func TestCrowd(t *testing.T) {
	const watchers, commits = 500, 100
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	ctx := deadline(t)
	var wg sync.WaitGroup
	var got atomic.Int64
	last := make(chan struct{})
	for i := range watchers {
		query := watchcache.Query{}
		if i%2 == 0 {
			query.Namespace = "a"
		}
		c, err := caches[0].Watch(ctx, query, watchcache.WatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			seen := watchcache.Batch{}
			for n := 0; n < commits; {
				batch, err := c.Next(ctx)
				if err != nil {
					t.Errorf("after %d of %d events: %v", n, commits, err)
					return
				}
				for _, e := range batch.Events {
					if e.Item.Revision <= seen.Revision {
						t.Errorf("revision %d after %d", e.Item.Revision, seen.Revision)
					}
				}
				n, seen = n+len(batch.Events), batch
			}
			if got.Add(1) == watchers {
				close(last)
			}
		})
	}
	passing, stop := context.WithCancel(ctx)
	wg.Go(func() {
		for passing.Err() == nil {
			c, err := caches[0].Watch(ctx, watchcache.Query{Namespace: "a"}, watchcache.WatchOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			next, cancel := context.WithTimeout(passing, time.Millisecond)
			c.Next(next)
			cancel()
			c.Close()
		}
	})
	for range commits {
		commit(t, engine, putPod(t, "a", "p", "web", "n1"))
	}
	<-last
	stop()
	wg.Wait()
	if stats := caches[0].Stats(); stats.Watchers != 0 {
		t.Errorf("%d watchers are left", stats.Watchers)
	}
}

// Bookmarks come when there has been no batch for their interval, counted from the last batch, and again after each interval.
func TestBookmarkTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := memory.New()
		_, caches := serve(t, engine, podConfig())
		c, err := caches[0].Watch(t.Context(), watchcache.Query{}, watchcache.WatchOptions{Bookmarks: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		start := time.Now()
		wantAt := func(at time.Duration, events int) {
			t.Helper()
			b, err := c.Next(t.Context())
			if since := time.Since(start); err != nil || len(b.Events) != events || since != at {
				t.Errorf("%d events after %s, %v; not %d after %s", len(b.Events), since, err, events, at)
			}
		}
		wantAt(time.Minute, 0)
		wantAt(2*time.Minute, 0)
		time.AfterFunc(30*time.Second, func() { commit(t, engine, putPod(t, "a", "p", "web", "n1")) })
		wantAt(150*time.Second, 1)
		wantAt(210*time.Second, 0)
	})
}
