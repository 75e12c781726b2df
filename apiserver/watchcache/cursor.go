package watchcache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"bareboat.dev/apiserver/storage"
)

// batchChanges is how many changes a cursor looks at before it delivers: a message of about 1 MiB with objects of 4 KiB.
const batchChanges = 256

// Cursor is one watcher's position in a cache's log. Idle, it is a few hundred bytes.
type Cursor struct {
	cache *Cache
	match matcher
	// exact: what the channel shows is what matches.
	exact     bool
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

	// wake has room for one signal: that there is a change, that a bookmark is due, or that the cursor is closed.
	wake   chan struct{}
	due    atomic.Bool
	closed atomic.Bool
	// place among those that wait in the channel, counted from 1; 0 if not there. Guarded by the channel.
	place int
	// armed: the cursor is among those, or has been signalled, since it last read.
	armed bool
	// timer, with bookmarks, fires when a batch may be overdue; delivered is when the last was, in Unix nanoseconds.
	timer     *time.Timer
	delivered atomic.Int64
	close     sync.Once
}

// signal wakes the cursor, now or when it next waits.
func (c *Cursor) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Watch returns a cursor. ErrExpired if the events after opts.From are no longer held, ErrFuture if From does not come.
func (c *Cache) Watch(ctx context.Context, q Query, opts WatchOptions) (*Cursor, error) {
	cur := &Cursor{cache: c, match: q.compile(), bookmarks: opts.Bookmarks, wake: make(chan struct{}, 1)}
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
	fc := cur.match.facet(c.cfg)
	cur.exact = cur.match.exactly(fc)
	cur.channel = c.log.join(fc, cur.position, c.cfg.Indexes)
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
	for {
		if c.armed {
			// Everything had been read when the last batch was taken; the next change wakes the cursor.
			c.armed = false
			select {
			case <-c.wake:
			case <-ctx.Done():
				return Batch{}, ctx.Err()
			}
		}
		batch, wait, err := c.take()
		due := wait && c.due.Swap(false)
		if err == nil && wait && !due {
			c.expectBookmark()
			c.armed = true
			continue
		}
		if due {
			// The feed has moved on meanwhile without waking anybody.
			batch.Revision = c.revision
		}
		if c.bookmarks > 0 {
			c.delivered.Store(time.Now().UnixNano())
			c.due.Store(false)
		}
		c.err = err
		return batch, err
	}
}

// expectBookmark starts the clock of the first bookmark; it then goes on by itself.
func (c *Cursor) expectBookmark() {
	if c.bookmarks == 0 || c.timer != nil {
		return
	}
	c.delivered.Store(time.Now().UnixNano())
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	if !c.closed.Load() {
		c.timer = time.AfterFunc(c.bookmarks, c.bookmark)
	}
}

// bookmark asks for a batch without events if there has been none for long enough, and otherwise looks again when there may have
// been. One timer for the cursor's life costs nothing when events are frequent.
func (c *Cursor) bookmark() {
	c.cache.mu.RLock()
	defer c.cache.mu.RUnlock()
	if c.closed.Load() {
		return
	}
	left := c.bookmarks - time.Duration(time.Now().UnixNano()-c.delivered.Load())
	if left <= 0 {
		c.due.Store(true)
		c.signal()
		left = c.bookmarks
	}
	c.timer.Reset(left)
}

// Revision returns the revision up to which everything that matches has been delivered by Next; 0 during initial events.
// Only the goroutine that calls Next may call it.
func (c *Cursor) Revision() storage.Revision {
	if c.initial != nil {
		return 0
	}
	return c.revision
}

// take returns a batch with events, or says that the cursor must wait.
func (c *Cursor) take() (batch Batch, wait bool, err error) {
	for {
		changes, seen, wait, err := c.read()
		if err != nil {
			return Batch{}, false, err
		}
		c.revision = max(c.revision, seen)
		if events := c.events(changes); len(events) > 0 {
			// With bookmarks a wait begins by setting their clock.
			c.armed = wait && c.timer != nil || wait && c.bookmarks == 0
			return Batch{Events: events, Revision: c.revision}, false, nil
		}
		if wait {
			return Batch{}, true, nil
		}
	}
}

// read takes changes out of the log, and says up to which revision it has then been read. wait is set if it is the log's
// end: the cursor is woken by what comes next.
func (c *Cursor) read() (changes []*change, seen storage.Revision, wait bool, err error) {
	feed := c.cache.feed.Revision()
	c.cache.mu.RLock()
	defer c.cache.mu.RUnlock()
	if c.closed.Load() {
		return nil, 0, false, ErrClosed
	}
	log := &c.cache.log
	changes, next, ok := log.read(c.channel, c.position, batchChanges)
	if !ok {
		return nil, 0, false, fmt.Errorf("%w: %d, the oldest is %d", ErrExpired, c.revision, log.floor)
	}
	c.position = next
	if next < log.head() {
		// The position is the start of a revision: everything before that has been looked at.
		return changes, log.changes[next-log.base].revision - 1, false, nil
	}
	c.channel.wait(c)
	return changes, c.cache.seenLocked(feed), true, nil
}

// events returns what the changes are to this watcher.
func (c *Cursor) events(changes []*change) []*Event {
	var events []*Event
	for _, ch := range changes {
		if ch.revision <= c.start {
			continue
		}
		before, after := ch.prev != nil, ch.cur != nil
		if !c.exact {
			before, after = c.match.selects(ch.prev), c.match.selects(ch.cur)
		}
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
	if c.closed.Load() {
		c.err = ErrClosed
		return Batch{}, c.err
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
		c.cache.mu.Lock()
		defer c.cache.mu.Unlock()
		c.closed.Store(true)
		c.signal()
		if c.timer != nil {
			c.timer.Stop()
		}
		if c.channel != nil {
			c.channel.unwait(c)
			c.cache.log.leave(c.channel)
		}
	})
}
