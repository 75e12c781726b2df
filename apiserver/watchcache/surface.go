package watchcache

import (
	"context"
	"iter"
	"log/slog"

	"bareboat.dev/apiserver/storage"
)

// FeedConfig describes a Feed.
type FeedConfig struct {
	// Prefix of every cache's keys: "/registry/".
	Prefix string
	Log    *slog.Logger
}

// Feed mirrors the store into caches.
type Feed struct{ engine storage.Engine }

// NewFeed returns a feed of the engine's keys that begin with cfg.Prefix.
func NewFeed(engine storage.Engine, cfg FeedConfig) *Feed { return &Feed{engine} }

// Add makes the cache of one resource. It may be called before and while Run runs.
func (f *Feed) Add(cfg Config) (*Cache, error) { return nil, storage.ErrUnavailable }

// Run fills the caches and keeps them up to date, through failures of the store, until ctx ends.
func (f *Feed) Run(ctx context.Context) error { return storage.ErrUnavailable }

// WaitReady blocks until every cache added so far has its first complete state, or ctx ends.
func (f *Feed) WaitReady(ctx context.Context) error { return storage.ErrUnavailable }

// Revision returns the revision up to which all caches have seen everything; 0 before they are ready.
func (f *Feed) Revision() storage.Revision { return 0 }

// WaitRevision blocks until Revision is at least rev, or ctx ends.
func (f *Feed) WaitRevision(ctx context.Context, rev storage.Revision) error {
	return storage.ErrUnavailable
}

// Cache holds the objects of one resource.
type Cache struct{}

// Get returns one object and the revision of the state it was read from. ErrNotFound (with the revision) if it does not exist.
func (c *Cache) Get(ctx context.Context, namespace, name string, opts ReadOptions) (*Item, storage.Revision, error) {
	return nil, 0, storage.ErrUnavailable
}

// List returns a page of the selected objects.
func (c *Cache) List(ctx context.Context, q Query, opts ListOptions) (Page, error) {
	return Page{}, storage.ErrUnavailable
}

// Snapshot returns one consistent state of the whole resource, from which objects can be streamed without collecting them.
func (c *Cache) Snapshot(ctx context.Context, opts ReadOptions) (*Snapshot, error) {
	return nil, storage.ErrUnavailable
}

// Watch returns a cursor. ErrExpired if the events after opts.From are no longer held.
func (c *Cache) Watch(ctx context.Context, q Query, opts WatchOptions) (*Cursor, error) {
	return nil, storage.ErrUnavailable
}

// Object returns the decoded object of an item. It is shared: the caller must not modify it. Recently decoded objects are kept.
func (c *Cache) Object(item *Item) (Object, error) { return nil, storage.ErrUnavailable }

// Snapshot is a consistent state of a resource at one revision.
type Snapshot struct{}

// Revision of the snapshot.
func (s *Snapshot) Revision() storage.Revision { return 0 }

// Items iterates over the selected objects in key order, behind the key after. An error (ErrExpired, or the store's) ends it.
func (s *Snapshot) Items(ctx context.Context, q Query, after string) iter.Seq2[*Item, error] { return nil }

// Cursor is one watcher's position in a cache's log.
type Cursor struct{}

// Next blocks until there is a batch, ctx ends (its error, and Next may be called again), the log has moved past the cursor
// (ErrExpired) or the cursor is closed (ErrClosed). Only one goroutine may call it.
func (c *Cursor) Next(ctx context.Context) (Batch, error) { return Batch{}, storage.ErrUnavailable }

// Close releases the cursor. It may be called twice, and while Next blocks.
func (c *Cursor) Close() {}
