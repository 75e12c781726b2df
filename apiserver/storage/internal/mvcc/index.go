// Package mvcc holds what the engines that run inside the API server have in common: an index of every version of every key,
// and a log of recent events that watchers read.
//
// Nothing here locks the index: its engine does. Versions newer than the revision that readers are given are invisible to
// them, so an engine may apply a commit first and make it durable, and visible, afterwards; Rollback forgets what could not
// be made durable.
package mvcc

import (
	"strings"

	"github.com/google/btree"

	"bareboat.dev/apiserver/storage"
)

// First is the revision of an empty store.
const First storage.Revision = 1

// degree of the B-tree: 64 keys a node keep it shallow (three levels for 100,000 keys) and nodes about a page large.
const degree = 32

// Version is one state of a key. V is what the engine keeps with it: the value, or nothing if it can be found elsewhere.
type Version[V any] struct {
	Modified, Created storage.Revision
	// Seq is the position among the commit's changes.
	Seq     uint8
	Deleted bool
	Value   V
}

// history is all versions of a key, oldest first.
type history[V any] struct {
	key      string
	versions []Version[V]
}

// superseded notes that a key got a version at rev which leaves something for compaction to drop.
type superseded struct {
	rev storage.Revision
	key string
}

// Index is every version of every key since the last compaction.
type Index[V any] struct {
	tree    *btree.BTreeG[*history[V]]
	garbage []superseded
}

// NewIndex returns an empty index.
func NewIndex[V any]() *Index[V] {
	less := func(a, b *history[V]) bool { return a.key < b.key }
	return &Index[V]{tree: btree.NewG(degree, less)}
}

// At returns the version of a key at a revision; false if the key does not exist there.
func (ix *Index[V]) At(key string, rev storage.Revision) (Version[V], bool) {
	h, ok := ix.tree.Get(&history[V]{key: key})
	if !ok {
		return Version[V]{}, false
	}
	return h.at(rev)
}

// at searches backwards, since nearly all reads are of the newest or the one before.
func (h *history[V]) at(rev storage.Revision) (Version[V], bool) {
	for i := len(h.versions) - 1; i >= 0; i-- {
		if v := h.versions[i]; v.Modified <= rev {
			return v, !v.Deleted
		}
	}
	return Version[V]{}, false
}

// Ascend calls fn for the keys that begin with prefix, are greater than after and exist at the revision, in order, until fn
// returns false.
func (ix *Index[V]) Ascend(prefix, after string, rev storage.Revision, fn func(key string, v Version[V]) bool) {
	from := max(prefix, after)
	ix.tree.AscendGreaterOrEqual(&history[V]{key: from}, func(h *history[V]) bool {
		if !strings.HasPrefix(h.key, prefix) {
			return false
		}
		if v, ok := h.at(rev); ok && (after == "" || h.key > after) {
			return fn(h.key, v)
		}
		return true
	})
}

// Append adds a version of a key, which must be newer than the others, and sets its Created from them unless it is a
// deletion or Created is already set. It returns the version as added.
func (ix *Index[V]) Append(key string, v Version[V]) Version[V] {
	h, ok := ix.tree.Get(&history[V]{key: key})
	if !ok {
		h = &history[V]{key: key}
		ix.tree.ReplaceOrInsert(h)
	}
	if v.Created == 0 {
		v.Created = v.Modified
		if old, ok := h.at(v.Modified); ok {
			v.Created = old.Created
		}
	}
	if len(h.versions) > 0 || v.Deleted {
		ix.garbage = append(ix.garbage, superseded{v.Modified, key})
	}
	h.versions = append(h.versions, v)
	return v
}

// Rollback forgets a key's versions newer than the revision. It must be called for every key of the commits to be
// forgotten.
func (ix *Index[V]) Rollback(key string, to storage.Revision) {
	h, ok := ix.tree.Get(&history[V]{key: key})
	if !ok {
		return
	}
	n := len(h.versions)
	for n > 0 && h.versions[n-1].Modified > to {
		n--
	}
	clear(h.versions[n:])
	h.versions = h.versions[:n]
	if n == 0 {
		ix.tree.Delete(h)
	}
	for len(ix.garbage) > 0 && ix.garbage[len(ix.garbage)-1].rev > to {
		ix.garbage = ix.garbage[:len(ix.garbage)-1]
	}
}

// Dropped is a version that compaction removed from the index.
type Dropped[V any] struct {
	Key     string
	Version Version[V]
}

// Compact drops versions that no read at or after the revision can see, at most about limit of them (0: all), and reports
// whether it dropped everything that it could.
func (ix *Index[V]) Compact(before storage.Revision, limit int) (dropped []Dropped[V], done bool) {
	i := 0
	for ; i < len(ix.garbage) && ix.garbage[i].rev <= before; i++ {
		if limit > 0 && len(dropped) >= limit {
			ix.garbage = ix.garbage[i:]
			return dropped, false
		}
		dropped = ix.compactKey(ix.garbage[i].key, before, dropped)
	}
	// A fresh slice, so that the memory of a burst does not stay for ever.
	ix.garbage = append([]superseded(nil), ix.garbage[i:]...)
	return dropped, true
}

func (ix *Index[V]) compactKey(key string, before storage.Revision, dropped []Dropped[V]) []Dropped[V] {
	h, ok := ix.tree.Get(&history[V]{key: key})
	if !ok {
		return dropped
	}
	keep := 0
	for keep+1 < len(h.versions) && h.versions[keep+1].Modified <= before {
		keep++
	}
	if len(h.versions) > 0 && h.versions[keep].Deleted && h.versions[keep].Modified <= before {
		keep++
	}
	for _, v := range h.versions[:keep] {
		dropped = append(dropped, Dropped[V]{key, v})
	}
	if keep == len(h.versions) {
		ix.tree.Delete(h)
		return dropped
	}
	if keep > 0 {
		h.versions = append([]Version[V](nil), h.versions[keep:]...)
	}
	return dropped
}
