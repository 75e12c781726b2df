package watchcache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"bareboat.dev/apiserver/storage"
)

const (
	// decodedObjects is how many decoded objects a cache keeps for Object: what admission and authorization look at again
	// and again, and the events that several watchers need decoded at the same time.
	decodedObjects = 512
	// recentStates is how many rebuilt past states are kept for lists that are continued; one holds on to the objects
	// that were changed since, not to the whole.
	recentStates = 16
	// futureWait is how long a read waits for a revision that has not been seen yet, as long as Kubernetes does.
	futureWait = 3 * time.Second
	// progressWait is how long a quorum-fresh read waits for the cache to get to the store's revision before it reads from
	// the store itself: much longer than a watch takes, short enough not to be noticed by a user.
	progressWait = 250 * time.Millisecond
)

// Cache holds the objects of one resource.
type Cache struct {
	cfg  Config
	feed *Feed

	// incoming is the feed's scratch space.
	incoming []storage.Event

	mu sync.RWMutex
	// state is the newest; frozen is a clone of it, or nil if it has changed since the last was made.
	state, frozen *state
	// revision of the newest batch that had changes for this cache: the state is that of this revision, and of the feed's
	// if that is greater.
	revision storage.Revision
	log      changelog
	crowd    crowd
	past     [recentStates]pastState
	pastNext int
	closed   bool

	// changed is revision, and population how many objects there are, for those who only ask whether they must look; population is
	// unloaded until the first state is there.
	changed, population atomic.Int64

	seed    maphash.Seed
	decoded [decodedObjects]atomic.Pointer[decodedItem]
}

type decodedItem struct {
	item   *Item
	object Object
}

type pastState struct {
	revision storage.Revision
	state    *state
}

func newCache(f *Feed, cfg Config) *Cache {
	c := &Cache{cfg: cfg, feed: f, state: newState(len(cfg.Indexes)), log: newChangelog(cfg.LogEvents), seed: maphash.MakeSeed()}
	c.population.Store(unloaded)
	return c
}

// unloaded is the population of a cache that knows nothing yet.
const unloaded = -1

// Changed is a number that is another whenever the objects are others. A state that is read after it is at least as new as it says.
func (c *Cache) Changed() int64 { return c.changed.Load() }

// Empty reports that there are no objects; a cache that has not been loaded does not know that yet.
func (c *Cache) Empty() bool { return c.population.Load() == 0 }

// publishLocked lets Changed and Empty know of a new state.
func (c *Cache) publishLocked() {
	c.population.Store(int64(c.state.objects.Len()))
	c.changed.Store(int64(c.revision))
}

// Config returns what the cache was made with.
func (c *Cache) Config() Config { return c.cfg }

// Object returns the decoded object of an item. It is shared: the caller must not modify it. Recently decoded objects are
// kept.
func (c *Cache) Object(item *Item) (Object, error) {
	slot := c.slot(item)
	if d := slot.Load(); d != nil && d.item == item {
		return d.object, nil
	}
	obj, err := c.cfg.Decode(item.Frame)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", item.Key, err)
	}
	slot.Store(&decodedItem{item, obj})
	return obj, nil
}

func (c *Cache) slot(item *Item) *atomic.Pointer[decodedItem] {
	return &c.decoded[maphash.Comparable(c.seed, item)%decodedObjects]
}

// forget drops the decoded object of an item that has been replaced: few look at it again, and some objects are large.
func (c *Cache) forget(item *Item) {
	if item == nil {
		return
	}
	slot := c.slot(item)
	if d := slot.Load(); d != nil && d.item == item {
		slot.CompareAndSwap(d, nil)
	}
}

// newItem makes an item and logs what is wrong with it; nil if it cannot be sent to anybody.
func (c *Cache) newItem(e storage.Entry) *Item {
	it, obj, err := c.cfg.item(e)
	if err != nil {
		c.feed.cfg.Log.Error("object in the store cannot be decoded", "resource", c.cfg.Name, "key", e.Key, "revision", e.Modified, "error", err)
	}
	if obj != nil {
		c.slot(it).Store(&decodedItem{it, obj})
	}
	return it
}

// apply makes the changes of a batch, which reaches up to a revision, visible.
func (c *Cache) apply(events []storage.Event, upTo storage.Revision) {
	items := make([]*Item, len(events))
	for i, e := range events {
		if e.Type == storage.PutEvent {
			items[i] = c.newItem(e.Entry)
		}
	}
	c.crowd.wake(c.enter(events, items, upTo))
}

// enter puts changes into the state and the log, and returns the cursors that they concern.
func (c *Cache) enter(events []storage.Event, items []*Item, upTo storage.Revision) []*Cursor {
	now := time.Now().UnixNano()
	woken := map[*channel]struct{}{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, e := range events {
		ch := &change{revision: e.Entry.Modified, at: now, prev: c.state.get(e.Entry.Key), cur: items[i]}
		if ch.prev == nil && ch.cur == nil {
			continue
		}
		c.state.replace(ch.prev, ch.cur, c.cfg.Indexes)
		c.forget(ch.prev)
		c.log.append(ch, c.cfg.Indexes, woken)
	}
	c.frozen, c.revision = nil, upTo
	c.publishLocked()
	c.log.trim(now)
	return waiting(woken)
}

// filling collects the state that is to replace the cache's.
type filling struct {
	cache *Cache
	state *state
}

func (c *Cache) refill() *filling { return &filling{c, newState(len(c.cfg.Indexes))} }

// add adds an entry, reusing the item if the cache has it already.
func (f *filling) add(e storage.Entry) {
	f.cache.mu.RLock()
	it := f.cache.state.get(e.Key)
	f.cache.mu.RUnlock()
	if it == nil || it.Revision != e.Modified {
		if it = f.cache.newItem(e); it == nil {
			return
		}
	}
	f.state.replace(nil, it, f.cache.cfg.Indexes)
}

// install replaces the cache's state by one that the log does not lead to: all cursors expire.
func (f *filling) install(at storage.Revision) {
	c := f.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.frozen, c.revision = f.state, nil, at
	c.publishLocked()
	c.past = [recentStates]pastState{}
	c.expireLocked(at)
}

// expireLocked empties the log and wakes every cursor to learn it.
func (c *Cache) expireLocked(floor storage.Revision) {
	c.log.reset(floor)
	all := map[*channel]struct{}{}
	for _, ch := range c.log.channels {
		all[ch] = struct{}{}
	}
	for _, cur := range waiting(all) {
		cur.signal()
	}
}

// close ends every cursor and later call.
func (c *Cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.expireLocked(c.revision)
}

// seenLocked returns the revision that the state is of. The feed's must be read before the cache's: what the feed has published
// is in the cache, and what is in the cache beyond that has the cache's own revision.
func (c *Cache) seenLocked(feed storage.Revision) storage.Revision { return max(feed, c.revision) }

// current returns the newest state and its revision.
func (c *Cache) current() (*state, storage.Revision) {
	feed := c.feed.Revision()
	c.mu.RLock()
	frozen, rev := c.frozen, c.seenLocked(feed)
	c.mu.RUnlock()
	if frozen != nil {
		return frozen, rev
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen == nil {
		c.frozen = c.state.clone()
	}
	return c.frozen, c.seenLocked(feed)
}

// at returns the state at a revision not newer than the current one, or nil if the log does not reach back to it.
func (c *Cache) at(rev storage.Revision) *state {
	now, seen := c.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	if rev == seen && now == c.frozen {
		return now
	}
	if rev < c.log.floor {
		return nil
	}
	// Between two changes every revision has the same state: name it by the change before.
	i := c.log.position(rev) - c.log.base
	name := c.log.floor
	if i > 0 {
		name = c.log.changes[i-1].revision
	}
	for _, p := range c.past {
		if p.state != nil && p.revision == name {
			return p.state
		}
	}
	past := c.state.rewind(c.log.changes, rev, c.cfg.Indexes)
	c.past[c.pastNext] = pastState{name, past}
	c.pastNext = (c.pastNext + 1) % recentStates
	return past
}

// reach waits until the cache is at a revision that the caller has got from somewhere. It reports false if the revision
// has happened but the cache does not get to know it; the store must be read then.
func (c *Cache) reach(ctx context.Context, rev storage.Revision) (bool, error) {
	if ok, err := c.waitFor(ctx, rev, progressWait); ok || err != nil {
		return ok, err
	}
	if now, err := c.feed.engine.Current(ctx); err != nil || now >= rev {
		return false, err
	}
	if ok, err := c.waitFor(ctx, rev, futureWait-progressWait); ok || err != nil {
		return ok, err
	}
	now := c.feed.Revision()
	if now == 0 {
		return false, fmt.Errorf("%w: the state is still being loaded", storage.ErrUnavailable)
	}
	return false, fmt.Errorf("%w: %d, the newest is %d", ErrFuture, rev, now)
}

// waitFor waits for at most a time until the cache is ready and at a revision.
func (c *Cache) waitFor(ctx context.Context, rev storage.Revision, most time.Duration) (bool, error) {
	if c.feed.shows(c, rev) {
		return true, c.waitSeen(ctx, rev)
	}
	wait, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := c.waitSeen(wait, rev)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return false, nil
	}
	return err == nil, err
}

// waitSeen waits until the cache is ready and at a revision.
func (c *Cache) waitSeen(ctx context.Context, rev storage.Revision) error {
	if err := c.feed.waitCache(ctx, c, rev); err != nil {
		return err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return ErrClosed
	}
	return nil
}

// Get returns one object and the revision of the state it was read from. ErrNotFound (with the revision) if it does not
// exist.
func (c *Cache) Get(ctx context.Context, namespace, name string, opts ReadOptions) (*Item, storage.Revision, error) {
	s, err := c.Snapshot(ctx, opts)
	if err != nil {
		return nil, 0, err
	}
	it, err := s.Get(ctx, namespace, name)
	return it, s.revision, err
}

// List returns a page of the selected objects.
func (c *Cache) List(ctx context.Context, q Query, opts ListOptions) (Page, error) {
	s, err := c.Snapshot(ctx, opts.ReadOptions)
	if err != nil {
		return Page{}, err
	}
	return s.Page(ctx, q, opts.After, opts.Limit)
}

// Snapshot returns one consistent state of the whole resource, from which objects can be streamed without collecting them.
// ErrExpired if the revision is no longer held, ErrFuture if it does not come.
func (c *Cache) Snapshot(ctx context.Context, opts ReadOptions) (*Snapshot, error) {
	if before := storage.Revision(c.feed.forgotten.Load()); opts.Match == Exact && opts.Revision > 0 && opts.Revision < before {
		return nil, fmt.Errorf("%w: %d, the store keeps those from %d", ErrExpired, opts.Revision, before)
	}
	reached, rev, err := c.await(ctx, opts)
	switch {
	case err != nil:
		return nil, err
	case opts.Revision > 0 && opts.Match == Exact && reached:
		return &Snapshot{cache: c, state: c.at(opts.Revision), revision: opts.Revision}, nil
	case !reached:
		return &Snapshot{cache: c, revision: rev}, nil
	}
	s, rev := c.current()
	return &Snapshot{cache: c, state: s, revision: rev}, nil
}

// await waits until the cache can answer a read. If it cannot, rev is the revision to read from the store.
func (c *Cache) await(ctx context.Context, opts ReadOptions) (reached bool, rev storage.Revision, err error) {
	if opts.Revision == 0 && opts.AnyRevision {
		err = c.waitSeen(ctx, 0)
		return err == nil, 0, err
	}
	if opts.Revision > 0 {
		reached, err = c.reach(ctx, opts.Revision)
		return reached, opts.Revision, err
	}
	if rev, err = c.feed.engine.Current(ctx); err != nil {
		return false, 0, err
	}
	reached, err = c.waitFor(ctx, rev, progressWait)
	return reached, rev, err
}

// WaitRevision blocks until the cache has seen everything up to a revision, or ctx ends.
func (c *Cache) WaitRevision(ctx context.Context, rev storage.Revision) error {
	return c.waitSeen(ctx, rev)
}

// Stats are a cache's sizes, for metrics.
type Stats struct {
	// Objects in the newest state, and watchers.
	Objects, Watchers int
	// LogEvents in the log, and the bytes of objects that only the log keeps.
	LogEvents, LogBytes int
	// Oldest is the revision from which a watch can start, Newest that of the newest change.
	Oldest, Newest storage.Revision
}

// Stats returns the cache's sizes.
func (c *Cache) Stats() Stats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := Stats{Objects: c.state.objects.Len(), LogEvents: len(c.log.changes), LogBytes: c.log.bytes, Oldest: c.log.floor, Newest: c.revision}
	for _, ch := range c.log.channels {
		s.Watchers += ch.refs
	}
	return s
}
