package watchcache

import (
	"sync"
	"sync/atomic"

	"bareboat.dev/apiserver/storage"
)

// change is one event of the store as the log keeps it. prev is nil for a creation, cur for a deletion.
type change struct {
	revision  storage.Revision
	at        int64 // Unix nanoseconds
	prev, cur *Item
	// events are the change as watchers see it, by type, made when the first one does.
	events [3]atomic.Pointer[Event]
	mu     sync.Mutex
	sealed bool
}

// event returns the change as a watcher sees that selected the object before, after, or both; nil if the tombstone cannot be
// made. It is made once for all watchers.
func (ch *change) event(before, after bool) *Event {
	typ := Modified
	switch {
	case !before:
		typ = Added
	case !after:
		typ = Deleted
	}
	if e := ch.events[typ].Load(); e != nil {
		return e
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if e := ch.events[typ].Load(); e != nil {
		return e
	}
	it := ch.cur
	if typ == Deleted {
		var err error
		if it, err = ch.prev.tombstone(ch.revision); err != nil {
			return nil
		}
	}
	e := &Event{Type: typ, Item: it}
	e.cached.sealed.Store(ch.sealed)
	ch.events[typ].Store(e)
	return e
}

// seal lets go of the encodings of the change's events.
func (ch *change) seal() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.sealed = true
	for i := range ch.events {
		if e := ch.events[i].Load(); e != nil {
			e.cached.seal()
		}
	}
}

// weight is about what one encoding of the change takes.
func (ch *change) weight() int {
	if ch.cur != nil {
		return ch.cur.Frame.Size()
	}
	return ch.prev.Frame.Size()
}

// size is what the change adds to the memory of the log: the object that is no longer in the tree.
func (ch *change) size() int {
	if ch.prev == nil {
		return 0
	}
	return ch.prev.Frame.Size()
}
