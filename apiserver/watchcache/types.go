package watchcache

import (
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache/frame"
)

var (
	// ErrExpired means that the cache no longer holds the history that a watch or a continued list needs: the caller must
	// start again with a fresh list. It is REST's 410 Expired and gRPC's OUT_OF_RANGE. A read at an exact revision that
	// the store has compacted fails with it too.
	ErrExpired = errors.New("too old resource version")
	// ErrFuture means that the revision asked for has not happened, not even after waiting a moment for it: REST's
	// "Too large resource version".
	ErrFuture = storage.ErrFuture
	// ErrNotFound means there is no such object.
	ErrNotFound = storage.ErrNotFound
	// ErrClosed means that the cursor or the feed was closed.
	ErrClosed = storage.ErrClosed
)

// Object is a decoded object: a pointer to a type of k8s.io/api, or an unstructured one.
type Object interface {
	metav1.Object
	runtime.Object
}

// Config describes the resource that a Cache holds.
type Config struct {
	// Name is for logs and metrics: "pods", "deployments.apps".
	Name string
	// Prefix of the resource's keys, "/registry/pods/".
	Prefix string
	// Namespaced says that the part of a key behind Prefix is "<namespace>/<name>", not "<name>".
	Namespaced bool
	// Decode decodes an object. It is called once when an object enters the cache, and again by Cache.Object.
	Decode func(frame.Frame) (Object, error)
	// View returns what readers are to see of stored bytes, for objects that a schema completes; nil shows them as they are.
	// Its error makes the bytes be shown as they are too.
	View func(stored []byte) ([]byte, error)
	// Fields returns the selectable fields of an object beyond metadata.name and metadata.namespace, by path
	// ("spec.nodeName"). Every object must return the same paths. Nil means there are none.
	Fields func(Object) map[string]string
	// Indexes names those of Fields by which lists are narrowed and watchers are woken.
	Indexes []string
	// LogEvents is how many events the log holds at most; 0 means DefaultLogEvents.
	LogEvents int
}

// Item is one object at one revision. It is shared by all readers and never modified.
type Item struct {
	// Key in the store.
	Key             string
	Namespace, Name string
	UID             string
	Labels          labels.Set
	// Fields as Config.Fields returned them. metadata.name and metadata.namespace are not among them.
	Fields map[string]string
	// Revision is the object's resource version.
	Revision storage.Revision
	// Frame is the encoded object with its resource version.
	Frame frame.Frame
}

// Query selects objects. The zero Query selects all.
type Query struct {
	// Namespace, or empty for all.
	Namespace string
	// Name, or empty for all. It is the same as a field selector "metadata.name=<Name>".
	Name string
	// Labels is nil for everything.
	Labels labels.Selector
	// Fields is nil for everything. The caller has checked that the resource declares the fields; one that it does not
	// declare is compared as empty.
	Fields fields.Selector
	// FieldsOf is what Fields looks at instead of an item's Fields; nil: those. It may take its time: it is called by whoever reads, and
	// holds up nobody else.
	FieldsOf func(it *Item) map[string]string
}

// Match says how the Revision of a read is understood (KEP-2523, resourceVersionMatch).
type Match int

const (
	// NotOlderThan: the state at any revision at least as new.
	NotOlderThan Match = iota
	// Exact: the state at exactly that revision.
	Exact
)

// ReadOptions choose the state that is read.
type ReadOptions struct {
	// Revision; 0 means quorum-fresh. A caller that wants any state at all, however old (REST's resourceVersion=0), sets
	// AnyRevision.
	Revision storage.Revision
	Match    Match
	// AnyRevision takes what the cache has, without asking the store.
	AnyRevision bool
}

// ListOptions choose and cut a list.
type ListOptions struct {
	ReadOptions
	// After goes on behind this key, as Page.Next gave it. Use it with the first page's Revision and Exact.
	After string
	// Limit is the most items to return; 0 means all.
	Limit int
}

// Page is a part of a snapshot.
type Page struct {
	// Items in key order.
	Items []*Item
	// Revision of the snapshot; a watch from here misses and repeats nothing.
	Revision storage.Revision
	// Next is the After that goes on behind this page; empty if there is no more.
	Next string
	// Remaining is how many objects are behind this page, or -1 if that is not known (with label or field selectors).
	Remaining int64
}

// WatchOptions choose where a watch begins.
type WatchOptions struct {
	// From is the revision after which events are wanted. 0 means a fresh snapshot: with InitialEvents its objects come
	// first, without it only what happens after it.
	From storage.Revision
	// InitialEvents begins with one Added event for each selected object of a snapshot at least as new as From (quorum-fresh
	// if From is 0), and then a batch with InitialEventsEnd set.
	InitialEvents bool
	// AnyRevision, with InitialEvents and From 0, takes the snapshot that the cache has.
	AnyRevision bool
	// Bookmarks is after how long without a batch Next returns one without events, so that the watcher's revision stays
	// resumable; 0 means never.
	Bookmarks time.Duration
}

// EventType says what happened, from the point of view of a watch's query.
type EventType int

const (
	// Added: the object was created or began to match.
	Added EventType = iota
	// Modified: the object changed and matches before and after.
	Modified
	// Deleted: the object was deleted or stopped matching. The item is its last matching state, with the revision of the
	// deletion or change as its resource version.
	Deleted
)

// String returns the type as the watch API spells it.
func (t EventType) String() string { return [...]string{"ADDED", "MODIFIED", "DELETED"}[t] }

// Event is one change as a watcher sees it. It is shared by all watchers that see the change in the same way.
type Event struct {
	Type EventType
	Item *Item

	cached encodings
}

// Batch is what a Cursor delivers: every matching event of one or more whole revisions, in order.
type Batch struct {
	Events []*Event
	// Revision up to and including which every matching event has been delivered; the watch can be resumed from here. While
	// initial events are being delivered it is 0, since there is nothing to resume from yet.
	Revision storage.Revision
	// InitialEventsEnd is true on the one batch, which has no events, that ends the initial events.
	InitialEventsEnd bool
}
