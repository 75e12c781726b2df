package watchcache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/watchcache"
	"bareboat.dev/apiserver/watchcache/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names returns the names of items, in order.
func names(items []*watchcache.Item) (out []string) {
	for _, it := range items {
		out = append(out, it.Namespace+"/"+it.Name)
	}
	return out
}

func putPod(t testing.TB, namespace, name, app, node string) storage.Op {
	key, value := pod(t, namespace, name, app, node)
	return storage.Op{Type: storage.Put, Key: key, Value: value}
}

func deletePod(t testing.TB, namespace, name string) storage.Op {
	key, _ := pod(t, namespace, name, "", "")
	return storage.Op{Type: storage.Delete, Key: key}
}

func list(t testing.TB, c *watchcache.Cache, q watchcache.Query, o watchcache.ListOptions) watchcache.Page {
	t.Helper()
	page, err := c.List(deadline(t), q, o)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// events reads a cursor until it has delivered n events.
func events(t testing.TB, c *watchcache.Cursor, n int) (out []string) {
	t.Helper()
	for len(out) < n {
		batch, err := c.Next(deadline(t))
		if err != nil {
			t.Fatalf("after %v: %v", out, err)
		}
		for _, e := range batch.Events {
			out = append(out, fmt.Sprintf("%v %s@%d", e.Type, e.Item.Name, e.Item.Revision))
		}
	}
	return out
}

func want(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%v\nnot\n%v", got, want)
	}
}

// Lists are narrowed by namespace, name, field and label, and are in key order.
func TestListSelects(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	commit(t, engine, putPod(t, "b", "x", "web", "n1"), putPod(t, "a", "y", "db", "n1"), putPod(t, "a", "x", "web", "n2"), putPod(t, "ab", "z", "web", ""))
	for _, test := range []struct {
		query watchcache.Query
		want  []string
	}{
		{watchcache.Query{}, []string{"a/x", "a/y", "ab/z", "b/x"}},
		{watchcache.Query{Namespace: "a"}, []string{"a/x", "a/y"}},
		{watchcache.Query{Namespace: "none"}, nil},
		{watchcache.Query{Name: "x"}, []string{"a/x", "b/x"}},
		{watchcache.Query{Namespace: "b", Name: "x"}, []string{"b/x"}},
		{watchcache.Query{Namespace: "b", Name: "y"}, nil},
		{watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, []string{"a/y", "b/x"}},
		{watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "")}, []string{"ab/z"}},
		{watchcache.Query{Fields: must(fields.ParseSelector("metadata.namespace=a,metadata.name!=x"))}, []string{"a/y"}},
		{watchcache.Query{Labels: must(labels.Parse("app=web"))}, []string{"a/x", "ab/z", "b/x"}},
		{watchcache.Query{Labels: must(labels.Parse("app=web")), Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, []string{"b/x"}},
		{watchcache.Query{Labels: must(labels.Parse("!app"))}, nil},
	} {
		page := list(t, caches[0], test.query, watchcache.ListOptions{})
		if got := names(page.Items); !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, not %v", test.query, got, test.want)
		}
	}
}

// A list that is continued shows the state of its first page, whatever has been written since, from the cache and, when
// the cache no longer has it, from the store; after a compaction it is ErrExpired.
func TestContinueSurvivesWrites(t *testing.T) {
	t.Parallel()
	for _, logEvents := range []int{0, 10} {
		t.Run(fmt.Sprintf("log of %d", logEvents), func(t *testing.T) {
			engine := memory.New()
			cfg := podConfig()
			cfg.LogEvents = logEvents
			_, caches := serve(t, engine, cfg)
			pods := caches[0]
			var expected []string
			for i := range 20 {
				commit(t, engine, putPod(t, "a", fmt.Sprintf("p%02d", i), "old", "n1"))
				expected = append(expected, fmt.Sprintf("a/p%02d", i))
			}
			for _, q := range []watchcache.Query{{}, {Namespace: "a"}, {Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, {Labels: must(labels.Parse("app=old"))}} {
				page := list(t, pods, q, watchcache.ListOptions{Limit: 6})
				if q.Labels == nil && q.Fields == nil && page.Remaining != 14 || q.Labels != nil && page.Remaining != -1 {
					t.Errorf("%d remain", page.Remaining)
				}
				all := names(page.Items)
				for page.Next != "" {
					for i := range 20 {
						commit(t, engine, putPod(t, "a", fmt.Sprintf("p%02d", i), "new", "n2"))
						commit(t, engine, putPod(t, "a", fmt.Sprintf("p%02d-more", i), "old", "n1"))
					}
					commit(t, engine, deletePod(t, "a", "p19"))
					first := page.Revision
					page = list(t, pods, q, watchcache.ListOptions{ReadOptions: watchcache.ReadOptions{Revision: first, Match: watchcache.Exact}, After: page.Next, Limit: 6})
					if page.Revision != first {
						t.Errorf("page at %d of a list at %d", page.Revision, first)
					}
					all = append(all, names(page.Items)...)
				}
				want(t, all, expected...)
				for i := range 20 {
					commit(t, engine, putPod(t, "a", fmt.Sprintf("p%02d", i), "old", "n1"))
					engine.Commit(t.Context(), deletePod(t, "a", fmt.Sprintf("p%02d-more", i)))
				}
			}
			old := list(t, pods, watchcache.Query{}, watchcache.ListOptions{}).Revision
			for i := range 50 {
				commit(t, engine, putPod(t, "a", "p00", fmt.Sprint(i), "n1"))
			}
			now, _ := engine.Current(t.Context())
			list(t, pods, watchcache.Query{}, watchcache.ListOptions{}) // the cache has seen it all now
			if err := engine.Compact(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			_, err := pods.List(deadline(t), watchcache.Query{}, watchcache.ListOptions{ReadOptions: watchcache.ReadOptions{Revision: old, Match: watchcache.Exact}})
			if logEvents == 10 && !errors.Is(err, watchcache.ErrExpired) || logEvents == 0 && err != nil {
				t.Errorf("list of a compacted revision: %v", err)
			}
		})
	}
}

// A read without a revision sees every commit that was acknowledged before it, also of another server's clients.
func TestReadsAreFresh(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	for i := range 200 {
		rev := commit(t, engine, putPod(t, "a", "p", fmt.Sprint(i), "n"))
		it, at, err := caches[0].Get(deadline(t), "a", "p", watchcache.ReadOptions{})
		if err != nil || it.Revision != rev || at < rev || it.Labels["app"] != fmt.Sprint(i) {
			t.Fatalf("read %+v at %d after the commit at %d: %v", it, at, rev, err)
		}
	}
	commit(t, engine, deletePod(t, "a", "p"))
	if _, at, err := caches[0].Get(deadline(t), "a", "p", watchcache.ReadOptions{}); !errors.Is(err, watchcache.ErrNotFound) || at == 0 {
		t.Errorf("read of a deleted object: %v at %d", err, at)
	}
}

// An object can be read as it was; a revision that does not come is ErrFuture.
func TestReadAtRevision(t *testing.T) {
	t.Parallel()
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	r1 := commit(t, engine, putPod(t, "a", "p", "one", "n"))
	r2 := commit(t, engine, putPod(t, "a", "p", "two", "n"))
	r3 := commit(t, engine, deletePod(t, "a", "p"))
	read := func(rev storage.Revision) (string, error) {
		it, _, err := caches[0].Get(deadline(t), "a", "p", watchcache.ReadOptions{Revision: rev, Match: watchcache.Exact})
		if err != nil {
			return "", err
		}
		return it.Labels["app"], nil
	}
	for rev, app := range map[storage.Revision]string{r1: "one", r2: "two"} {
		if got, err := read(rev); got != app || err != nil {
			t.Errorf("at %d: %q %v", rev, got, err)
		}
	}
	for rev, wanted := range map[storage.Revision]error{r1 - 1: watchcache.ErrNotFound, r3: watchcache.ErrNotFound, r3 + 1: watchcache.ErrFuture} {
		if _, err := read(rev); !errors.Is(err, wanted) {
			t.Errorf("at %d: %v", rev, err)
		}
	}
}

// A watch from a revision that does not come is ErrFuture.
func TestWatchFromTheFuture(t *testing.T) {
	t.Parallel()
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	if _, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{From: 100}); !errors.Is(err, watchcache.ErrFuture) {
		t.Errorf("watch from the future: %v", err)
	}
}

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

// An object that cannot be decoded has a name and no labels, so that it can be seen and deleted; what is no object at all
// is left out.
func TestUndecodableObjects(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	broken := frame.Wrap("v1", "Pod", frame.Protobuf, []byte{0x0a, 1, 0xff})
	commit(t, engine, putPod(t, "a", "good", "web", "n1"), storage.Op{Key: podsAt + "a/junk", Value: []byte("junk")}, storage.Op{Key: podsAt + "a/broken", Value: broken})
	page := list(t, caches[0], watchcache.Query{}, watchcache.ListOptions{})
	want(t, names(page.Items), "a/broken", "a/good")
	if _, err := caches[0].Object(page.Items[0]); err == nil {
		t.Error("broken object was decoded")
	}
	page = list(t, caches[0], watchcache.Query{Labels: must(labels.Parse("app=web"))}, watchcache.ListOptions{})
	want(t, names(page.Items), "a/good")
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
