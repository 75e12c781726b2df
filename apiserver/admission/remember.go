package admission

import (
	"context"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// Remember returns a reader that remembers what it has read of some resources until any of their objects changes. It is for those that
// nearly every write asks for and that hardly ever change: namespaces, service accounts, classes. What is to be fresh is read anew. Lists
// are shared and must not be modified.
func Remember(reader Reader, resources ...schema.GroupResource) Reader {
	m := &memory{Reader: reader}
	for _, gr := range resources {
		if c, ok := reader.Collection(gr.Group, gr.Resource); ok {
			m.shelves = append(m.shelves, &shelf{resource: gr, collection: c})
		}
	}
	return m
}

type memory struct {
	Reader
	shelves []*shelf
}

// maxRemembered bounds what is remembered of one resource: a decoded object is about a KiB, so 4 MiB. What has grown beyond starts anew.
const maxRemembered = 4096

// shelf is what is remembered of one resource.
type shelf struct {
	resource   schema.GroupResource
	collection Collection
	current    atomic.Pointer[remembered]
}

// remembered is what was read in one state of a resource.
type remembered struct {
	changed int64
	mu      sync.RWMutex
	objects map[objectKey]registry.Object
	lists   map[string][]registry.Object
}

type objectKey struct{ namespace, name string }

func (m *memory) shelf(group, plural string) *shelf {
	for _, s := range m.shelves {
		if s.resource.Resource == plural && s.resource.Group == group {
			return s
		}
	}
	return nil
}

// now returns what is remembered of the resource's present state. What is read after it is of that state or a later one, in which case
// nobody will find it.
func (s *shelf) now() *remembered {
	changed := s.collection.Changed()
	if r := s.current.Load(); r != nil && r.changed == changed {
		return r
	}
	r := &remembered{changed: changed, objects: map[objectKey]registry.Object{}, lists: map[string][]registry.Object{}}
	s.current.Store(r)
	return r
}

// Object implements Reader.
func (m *memory) Object(ctx context.Context, group, plural, namespace, name string, fresh bool) (registry.Object, bool, error) {
	s := m.shelf(group, plural)
	if s == nil || fresh {
		return m.Reader.Object(ctx, group, plural, namespace, name, fresh)
	}
	r, key := s.now(), objectKey{namespace, name}
	r.mu.RLock()
	obj, ok := r.objects[key]
	r.mu.RUnlock()
	if ok {
		return obj, true, nil
	}
	obj, ok, err := m.Reader.Object(ctx, group, plural, namespace, name, false)
	if err == nil && ok {
		r.mu.Lock()
		if len(r.objects) >= maxRemembered {
			clear(r.objects)
		}
		r.objects[key] = obj
		r.mu.Unlock()
	}
	return obj, ok, err
}

// Objects implements Reader.
func (m *memory) Objects(ctx context.Context, group, plural, namespace string) ([]registry.Object, error) {
	s := m.shelf(group, plural)
	if s == nil {
		return m.Reader.Objects(ctx, group, plural, namespace)
	}
	r := s.now()
	r.mu.RLock()
	list, ok := r.lists[namespace]
	r.mu.RUnlock()
	if ok {
		return list, nil
	}
	list, err := m.Reader.Objects(ctx, group, plural, namespace)
	if err == nil {
		r.mu.Lock()
		if len(r.lists) >= maxRemembered {
			clear(r.lists)
		}
		r.lists[namespace] = list
		r.mu.Unlock()
	}
	return list, err
}
