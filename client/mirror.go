package client

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MirrorOptions select what is mirrored and how it is kept.
type MirrorOptions[T Object] struct {
	// Namespace to mirror; empty for all.
	Namespace string
	// LabelSelector and FieldSelector restrict the copy at the server.
	LabelSelector, FieldSelector string
	// Indexes are looked up with ByIndex; each function returns the keys under which an object is found. It must depend on
	// the object alone. An index "namespace" always exists.
	Indexes map[string]func(T) []string
	// Transform may trim or replace an object before it is kept, to save memory; it must keep name, namespace, uid and
	// resource version. Nil drops managed fields, which a write through the API does not need.
	Transform func(T) T
	// Log receives connection troubles; nil discards them.
	Log *slog.Logger
}

// Change is one difference between two states of a mirrored collection.
type Change[T Object] struct {
	// Type is Added, Updated or Deleted.
	Type EventType
	// Old is the state before, nil when Added; New the state after, nil when Deleted.
	Old, New T
	// Revision of the change.
	Revision Revision
}

// Object returns the newest state there is: New, or what was there before a deletion.
func (c Change[T]) Object() T {
	if c.Type == Deleted {
		return c.Old
	}
	return c.New
}

// Mirror is a copy in memory of a collection, kept up to date by one watch.
//
// The contract: the copy goes through states that the collection was in, in order, skipping none that a change would have
// been told of, except across a relist. Every difference between the states is told once to OnChange handlers, the first
// snapshot as Added. When a stream ends the watch resumes after the last revision seen, on any endpoint; only when that
// revision is no longer held, or has never been at a store that was taken back to an earlier state, is the collection listed
// again, and the differences told as changes.
//
// Objects are shared by everyone who reads the mirror: never modify one, DeepCopy it first.
type Mirror[T Object] struct {
	resource *Resource[T]
	opts     MirrorOptions[T]
	log      *slog.Logger

	onChange []func(Change[T])
	onSynced []func()
	mustList bool // owned by Run: the next stream starts with a snapshot

	mu      sync.RWMutex
	store   store[T]
	rev     Revision
	synced  bool
	waiters []waiter

	streams, relists, changes atomic.Int64
}

// waiter waits for the mirror to be synced and to have reached a revision.
type waiter struct {
	rev  Revision
	done chan struct{}
}

// NewMirror makes a mirror; it is empty until Run is called.
func NewMirror[T Object](c *Client, k Kind[T], opts MirrorOptions[T]) *Mirror[T] {
	m := &Mirror[T]{resource: Of(c, k), opts: opts, log: opts.Log, store: newStore(opts.Indexes)}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.opts.Transform == nil {
		m.opts.Transform = dropManagedFields[T]
	}
	return m
}

func dropManagedFields[T Object](obj T) T {
	obj.SetManagedFields([]metav1.ManagedFieldsEntry(nil))
	return obj
}

// OnChange registers a handler. Register before Run. Handlers are called from Run's goroutine, one change at a time, after
// the copy holds the change (and possibly those after it in the same message); a slow handler delays the mirror, so hand
// work on to a queue.
func (m *Mirror[T]) OnChange(handler func(Change[T])) { m.onChange = append(m.onChange, handler) }

// OnSynced registers a function to be called from Run's goroutine when the first snapshot is complete and told, and again
// after each relist. Register before Run.
func (m *Mirror[T]) OnSynced(f func()) { m.onSynced = append(m.onSynced, f) }

// Run keeps the copy up to date until ctx ends, and then returns nil. It may be called once.
func (m *Mirror[T]) Run(ctx context.Context) error {
	var wait Backoff
	m.mustList = true
	for {
		progressed, err := m.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if progressed {
			wait.Reset()
		}
		if IsExpired(err) || isFuture(err) {
			m.mustList = true
			m.log.Info("mirror must list again", "resource", m.resource.kind.Resource, "revision", m.Revision(), "error", err)
		}
		pause := wait.Next()
		if wait.failures == reportAfter {
			m.log.Warn("mirror cannot follow the API", "resource", m.resource.kind.Resource, "error", err)
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

// reportAfter is how many attempts in a row fail before a warning is logged: six are about two seconds, more than a
// failover takes.
const reportAfter = 6

// follow runs one stream until it ends. progressed tells whether anything was applied.
func (m *Mirror[T]) follow(ctx context.Context) (progressed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts := WatchOptions{LabelSelector: m.opts.LabelSelector, FieldSelector: m.opts.FieldSelector, Bookmarks: true}
	var snapshot map[Key]T
	if m.mustList {
		opts.InitialEvents = true
		snapshot = map[Key]T{}
	} else {
		opts.From = m.Revision()
	}
	m.streams.Add(1)
	err = m.resource.stream(ctx, m.opts.Namespace, opts, func(msg message[T]) error {
		rest := msg.events
		if snapshot != nil {
			var complete bool
			if rest, complete = m.collect(snapshot, msg.events); !complete {
				return nil
			}
			m.replace(snapshot, msg.revision)
			snapshot, m.mustList = nil, false
		}
		m.apply(rest, msg.revision)
		progressed = true
		return nil
	})
	return progressed, err
}

// collect gathers initial events into snapshot; once their end is seen it returns what came after it.
func (m *Mirror[T]) collect(snapshot map[Key]T, events []Event[T]) (rest []Event[T], complete bool) {
	for i, ev := range events {
		if ev.InitialEnd {
			return events[i+1:], true
		}
		switch ev.Type {
		case Added, Updated:
			snapshot[KeyOf(ev.Object)] = m.opts.Transform(ev.Object)
		case Deleted:
			delete(snapshot, KeyOf(ev.Object))
		}
	}
	return nil, false
}

// replace makes snapshot the copy's contents and tells the differences.
func (m *Mirror[T]) replace(snapshot map[Key]T, rev Revision) {
	m.mu.Lock()
	changes := m.store.replace(snapshot, rev)
	if m.synced {
		m.relists.Add(1)
	}
	m.mu.Unlock()
	m.tell(changes)
	m.advance(rev, true)
	for _, f := range m.onSynced {
		f()
	}
}

// apply takes events into the copy and tells them.
func (m *Mirror[T]) apply(events []Event[T], rev Revision) {
	var changes []Change[T]
	m.mu.Lock()
	for _, ev := range events {
		if ev.Type == Bookmark {
			continue
		}
		changes = m.store.apply(changes, ev.Type, m.opts.Transform(ev.Object))
	}
	m.mu.Unlock()
	m.tell(changes)
	m.advance(rev, false)
}

func (m *Mirror[T]) tell(changes []Change[T]) {
	m.changes.Add(int64(len(changes)))
	for _, ch := range changes {
		for _, f := range m.onChange {
			f(ch)
		}
	}
}

// advance records that everything up to rev is applied and told, and wakes those who waited for it.
func (m *Mirror[T]) advance(rev Revision, synced bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced = m.synced || synced
	if rev > m.rev || synced {
		m.rev = rev
	}
	kept := m.waiters[:0]
	for _, w := range m.waiters {
		if m.synced && w.rev <= m.rev {
			close(w.done)
		} else {
			kept = append(kept, w)
		}
	}
	m.waiters = kept
}

// WaitSynced waits until the first snapshot is complete and its changes have been told.
func (m *Mirror[T]) WaitSynced(ctx context.Context) error { return m.WaitRevision(ctx, 0) }

// WaitRevision waits until every change up to rev has been applied and told. The mirror's revision moves with its own
// collection's events and with bookmarks, so a revision of another kind's write may take a bookmark's time to be reached.
func (m *Mirror[T]) WaitRevision(ctx context.Context, rev Revision) error {
	m.mu.Lock()
	if m.synced && rev <= m.rev {
		m.mu.Unlock()
		return nil
	}
	w := waiter{rev, make(chan struct{})}
	m.waiters = append(m.waiters, w)
	m.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		m.forget(w)
		return fmt.Errorf("mirror of %s: waiting for revision %d: %w", m.resource.kind.Resource, rev, ctx.Err())
	}
}

func (m *Mirror[T]) forget(w waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.waiters {
		if m.waiters[i].done == w.done {
			m.waiters = append(m.waiters[:i], m.waiters[i+1:]...)
			return
		}
	}
}

// Synced reports whether the first snapshot is complete.
func (m *Mirror[T]) Synced() bool { return m.isSynced() }

func (m *Mirror[T]) isSynced() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.synced
}

// Get returns an object.
func (m *Mirror[T]) Get(namespace, name string) (T, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	obj, ok := m.store.objects[Key{namespace, name}]
	return obj, ok
}

// List returns all objects, in no particular order. The slice is the caller's, the objects are shared.
func (m *Mirror[T]) List() []T {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]T, 0, len(m.store.objects))
	for _, obj := range m.store.objects {
		out = append(out, obj)
	}
	return out
}

// Len returns how many objects there are.
func (m *Mirror[T]) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.store.objects)
}

// ByIndex returns the objects that the index's function put under key, in no particular order. It panics if no such index was
// declared, which is a mistake in the program.
func (m *Mirror[T]) ByIndex(index, key string) []T {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.store.byIndex(index, key)
}

// Revision returns the newest revision of which everything has been applied and told.
func (m *Mirror[T]) Revision() Revision {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.rev
}

// MirrorStats count what a mirror did, for metrics.
type MirrorStats struct {
	// Streams started, Relists after the first, Changes told.
	Streams, Relists, Changes int64
}

// Stats returns the counts so far.
func (m *Mirror[T]) Stats() MirrorStats {
	return MirrorStats{m.streams.Load(), m.relists.Load(), m.changes.Load()}
}

// sleep pauses; false if ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
