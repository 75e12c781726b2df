package watchcache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bareboat.dev/apiserver/storage"
)

const (
	// pageEntries is how many entries are read from the store at a time: a response of about 2 MiB with objects of 4 KiB.
	pageEntries = 500
	// retryFirst and retryMost bound the wait after a failure of the store: short enough that a restarted store is not
	// waited for, long enough that one that is down is asked once a second.
	retryFirst = 20 * time.Millisecond
	retryMost  = time.Second
)

// replayed is how many commits before the newest a feed starts from, so that watchers of a server that was restarted can
// resume. The first that the store still has is taken; 10,000 changes are about 40 MiB of 4 KiB objects, read in one go.
var replayed = [...]storage.Revision{10_000, 1_000, 100, 0}

// Strider is an engine whose revisions rise by more than one with a commit.
type Strider interface {
	// Stride is by how much, as a rule.
	Stride() storage.Revision
}

// FeedConfig describes a Feed.
type FeedConfig struct {
	// Prefix of every cache's keys: "/registry/".
	Prefix string
	Log    *slog.Logger
}

// Feed mirrors the store into caches.
type Feed struct {
	engine storage.Engine
	cfg    FeedConfig

	mu sync.Mutex
	// caches that take part, in the order of their prefixes, which do not overlap; joining are those that wait for Run to
	// load them.
	caches, joining []*Cache
	// revision up to which every cache has seen everything; 0 before the first load.
	revision storage.Revision
	// published is revision, for those who need no lock.
	published atomic.Int64
	// forgotten is the revision before which no exact state is told any more.
	forgotten atomic.Int64
	// wake is closed and replaced when revision rises or a cache has joined.
	wake chan struct{}
	// interrupt makes a running Next return, for joining caches.
	interrupt context.CancelFunc
}

// NewFeed returns a feed of the engine's keys that begin with cfg.Prefix.
func NewFeed(engine storage.Engine, cfg FeedConfig) *Feed {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Feed{engine: engine, cfg: cfg, wake: make(chan struct{})}
}

// Add makes the cache of one resource. It may be called before and while Run runs; the cache's reads wait until it is
// filled. It is an error if the prefix is not below the feed's or overlaps with that of another cache.
func (f *Feed) Add(cfg Config) (*Cache, error) {
	if !strings.HasPrefix(cfg.Prefix, f.cfg.Prefix) || !strings.HasSuffix(cfg.Prefix, "/") {
		return nil, fmt.Errorf("cache %s: prefix %q must begin with %q and end with a slash", cfg.Name, cfg.Prefix, f.cfg.Prefix)
	}
	c := newCache(f, cfg)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, other := range slices.Concat(f.caches, f.joining) {
		if strings.HasPrefix(other.cfg.Prefix, cfg.Prefix) || strings.HasPrefix(cfg.Prefix, other.cfg.Prefix) {
			return nil, fmt.Errorf("cache %s: prefix %q overlaps with %q of %s", cfg.Name, cfg.Prefix, other.cfg.Prefix, other.cfg.Name)
		}
	}
	f.joining = append(f.joining, c)
	if f.interrupt != nil {
		f.interrupt()
	}
	return c, nil
}

// Remove takes a cache out of the feed, for a resource that is no longer served. Its cursors end with ErrExpired.
func (f *Feed) Remove(c *Cache) {
	f.mu.Lock()
	gone := func(other *Cache) bool { return other == c }
	f.caches, f.joining = slices.DeleteFunc(slices.Clone(f.caches), gone), slices.DeleteFunc(slices.Clone(f.joining), gone)
	f.mu.Unlock()
	c.close()
}

// Run fills the caches and keeps them up to date, through failures of the store, until ctx ends (its error) or the store is
// closed (ErrClosed).
func (f *Feed) Run(ctx context.Context) error {
	defer f.settle()
	retry := retryFirst
	for fresh := true; ; {
		from := f.Revision()
		if err := f.follow(ctx, fresh); errors.Is(err, storage.ErrCompacted) {
			// What happened in between is lost; start over from a new snapshot.
			f.cfg.Log.Warn("watch of the store fell behind its compaction, loading anew", "revision", from)
			fresh = true
		} else if errors.Is(err, storage.ErrClosed) || ctx.Err() != nil {
			return err
		} else {
			f.cfg.Log.Warn("watch of the store failed, trying again", "revision", f.Revision(), "error", err, "wait", retry)
			fresh = f.Revision() == 0
		}
		if f.Revision() > from {
			retry = retryFirst
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
		retry = min(2*retry, retryMost)
	}
}

// settle waits until the cursors that the last changes concern have been woken.
func (f *Feed) settle() {
	f.mu.Lock()
	caches := f.caches
	f.mu.Unlock()
	for _, c := range caches {
		c.crowd.done.Wait()
	}
}

// follow loads the caches if fresh, or what waits to join, and then applies what the store's watch delivers until it fails.
func (f *Feed) follow(ctx context.Context, fresh bool) error {
	newest := storage.Revision(0)
	start := f.Revision()
	if fresh {
		var err error
		if start, newest, err = f.load(ctx); err != nil {
			return err
		}
	}
	watcher, err := f.engine.Watch(ctx, f.cfg.Prefix, start)
	if err != nil {
		return err
	}
	defer watcher.Close()
	if !fresh || start >= newest {
		f.advance(start)
	}
	for {
		if err := f.join(ctx, start); err != nil {
			return err
		}
		batch, err := f.next(ctx, watcher)
		if err != nil {
			if errors.Is(err, context.Canceled) && ctx.Err() == nil {
				continue
			}
			return err
		}
		f.dispatch(batch)
		start = max(start, batch.Revision)
		// After a load readers see nothing before the state is as new as the store was: not even old history replayed.
		if start >= newest {
			f.advance(start)
		}
	}
}

// next waits for a batch or for Add to interrupt it.
func (f *Feed) next(ctx context.Context, w storage.Watcher) (storage.Batch, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	if len(f.joining) > 0 {
		cancel()
	}
	f.interrupt = cancel
	f.mu.Unlock()
	return w.Next(ctx)
}

// load replaces the state of all caches by a snapshot and returns its revision and the store's newest.
func (f *Feed) load(ctx context.Context) (start, newest storage.Revision, err error) {
	newest, err = f.engine.Current(ctx)
	if err != nil {
		return 0, 0, err
	}
	f.mu.Lock()
	f.setLocked(0)
	caches := slices.Concat(f.caches, f.joining)
	f.mu.Unlock()
	stride := storage.Revision(1)
	if s, ok := f.engine.(Strider); ok {
		stride = s.Stride()
	}
	for _, back := range replayed {
		start = max(newest-back*stride, 1)
		for _, c := range caches {
			if err = f.loadCache(ctx, c, start); err != nil {
				break
			}
		}
		if !errors.Is(err, storage.ErrCompacted) {
			break
		}
	}
	if err != nil {
		return 0, 0, err
	}
	f.admit(caches)
	return start, newest, nil
}

// join loads the caches that were added since, as of the revision that the others are at.
func (f *Feed) join(ctx context.Context, at storage.Revision) error {
	f.mu.Lock()
	joining := slices.Clone(f.joining)
	f.mu.Unlock()
	if len(joining) == 0 {
		return nil
	}
	for _, c := range joining {
		if err := f.loadCache(ctx, c, at); err != nil {
			return fmt.Errorf("load %s: %w", c.cfg.Name, err)
		}
	}
	f.admit(joining)
	return nil
}

// admit makes loaded caches take part.
func (f *Feed) admit(loaded []*Cache) {
	f.mu.Lock()
	defer f.mu.Unlock()
	caches := slices.Clone(f.caches)
	for _, c := range loaded {
		if i := slices.Index(f.joining, c); i >= 0 {
			f.joining = slices.Delete(f.joining, i, i+1)
			caches = append(caches, c)
		}
	}
	slices.SortFunc(caches, func(a, b *Cache) int { return strings.Compare(a.cfg.Prefix, b.cfg.Prefix) })
	f.caches = caches
	f.wakeLocked()
}

// loadCache replaces the state of one cache by the snapshot at a revision.
func (f *Feed) loadCache(ctx context.Context, c *Cache, at storage.Revision) error {
	fill := c.refill()
	after := ""
	for {
		page, err := f.engine.List(ctx, c.cfg.Prefix, storage.ListOptions{Revision: at, After: after, Limit: pageEntries})
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			fill.add(e)
		}
		if !page.More || len(page.Entries) == 0 {
			break
		}
		after = page.Entries[len(page.Entries)-1].Key
	}
	fill.install(at)
	return nil
}

// dispatch hands the events of a batch to their caches, all events of a cache at once.
func (f *Feed) dispatch(batch storage.Batch) {
	f.mu.Lock()
	caches := f.caches
	f.mu.Unlock()
	var touched []*Cache
	for _, e := range batch.Events {
		i := sort.Search(len(caches), func(i int) bool { return caches[i].cfg.Prefix > e.Entry.Key }) - 1
		if i < 0 || !strings.HasPrefix(e.Entry.Key, caches[i].cfg.Prefix) {
			continue
		}
		c := caches[i]
		if len(c.incoming) == 0 {
			touched = append(touched, c)
		}
		c.incoming = append(c.incoming, e)
	}
	for _, c := range touched {
		c.apply(c.incoming, batch.Revision)
		clear(c.incoming)
		c.incoming = c.incoming[:0]
	}
}

// advance publishes that every cache has seen everything up to a revision.
func (f *Feed) advance(to storage.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if to > f.revision {
		f.setLocked(to)
		f.wakeLocked()
	}
}

func (f *Feed) wakeLocked() {
	close(f.wake)
	f.wake = make(chan struct{})
}

// Revision returns the revision up to which all caches have seen everything; 0 before they are ready, and while they are
// loaded anew.
func (f *Feed) Revision() storage.Revision { return storage.Revision(f.published.Load()) }

// Forget lets reads at exactly a revision before the given one fail with ErrExpired, though a cache's log may still know the state: the
// store has compacted it, and a continue token that ends at the same time everywhere is one that its users have seen end. Watches go on
// from all that the log has.
func (f *Feed) Forget(before storage.Revision) { f.forgotten.Store(int64(before)) }

func (f *Feed) setLocked(to storage.Revision) {
	f.revision = to
	f.published.Store(int64(to))
}

// WaitRevision blocks until Revision is at least rev, or ctx ends.
func (f *Feed) WaitRevision(ctx context.Context, rev storage.Revision) error {
	return f.wait(ctx, func() bool { return f.revision >= rev })
}

// WaitReady blocks until every cache added so far has its first complete state, or ctx ends.
func (f *Feed) WaitReady(ctx context.Context) error {
	return f.wait(ctx, func() bool { return f.revision > 0 && len(f.joining) == 0 })
}

// waitCache blocks until the cache takes part and the feed is at rev, at least 1.
func (f *Feed) waitCache(ctx context.Context, c *Cache, rev storage.Revision) error {
	return f.wait(ctx, func() bool { return f.showsLocked(c, rev) })
}

// shows reports whether waitCache would return at once.
func (f *Feed) shows(c *Cache, rev storage.Revision) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.showsLocked(c, rev)
}

func (f *Feed) showsLocked(c *Cache, rev storage.Revision) bool {
	return f.revision >= max(rev, 1) && !slices.Contains(f.joining, c)
}

// wait blocks until a condition, evaluated with f.mu held, is true.
func (f *Feed) wait(ctx context.Context, until func() bool) error {
	for {
		f.mu.Lock()
		ok, wake := until(), f.wake
		f.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
