// Package storage is the contract between the API server and what keeps its state: an ordered map from keys to opaque
// values in which every commit gets the next revision, old revisions can be read until they are compacted, and every
// change after a revision can be watched.
//
// Three engines implement it: memory (tests), sqlite (the embedded default) and etcd. All of them pass the suite in
// storagetest, which is the contract in executable form. Keys follow the layout of Kubernetes in etcd
// ("/registry/pods/<namespace>/<name>", see the registry package), so that the ecosystem's etcd tools can read them.
//
//	rev, err := engine.Commit(ctx, storage.Op{Type: storage.Put, Key: k, Value: v, If: storage.Absent})
//	if errors.Is(err, storage.ErrConflict) { … }
package storage

import (
	"context"
	"errors"
	"fmt"
)

// Revision counts commits. An empty store is at a revision greater than 0, so that no list ever returns Latest as its
// revision; each commit that changes something has a greater one of its own, by however much. It is what Kubernetes calls a resource version.
type Revision int64

// Latest, as the revision of a read, means the newest committed state at the time of the call (linearizable).
const Latest Revision = 0

// Entry is one key with its value.
type Entry struct {
	Key string
	// Value is never modified once it has been handed to or out of an engine; both sides share it.
	Value []byte
	// Created is the revision at which the key began to exist, Modified that of its latest change. An engine that made the
	// commit which created a key together with others, such as etcd's, may later say the newest of theirs instead.
	Created, Modified Revision
}

// OpType is what an Op does.
type OpType int

const (
	// Put stores a value.
	Put OpType = iota
	// Delete removes a key. Deleting an absent key is ErrConflict unless the condition is None.
	Delete
	// Check changes nothing; only its condition counts.
	Check
)

// Condition is what must hold of a key for a commit to happen. A Condition greater than 0 is the Modified revision that
// the key must have: one that it has had, since an engine need not tell it from those of other keys that were changed together
// with it, which the key never had.
type Condition int64

const (
	// None always holds.
	None Condition = 0
	// Absent holds if the key does not exist.
	Absent Condition = -1
	// Present holds if the key exists at whatever revision.
	Present Condition = -2
)

// Limits of one commit, the same for every engine, so that what one accepts the others do too.
const (
	// MaxOps in one commit: etcd's default --max-txn-ops.
	MaxOps = 128
	// MaxCommitBytes is the most that a commit may add up to: etcd's default --max-request-bytes of 1.5 MiB, which is also
	// the largest object that Kubernetes stores. An op counts as OpBytes, the length of its value and three times that of
	// its key, since a conditional request to etcd names the key three times.
	MaxCommitBytes = 3 << 19
	OpBytes        = 64
)

// Op is one part of a commit.
type Op struct {
	Type  OpType
	Key   string
	Value []byte
	If    Condition
}

// ListOptions narrow a List.
type ListOptions struct {
	// Revision to read at; Latest for a linearizable read of the newest.
	Revision Revision
	// After starts behind this key; empty starts at the prefix's first key.
	After string
	// Limit is the most entries to return; 0 means all.
	Limit int
}

// ListResult is a range of a snapshot.
type ListResult struct {
	// Entries in key order.
	Entries []Entry
	// Revision of the snapshot. With Latest it is the store's revision, which can be greater than that of any entry.
	Revision Revision
	// More is true if the limit cut the range.
	More bool
}

// EventType says what happened to a key.
type EventType int

const (
	// PutEvent means the key was created (Entry.Created == Entry.Modified) or changed.
	PutEvent EventType = iota
	// DeleteEvent means the key is gone. Entry has the key and, as Modified, the revision of the deletion; no value.
	DeleteEvent
)

// Event is one change of one key.
type Event struct {
	Type  EventType
	Entry Entry
}

// Batch is what a Watcher delivers: all events of one or more whole revisions, in the order of revisions and, within one,
// in that of the commit's ops. A revision is never split between two batches. A batch may be without events; its Revision
// then says that nothing happened up to there. Revisions of batches never fall.
type Batch struct {
	Events []Event
	// Revision up to and including which the watcher has now seen every event of its prefix.
	Revision Revision
}

// Watcher delivers the events of a key prefix. Only one goroutine may call Next.
//
// A watcher makes progress without events of its prefix: a revision that Commit or Current returned reaches every watcher
// of the same engine soon, with a batch that may be empty. (The etcd engine cannot promise it on servers before 3.4.31 and
// 3.5.13, whose progress notifications overtake events; there it comes with the next event or after ten minutes.)
type Watcher interface {
	// Next blocks until there is a batch, ctx ends (ctx's error), the revision has been compacted away
	// (ErrCompacted) or the engine is closed (ErrClosed). After an error other than ctx's it returns that error for ever.
	Next(ctx context.Context) (Batch, error)
	// Close releases the watcher; it is safe to call twice and while Next blocks, which then returns ErrClosed.
	Close()
}

// Engine keeps the state. It is safe for concurrent use.
type Engine interface {
	// Get returns the entry and the revision that it was read at. ErrNotFound (with the revision) if the key does not exist at
	// that revision, ErrCompacted if the revision is gone, ErrFuture if it has not happened yet.
	Get(ctx context.Context, key string, at Revision) (Entry, Revision, error)
	// List returns the entries whose keys begin with prefix, as of one revision.
	List(ctx context.Context, prefix string, opts ListOptions) (ListResult, error)
	// Count returns how many keys begin with prefix now.
	Count(ctx context.Context, prefix string) (int64, error)
	// Commit applies all ops at one new revision, durably, or none: if a condition does not hold it returns a *ConflictError.
	// No two ops may name the same key. A nil error means that the commit survives a crash of the process and of the
	// host. If ctx ends before the outcome is known the error wraps ErrUnknownOutcome. Ops that are only Checks change
	// nothing and make no revision; Commit then returns a revision at which they all held. What the limits or the rules
	// above forbid fails with ErrInvalid, or with ErrTooLarge, and nothing happens.
	Commit(ctx context.Context, ops ...Op) (Revision, error)
	// Watch delivers every event of the prefix after revision from, which a caller takes from List; from Latest it delivers
	// every event after the revision that is newest at the time of the call. ErrCompacted if events after from have been
	// forgotten, ErrFuture if from has not happened yet. Instead of from Watch, either may come from the first Next. The
	// watcher outlives ctx, which bounds the call only.
	Watch(ctx context.Context, prefix string, from Revision) (Watcher, error)
	// Current returns the newest committed revision (linearizable).
	Current(ctx context.Context) (Revision, error)
	// Compact forgets the history before revision: reads and watches from before it fail with ErrCompacted from then on.
	// The state at the revision itself stays readable, and so may that of commits that were made together with its own, and the one
	// before them, as in etcd. Compacting to a revision already compacted is no error; to one in
	// the future is ErrFuture.
	Compact(ctx context.Context, before Revision) error
	// Close ends all watchers and releases the store. Every call after it, and every call that it interrupts before there
	// is an outcome, fails with ErrClosed.
	Close() error
}

var (
	// ErrNotFound means the key does not exist.
	ErrNotFound = errors.New("key not found")
	// ErrConflict means a condition of a commit did not hold. The error is a *ConflictError.
	ErrConflict = errors.New("condition does not hold")
	// ErrCompacted means the revision has been forgotten.
	ErrCompacted = errors.New("revision has been compacted")
	// ErrFuture means the revision has not happened yet.
	ErrFuture = errors.New("revision is in the future")
	// ErrUnknownOutcome means a commit may or may not have happened.
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
	// ErrUnavailable means the engine cannot answer now; the operation did not happen and may be tried again.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrInvalid means that a commit breaks the rules of the interface, such as naming a key twice.
	ErrInvalid = errors.New("invalid commit")
	// ErrTooLarge means that a commit is larger than MaxCommitBytes or has more than MaxOps operations.
	ErrTooLarge = errors.New("request is too large")
	// ErrClosed means the engine or watcher was closed.
	ErrClosed = errors.New("closed")
)

// ConflictError names the first operation of a commit whose condition did not hold.
type ConflictError struct {
	Key string
	// Current is the key's entry as the engine saw it; nil if the key does not exist.
	Current *Entry
}

// Error implements error.
func (e *ConflictError) Error() string {
	if e.Current == nil {
		return fmt.Sprintf("%s: %v: key does not exist", e.Key, ErrConflict)
	}
	return fmt.Sprintf("%s: %v: key is at revision %d", e.Key, ErrConflict, e.Current.Modified)
}

// Unwrap makes errors.Is(err, ErrConflict) hold.
func (e *ConflictError) Unwrap() error { return ErrConflict }
