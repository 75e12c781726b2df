package watchcache

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"bareboat.dev/apiserver/storage"
)

// Snapshot is a consistent state of a resource at one revision. It needs no closing and may be used by many goroutines.
type Snapshot struct {
	cache *Cache
	// state is nil if the cache does not have this revision; the store is read then.
	state    *state
	revision storage.Revision
}

// Revision of the snapshot; a watch from here misses and repeats nothing.
func (s *Snapshot) Revision() storage.Revision { return s.revision }

// Get returns one object of the snapshot, or ErrNotFound.
func (s *Snapshot) Get(ctx context.Context, namespace, name string) (*Item, error) {
	key := s.cache.cfg.Key(namespace, name)
	if s.state != nil {
		if it := s.state.get(key); it != nil {
			return it, nil
		}
		return nil, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	e, _, err := s.cache.feed.engine.Get(ctx, key, s.revision)
	if err != nil {
		return nil, expired(err)
	}
	return s.cache.stored(e)
}

// Items iterates over the selected objects in key order, behind the key after. An error (ErrExpired, or the store's) ends it.
func (s *Snapshot) Items(ctx context.Context, q Query, after string) iter.Seq2[*Item, error] {
	return s.items(ctx, q.compile(), after)
}

func (s *Snapshot) items(ctx context.Context, m matcher, after string) iter.Seq2[*Item, error] {
	if s.state == nil {
		return s.storedItems(ctx, m, after)
	}
	return func(yield func(*Item, error) bool) {
		for it := range s.state.items(s.cache.cfg, m, after) {
			if !yield(it, nil) {
				return
			}
		}
	}
}

// storedItems reads from the store, page by page.
func (s *Snapshot) storedItems(ctx context.Context, m matcher, after string) iter.Seq2[*Item, error] {
	prefix := s.cache.cfg.Prefix
	if s.cache.cfg.Namespaced && m.namespace != "" {
		prefix += m.namespace + "/"
	}
	return func(yield func(*Item, error) bool) {
		for {
			opts := storage.ListOptions{Revision: s.revision, After: after, Limit: pageEntries}
			page, err := s.cache.feed.engine.List(ctx, prefix, opts)
			if err != nil {
				yield(nil, expired(err))
				return
			}
			for _, e := range page.Entries {
				after = e.Key
				// What is no object at all is left out, as in the cache, which logs it.
				if it, _ := s.cache.stored(e); m.selects(it) && !yield(it, nil) {
					return
				}
			}
			if !page.More {
				return
			}
		}
	}
}

// stored makes the item of an entry that does not go into the cache.
func (c *Cache) stored(e storage.Entry) (*Item, error) {
	it, _, err := c.cfg.item(e)
	if it != nil {
		err = nil
	}
	return it, err
}

// Page collects at most limit selected objects behind a key; limit 0 means all.
func (s *Snapshot) Page(ctx context.Context, q Query, after string, limit int) (Page, error) {
	page := Page{Revision: s.revision}
	for it, err := range s.Items(ctx, q, after) {
		if err != nil {
			return Page{}, err
		}
		if limit > 0 && len(page.Items) == limit {
			page.Next = page.Items[limit-1].Key
			page.Remaining = s.remaining(q.compile(), page.Next)
			break
		}
		page.Items = append(page.Items, it)
	}
	return page, nil
}

// remaining counts what is behind a key, if that needs no selectors.
func (s *Snapshot) remaining(m matcher, after string) int64 {
	if s.state == nil || !m.plain() {
		return -1
	}
	var n int64
	for range s.state.items(s.cache.cfg, m, after) {
		n++
	}
	return n
}

// expired says in the cache's terms that the store has forgotten a revision.
func expired(err error) error {
	if errors.Is(err, storage.ErrCompacted) {
		return fmt.Errorf("%w: %w", ErrExpired, err)
	}
	return err
}
