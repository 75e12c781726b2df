package watchcache

import (
	"context"
	"fmt"
	"sync"
	"time"

	"bareboat.dev/apiserver/storage"
)

// batchChanges is how many changes a cursor looks at before it delivers: a message of about 1 MiB with objects of 4 KiB.
const batchChanges = 256

// Cursor is one watcher's position in a cache's log. Idle, it is a few hundred bytes.
type Cursor struct {
	cache     *Cache
	match     matcher
	bookmarks time.Duration
	channel   *channel
	// position of the next change to look at.
	position uint64
	// revision up to which everything has been delivered, or looked at and found not to match.
	revision storage.Revision
	// start is the revision that the watch began at; what the log holds up to there is not delivered.
	start storage.Revision
	// initial is the snapshot that is still to be delivered, behind the key initialAfter; nil when there is none.
	initial      *Snapshot
	initialAfter string
	err          error

	done  chan struct{}
	close sync.Once
}

// Watch returns a cursor. ErrExpired if the events after opts.From are no longer held, ErrFuture if From does not come.
func (c *Cache) Watch(ctx context.Context, q Query, opts WatchOptions) (*Cursor, error) {
	cur := &Cursor{cache: c, match: q.compile(), bookmarks: opts.Bookmarks, done: make(chan struct{})}
	cur.start = opts.From
	if opts.From == 0 || opts.InitialEvents {
		snapshot, err := c.Snapshot(ctx, ReadOptions{Revision: opts.From, AnyRevision: opts.AnyRevision})
		if err != nil {
			return nil, err
		}
		cur.start = snapshot.revision
		if opts.InitialEvents {
			cur.initial = snapshot
		}
	} else if _, err := c.reach(ctx, opts.From); err != nil {
		return nil, err
	}
	if err := c.attach(cur); err != nil {
		return nil, err
	}
	return cur, nil
}

// attach puts a cursor behind the revision that it starts from. The cache may not have got there yet.
func (c *Cache) attach(cur *Cursor) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cur.start < c.log.floor {
		return fmt.Errorf("%w: %d, the oldest is %d", ErrExpired, cur.start, c.log.floor)
	}
	cur.revision, cur.position = cur.start, c.log.position(cur.start)
	cur.channel = c.log.join(cur.match.facet(c.cfg), cur.position, c.cfg.Indexes)
	return nil
}

// Next blocks until there is a batch, ctx ends (its error, and Next may be called again), the log has moved past the cursor
// (ErrExpired) or the cursor is closed (ErrClosed). After an error other than ctx's it returns that error for ever. Only one
// goroutine may call it.
func (c *Cursor) Next(ctx context.Context) (Batch, error) {
	if c.err != nil {
		return Batch{}, c.err
	}
	if err := ctx.Err(); err != nil {
		return Batch{}, err
	}
	if c.initial != nil {
		return c.nextInitial(ctx)
	}
	var bookmark <-chan time.Time
	for {
		batch, wake, err := c.take()
		if err != nil {
			c.err = err
			return Batch{}, err
		}
		if wake == nil {
			return batch, nil
		}
		if bookmark == nil && c.bookmarks > 0 {
			timer := time.NewTimer(c.bookmarks)
			defer timer.Stop()
			bookmark = timer.C
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case <-bookmark:
			// Look once more: the feed has moved on meanwhile without waking anybody.
			if batch, _, err = c.take(); err == nil {
				batch.Revision = c.revision
			}
			c.err = err
			return batch, err
		case <-c.done:
		}
	}
}

// Revision returns the revision up to which everything that matches has been delivered by Next; 0 during initial events.
// Only the goroutine that calls Next may call it.
func (c *Cursor) Revision() storage.Revision {
	if c.initial != nil {
		return 0
	}
	return c.revision
}

// take returns a batch with events, or a channel to wait on.
func (c *Cursor) take() (Batch, <-chan struct{}, error) {
	for {
		changes, seen, wake, err := c.read()
		if err != nil {
			return Batch{}, nil, err
		}
		c.revision = max(c.revision, seen)
		if events := c.events(changes); len(events) > 0 {
			return Batch{Events: events, Revision: c.revision}, nil, nil
		}
		if wake != nil {
			return Batch{}, wake, nil
		}
	}
}

// read takes changes out of the log, and says up to which revision it has then been read. wake is set if it is the log's
// end.
func (c *Cursor) read() (changes []*change, seen storage.Revision, wake <-chan struct{}, err error) {
	feed := c.cache.feed.Revision()
	c.cache.mu.RLock()
	defer c.cache.mu.RUnlock()
	select {
	case <-c.done:
		return nil, 0, nil, ErrClosed
	default:
	}
	log := &c.cache.log
	changes, next, ok := log.read(c.channel, c.position, batchChanges)
	if !ok {
		return nil, 0, nil, fmt.Errorf("%w: %d, the oldest is %d", ErrExpired, c.revision, log.floor)
	}
	c.position = next
	if next < log.head() {
		// The position is the start of a revision: everything before that has been looked at.
		return changes, log.changes[next-log.base].revision - 1, nil, nil
	}
	if len(changes) == 0 {
		c.channel.waiting.Store(true)
		wake = c.channel.wake
	}
	return changes, c.cache.seenLocked(feed), wake, nil
}

// events returns what the changes are to this watcher.
func (c *Cursor) events(changes []*change) []*Event {
	var events []*Event
	for _, ch := range changes {
		if ch.revision <= c.start {
			continue
		}
		before, after := c.match.selects(ch.prev), c.match.selects(ch.cur)
		if !before && !after {
			continue
		}
		if e := ch.event(before, after); e != nil {
			if events == nil {
				events = make([]*Event, 0, len(changes))
			}
			events = append(events, e)
		}
	}
	return events
}

// nextInitial delivers the next objects of the snapshot, and in the end that it was all.
func (c *Cursor) nextInitial(ctx context.Context) (Batch, error) {
	select {
	case <-c.done:
		c.err = ErrClosed
		return Batch{}, c.err
	default:
	}
	var batch Batch
	for it, err := range c.initial.items(ctx, c.match, c.initialAfter) {
		if err != nil {
			if ctx.Err() == nil {
				c.err = err
			}
			return Batch{}, err
		}
		batch.Events = append(batch.Events, &Event{Type: Added, Item: it})
		c.initialAfter = it.Key
		if len(batch.Events) == batchChanges {
			break
		}
	}
	if len(batch.Events) > 0 {
		return batch, nil
	}
	c.initial = nil
	return Batch{Revision: c.revision, InitialEventsEnd: true}, nil
}

// Close releases the cursor. It may be called twice, and while Next blocks.
func (c *Cursor) Close() {
	c.close.Do(func() {
		close(c.done)
		c.cache.mu.Lock()
		defer c.cache.mu.Unlock()
		if c.channel != nil {
			c.cache.log.leave(c.channel)
		}
	})
}
