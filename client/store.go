package client

// Key names an object within its kind.
type Key struct{ Namespace, Name string }

// String returns "namespace/name", or "name" for cluster-scoped objects.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// KeyOf returns an object's key.
func KeyOf(obj Object) Key { return Key{obj.GetNamespace(), obj.GetName()} }

// namespaceIndex is the index that every mirror has.
const namespaceIndex = "namespace"

// store is a mirror's contents and indexes. It is not locked.
type store[T Object] struct {
	objects map[Key]T
	indexes map[string]*objectIndex[T]
}

// objectIndex finds objects by the keys that its function returns.
type objectIndex[T Object] struct {
	keys    func(T) []string
	members map[string]map[Key]T
}

func newStore[T Object](indexes map[string]func(T) []string) store[T] {
	s := store[T]{objects: map[Key]T{}, indexes: map[string]*objectIndex[T]{}}
	for name, f := range indexes {
		s.indexes[name] = &objectIndex[T]{f, map[string]map[Key]T{}}
	}
	if s.indexes[namespaceIndex] == nil {
		s.indexes[namespaceIndex] = &objectIndex[T]{
			func(obj T) []string { return []string{obj.GetNamespace()} }, map[string]map[Key]T{},
		}
	}
	return s
}

// apply takes one event and appends the changes that it makes. An event no newer than what is held changes nothing, so that
// repeated events are harmless; a new object under a held name is a deletion and an addition.
func (s *store[T]) apply(changes []Change[T], t EventType, obj T) []Change[T] {
	key, rev := KeyOf(obj), RevisionOf(obj)
	old, held := s.objects[key]
	if held && RevisionOf(old) >= rev {
		return changes
	}
	if held && (t == Deleted || old.GetUID() != obj.GetUID()) {
		s.remove(key, old)
		changes = append(changes, Change[T]{Type: Deleted, Old: old, Revision: rev})
		held = false
	}
	switch {
	case t == Deleted:
		return changes
	case held:
		s.remove(key, old)
		s.insert(key, obj)
		return append(changes, Change[T]{Type: Updated, Old: old, New: obj, Revision: rev})
	default:
		s.insert(key, obj)
		return append(changes, Change[T]{Type: Added, New: obj, Revision: rev})
	}
}

// replace makes snapshot, taken at rev, the contents and returns the differences, deletions first.
func (s *store[T]) replace(snapshot map[Key]T, rev Revision) []Change[T] {
	var changes []Change[T]
	for key, old := range s.objects {
		if obj, ok := snapshot[key]; !ok || obj.GetUID() != old.GetUID() {
			s.remove(key, old)
			changes = append(changes, Change[T]{Type: Deleted, Old: old, Revision: rev})
		}
	}
	for key, obj := range snapshot {
		old, held := s.objects[key]
		if held && old.GetResourceVersion() == obj.GetResourceVersion() {
			continue
		}
		ch := Change[T]{Type: Added, New: obj, Revision: rev}
		if held {
			s.remove(key, old)
			ch.Type, ch.Old = Updated, old
		}
		s.insert(key, obj)
		changes = append(changes, ch)
	}
	return changes
}

func (s *store[T]) insert(key Key, obj T) {
	s.objects[key] = obj
	for _, ix := range s.indexes {
		for _, k := range ix.keys(obj) {
			if ix.members[k] == nil {
				ix.members[k] = map[Key]T{}
			}
			ix.members[k][key] = obj
		}
	}
}

func (s *store[T]) remove(key Key, obj T) {
	delete(s.objects, key)
	for _, ix := range s.indexes {
		for _, k := range ix.keys(obj) {
			delete(ix.members[k], key)
			if len(ix.members[k]) == 0 {
				delete(ix.members, k)
			}
		}
	}
}

func (s *store[T]) byIndex(index, key string) []T {
	ix := s.indexes[index]
	if ix == nil {
		panic("client: mirror has no index " + index)
	}
	members := ix.members[key]
	out := make([]T, 0, len(members))
	for _, obj := range members {
		out = append(out, obj)
	}
	return out
}
