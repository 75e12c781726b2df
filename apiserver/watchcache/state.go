package watchcache

import (
	"iter"
	"strings"

	"github.com/google/btree"

	"bareboat.dev/apiserver/storage"
)

// degree of the B-trees: at most 63 pointers a node, so that a copied path is about 1.5 KiB.
const degree = 32

// state is all objects of a resource at one moment. A state that has been frozen by clone is never modified again.
type state struct {
	objects *btree.BTreeG[*Item]
	// byField holds, for each of Config.Indexes, the objects in the order of the field's value and then the key.
	byField []*btree.BTreeG[indexed]
}

type indexed struct {
	value string
	item  *Item
}

func newState(indexes int) *state {
	s := &state{objects: btree.NewG(degree, func(a, b *Item) bool { return a.Key < b.Key })}
	for range indexes {
		s.byField = append(s.byField, btree.NewG(degree, func(a, b indexed) bool {
			return a.value < b.value || a.value == b.value && a.item.Key < b.item.Key
		}))
	}
	return s
}

// clone returns a copy that shares everything until either is modified.
func (s *state) clone() *state {
	c := &state{objects: s.objects.Clone()}
	for _, t := range s.byField {
		c.byField = append(c.byField, t.Clone())
	}
	return c
}

// replace puts cur in the place of prev; either may be nil. Both have the same key.
func (s *state) replace(prev, cur *Item, indexes []string) {
	if cur != nil {
		s.objects.ReplaceOrInsert(cur)
	} else if prev != nil {
		s.objects.Delete(prev)
	}
	for i, field := range indexes {
		if prev != nil && (cur == nil || indexValue(prev, field) != indexValue(cur, field)) {
			s.byField[i].Delete(indexed{indexValue(prev, field), prev})
		}
		if cur != nil {
			s.byField[i].ReplaceOrInsert(indexed{indexValue(cur, field), cur})
		}
	}
}

func indexValue(it *Item, field string) string { return itemFields{it, it.Fields}.Get(field) }

// get returns the object with the key, or nil.
func (s *state) get(key string) *Item {
	it, _ := s.objects.Get(&Item{Key: key})
	return it
}

// items iterates over the matching objects behind a key, in key order, through the narrowest tree.
func (s *state) items(c Config, m matcher, after string) iter.Seq[*Item] {
	return func(yield func(*Item) bool) {
		visit := func(it *Item) bool { return it.Key <= after || !m.selects(it) || yield(it) }
		if m.name != "" && (m.namespace != "" || !c.Namespaced) {
			if it := s.get(c.Key(m.namespace, m.name)); it != nil {
				visit(it)
			}
			return
		}
		if i, value := m.index(c); i >= 0 {
			from := indexed{value, &Item{Key: max(after, c.Prefix)}}
			s.byField[i].AscendGreaterOrEqual(from, func(x indexed) bool { return x.value == value && visit(x.item) })
			return
		}
		prefix := c.Prefix
		if c.Namespaced && m.namespace != "" {
			prefix += m.namespace + "/"
		}
		s.objects.AscendGreaterOrEqual(&Item{Key: max(prefix, after)}, func(it *Item) bool {
			return strings.HasPrefix(it.Key, prefix) && visit(it)
		})
	}
}

// index returns which of Config.Indexes the matcher asks for exactly, and for what value; -1 if none.
func (m matcher) index(c Config) (int, string) {
	if m.fields == nil || m.fieldsOf != nil {
		return -1, ""
	}
	for i, field := range c.Indexes {
		if value, ok := m.fields.RequiresExactMatch(field); ok {
			return i, value
		}
	}
	return -1, ""
}

// rewind undoes changes, newest first, on a clone.
func (s *state) rewind(changes []*change, to storage.Revision, indexes []string) *state {
	past := s.clone()
	for i := len(changes) - 1; i >= 0 && changes[i].revision > to; i-- {
		past.replace(changes[i].cur, changes[i].prev, indexes)
	}
	return past
}
