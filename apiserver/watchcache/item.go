package watchcache

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache/frame"
)

const (
	fieldName      = "metadata.name"
	fieldNamespace = "metadata.namespace"
)

// Key returns the key of an object in the store.
func (c Config) Key(namespace, name string) string {
	if c.Namespaced {
		return c.Prefix + namespace + "/" + name
	}
	return c.Prefix + name
}

// item makes the item of a stored entry. An object that cannot be decoded becomes an item without labels and fields, so
// that it can at least be seen and deleted; the error then comes with the item.
func (c Config) item(e storage.Entry) (*Item, Object, error) {
	f, err := c.frame(e)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", e.Key, err)
	}
	it := &Item{Key: e.Key, Name: strings.TrimPrefix(e.Key, c.Prefix), Revision: e.Modified, Frame: f}
	if c.Namespaced {
		it.Namespace, it.Name, _ = strings.Cut(it.Name, "/")
	}
	obj, err := c.Decode(f)
	if err != nil {
		return it, nil, fmt.Errorf("%s: %w", e.Key, err)
	}
	it.UID, it.Labels = string(obj.GetUID()), obj.GetLabels()
	if c.Fields != nil {
		it.Fields = c.Fields(obj)
	}
	return it, obj, nil
}

// frame makes the bytes that readers see of an entry.
func (c Config) frame(e storage.Entry) (frame.Frame, error) {
	if c.View != nil {
		if seen, err := c.View(e.Value); err == nil {
			return frame.Splice(seen, int64(e.Modified))
		}
	}
	return frame.Splice(e.Value, int64(e.Modified))
}

// tombstone is the item as the deletion at a revision, or an update that ends a match, sends it.
func (it *Item) tombstone(rev storage.Revision) (*Item, error) {
	f, err := it.Frame.WithRevision(int64(rev))
	if err != nil {
		return nil, err
	}
	gone := *it
	gone.Frame, gone.Revision = f, rev
	return &gone, nil
}

// itemFields makes an item what field selectors look at.
type itemFields struct {
	*Item
	fields map[string]string
}

func (f itemFields) Has(field string) bool {
	_, ok := f.fields[field]
	return ok || field == fieldName || field == fieldNamespace
}

func (f itemFields) Get(field string) string {
	switch field {
	case fieldName:
		return f.Name
	case fieldNamespace:
		return f.Namespace
	}
	return f.fields[field]
}

// matcher is a Query made ready.
type matcher struct {
	namespace, name string
	labels          labels.Selector
	fields          fields.Selector
	fieldsOf        func(it *Item) map[string]string // nil: the item's own
}

// compile takes what is implied by the selectors out of them: a field selector on the name or namespace becomes the
// query's own, and selectors that select everything become nil.
func (q Query) compile() matcher {
	m := matcher{namespace: q.Namespace, name: q.Name}
	if q.Labels != nil && !q.Labels.Empty() {
		m.labels = q.Labels
	}
	if q.Fields != nil && !q.Fields.Empty() {
		m.fields, m.fieldsOf = q.Fields, q.FieldsOf
		if v, ok := q.Fields.RequiresExactMatch(fieldName); ok && m.name == "" {
			m.name = v
		}
		if v, ok := q.Fields.RequiresExactMatch(fieldNamespace); ok && m.namespace == "" {
			m.namespace = v
		}
	}
	return m
}

// selects reports whether the item, which may be nil, matches.
func (m matcher) selects(it *Item) bool {
	return it != nil &&
		(m.namespace == "" || m.namespace == it.Namespace) &&
		(m.name == "" || m.name == it.Name) &&
		(m.labels == nil || m.labels.Matches(it.Labels)) &&
		(m.fields == nil || m.fields.Matches(m.seen(it)))
}

// seen is what the field selector looks at.
func (m matcher) seen(it *Item) itemFields {
	if m.fieldsOf != nil {
		return itemFields{it, m.fieldsOf(it)}
	}
	return itemFields{it, it.Fields}
}

// plain reports whether the matcher looks at nothing but the namespace.
func (m matcher) plain() bool { return m.name == "" && m.labels == nil && m.fields == nil }
