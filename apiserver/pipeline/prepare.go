package pipeline

import (
	"iter"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/watchcache"
)

// What is converted at once: as many objects as a client's usual page has, and 4 MiB of them, of which a webhook's request and answer are
// each one copy.
const (
	preparedObjects = 500
	preparedBytes   = 4 << 20
)

// all yields items without an error.
func all(items []*watchcache.Item) iter.Seq2[*watchcache.Item, error] {
	return func(yield func(*watchcache.Item, error) bool) {
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}

// prepared yields items that are about to be decoded. Where the handle's kind is another than theirs and it is cheaper to convert many at
// once, so many are held back as are converted together.
func (h *handle) prepared(items iter.Seq2[*watchcache.Item, error]) iter.Seq2[*watchcache.Item, error] {
	if h.res.Stored == nil || h.res.Stored.Prepare == nil {
		return items
	}
	return func(yield func(*watchcache.Item, error) bool) {
		var held []*watchcache.Item
		size := 0
		release := func() bool {
			if err := h.prepare(held); err != nil {
				yield(nil, err)
				return false
			}
			for _, it := range held {
				if !yield(it, nil) {
					return false
				}
			}
			held, size = held[:0], 0
			return true
		}
		for it, err := range items {
			if err != nil {
				yield(nil, err)
				return
			}
			held, size = append(held, it), size+len(it.Frame.Object())
			if (len(held) >= preparedObjects || size >= preparedBytes) && !release() {
				return
			}
		}
		release()
	}
}

// prepare converts items together.
func (h *handle) prepare(items []*watchcache.Item) error {
	objects := make([]registry.Object, 0, len(items))
	for _, it := range items {
		obj, err := h.cache.Object(it)
		if err != nil {
			return err
		}
		objects = append(objects, obj.(registry.Object))
	}
	return h.res.Stored.Prepare(objects)
}

// Prepare converts a batch's objects together where that is cheaper. Those that cannot be converted say so when they are looked at.
func (s *Stream) Prepare(events []*watchcache.Event) {
	if s.Resource.Stored == nil || s.Resource.Stored.Prepare == nil || len(events) < 2 {
		return
	}
	items := make([]*watchcache.Item, len(events))
	for i, e := range events {
		items[i] = e.Item
	}
	for range s.h.prepared(all(items)) {
	}
}
