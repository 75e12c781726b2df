package mvcc

import (
	"context"
	"sort"
	"strings"
	"sync"

	"bareboat.dev/apiserver/storage"
)

// batchEvents is how many events a watcher takes from the log at a time (a whole revision more at most): enough to make
// locking cheap, little enough that a slow watcher holds about 1 MiB of references to 4 KiB objects.
const batchEvents = 256

// Log is the recent events of a store. Watchers read it at their own pace.
type Log struct {
	mu sync.Mutex
	// events after floor up to head, in order.
	events []storage.Event
	floor  storage.Revision
	head   storage.Revision
	// compacted is the revision before which watchers may not read, from wherever.
	compacted storage.Revision
	bytes     int
	// Limits; 0 means none.
	maxEvents, maxBytes int
	wake                chan struct{}
	closed              bool
}

// NewLog returns an empty log at a revision. It keeps at most maxEvents events of maxBytes together; 0 means no limit.
func NewLog(at, compacted storage.Revision, maxEvents, maxBytes int) *Log {
	return &Log{floor: at, head: at, compacted: compacted, maxEvents: maxEvents, maxBytes: maxBytes, wake: make(chan struct{})}
}

// Append adds the events of whole revisions up to head and wakes the watchers.
func (l *Log) Append(head storage.Revision, events []storage.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.events = append(l.events, events...)
	for _, e := range events {
		l.bytes += len(e.Entry.Value)
	}
	l.head = head
	l.trimLocked()
	close(l.wake)
	l.wake = make(chan struct{})
}

// trimLocked drops the older half when there is more than twice what is to be kept, so that an event is moved once at most.
func (l *Log) trimLocked() {
	if (l.maxEvents == 0 || len(l.events) <= 2*l.maxEvents) && (l.maxBytes == 0 || l.bytes <= 2*l.maxBytes) {
		return
	}
	drop, bytes := 0, l.bytes
	for drop < len(l.events) && (len(l.events)-drop > l.maxEvents || bytes > l.maxBytes) {
		bytes -= len(l.events[drop].Entry.Value)
		drop++
	}
	l.dropLocked(drop)
}

// dropLocked drops n events, and the rest of the last one's revision.
func (l *Log) dropLocked(n int) {
	if n == 0 {
		return
	}
	rev := l.events[n-1].Entry.Modified
	for n < len(l.events) && l.events[n].Entry.Modified == rev {
		n++
	}
	for _, e := range l.events[:n] {
		l.bytes -= len(e.Entry.Value)
	}
	l.floor = rev
	l.events = append([]storage.Event(nil), l.events[n:]...)
}

// Compact makes watchers that have not seen everything up to the revision fail with ErrCompacted.
func (l *Log) Compact(before storage.Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.compacted = max(l.compacted, before)
	if l.maxEvents == 0 {
		l.dropLocked(sort.Search(len(l.events), func(i int) bool { return l.events[i].Entry.Modified > before }))
		l.floor = max(l.floor, before)
	}
	close(l.wake)
	l.wake = make(chan struct{})
}

// Close makes every watcher end with ErrClosed.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
}

// chunk is what after found.
type chunk struct {
	events []storage.Event
	upTo   storage.Revision
	// older is true if the position is behind the log's floor: its events up to floor must come from elsewhere.
	older bool
	floor storage.Revision
	wake  <-chan struct{}
}

// after returns the next events behind a position, whole revisions of them.
func (l *Log) after(pos storage.Revision) (chunk, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return chunk{}, storage.ErrClosed
	case pos < l.compacted:
		return chunk{}, storage.ErrCompacted
	case pos < l.floor:
		return chunk{older: true, floor: l.floor}, nil
	}
	i := sort.Search(len(l.events), func(i int) bool { return l.events[i].Entry.Modified > pos })
	j := min(i+batchEvents, len(l.events))
	for j < len(l.events) && l.events[j].Entry.Modified == l.events[j-1].Entry.Modified {
		j++
	}
	c := chunk{events: l.events[i:j:j], upTo: l.head, floor: l.floor, wake: l.wake}
	if j < len(l.events) {
		c.upTo = l.events[j-1].Entry.Modified
	}
	return c, nil
}

// Older reads events after from, of at most the revisions up to upTo, that the log no longer holds: whole revisions, and the
// revision they reach. It returns ErrCompacted if some of them are gone.
type Older func(ctx context.Context, prefix string, from, upTo storage.Revision) ([]storage.Event, storage.Revision, error)

// Watcher is a position in a log.
type Watcher struct {
	log    *Log
	older  Older
	prefix string
	pos    storage.Revision
	err    error
	done   chan struct{}
	once   sync.Once
}

// Watch returns a watcher of the events after a revision; Latest means the log's newest. older may be nil if the log is
// without limits.
func (l *Log) Watch(prefix string, from storage.Revision, older Older) (*Watcher, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, storage.ErrClosed
	case from == storage.Latest:
		from = l.head
	case from > l.head:
		return nil, storage.ErrFuture
	case from < l.compacted:
		return nil, storage.ErrCompacted
	}
	return &Watcher{log: l, older: older, prefix: prefix, pos: from, done: make(chan struct{})}, nil
}

// Close implements storage.Watcher.
func (w *Watcher) Close() { w.once.Do(func() { close(w.done) }) }

// Next implements storage.Watcher.
func (w *Watcher) Next(ctx context.Context) (storage.Batch, error) {
	for w.err == nil {
		select {
		case <-w.done:
			w.err = storage.ErrClosed
			continue
		default:
		}
		if err := ctx.Err(); err != nil {
			return storage.Batch{}, err
		}
		c, err := w.log.after(w.pos)
		switch {
		case err != nil:
			w.err = err
			continue
		case c.older:
			return w.nextOlder(ctx, c.floor)
		case c.upTo > w.pos:
			w.pos = c.upTo
			return storage.Batch{Events: w.matching(c.events), Revision: c.upTo}, nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
		case <-w.done:
		}
	}
	return storage.Batch{}, w.err
}

func (w *Watcher) nextOlder(ctx context.Context, floor storage.Revision) (storage.Batch, error) {
	events, upTo, err := w.older(ctx, w.prefix, w.pos, floor)
	if err != nil {
		if ctx.Err() != nil {
			return storage.Batch{}, ctx.Err()
		}
		w.err = err
		return storage.Batch{}, err
	}
	w.pos = upTo
	return storage.Batch{Events: events, Revision: upTo}, nil
}

// matching returns the events of the prefix, sharing the slice if they are all.
func (w *Watcher) matching(events []storage.Event) []storage.Event {
	n := 0
	for _, e := range events {
		if strings.HasPrefix(e.Entry.Key, w.prefix) {
			n++
		}
	}
	if n == len(events) || n == 0 {
		return events[:n:n]
	}
	out := make([]storage.Event, 0, n)
	for _, e := range events {
		if strings.HasPrefix(e.Entry.Key, w.prefix) {
			out = append(out, e)
		}
	}
	return out
}
