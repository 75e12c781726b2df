package clienttest

import (
	"cmp"
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/anypb"

	"bareboat.dev/client"
)

// maxRequestBytes is what the server accepts in one request: 3 MiB objects, as Kubernetes, in a batch of 3 MiB at most.
const maxRequestBytes = 8 << 20

// objectKey names an object.
type objectKey struct {
	resourceName
	client.Key
}

// record is one state of an object. It is never changed.
type record struct {
	obj  client.Object
	wire *anypb.Any
}

func newRecord(k kind, obj client.Object) (*record, error) {
	value, err := obj.Marshal()
	if err != nil {
		return nil, err
	}
	return &record{obj, &anypb.Any{TypeUrl: k.typeURL, Value: value}}, nil
}

// change is one entry of the history; old is nil on creation, new on deletion.
type change struct {
	rev      client.Revision
	key      objectKey
	old, new *record
}

// state is the store: objects, their history and the revision.
type state struct {
	revision  client.Revision
	compacted client.Revision
	objects   map[objectKey]*record
	history   []change
	// changed is closed and replaced at each change.
	changed chan struct{}
	uids    int
}

// firstRevision leaves room below for revisions that are long compacted.
const firstRevision = 100

func newState() state {
	return state{revision: firstRevision, compacted: 0, objects: map[objectKey]*record{}, changed: make(chan struct{})}
}

// put stores obj as the newest state of key; nil deletes it. obj gets the new resource version.
func (s *state) put(k kind, key objectKey, obj client.Object) (*record, error) {
	old := s.objects[key]
	var stored *record
	if obj != nil {
		obj.SetResourceVersion(strconv.FormatInt(s.revision+1, 10))
		var err error
		if stored, err = newRecord(k, obj); err != nil {
			return nil, err
		}
	}
	s.revision++
	if stored != nil {
		s.objects[key] = stored
	} else {
		delete(s.objects, key)
	}
	s.history = append(s.history, change{s.revision, key, old, stored})
	s.announce()
	return stored, nil
}

func (s *state) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *state) compact() {
	s.compacted, s.history = s.revision, nil
	s.announce()
}

// since returns the changes after rev; ok is false if they are no longer held.
func (s *state) since(rev client.Revision) (changes []change, ok bool) {
	if rev < s.compacted {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(s.history, rev+1, func(c change, rev client.Revision) int { return cmp.Compare(c.rev, rev) })
	return s.history[i:], true
}

// at returns a resource's objects as they were at rev, in key order; ok is false if that is no longer known.
func (s *state) at(name resourceName, rev client.Revision) (records []*record, ok bool) {
	later, ok := s.since(rev)
	if !ok {
		return nil, false
	}
	undone := map[objectKey]*record{}
	for i := len(later) - 1; i >= 0; i-- {
		undone[later[i].key] = later[i].old
	}
	for key, r := range s.objects {
		if _, changed := undone[key]; key.resourceName == name && !changed {
			records = append(records, r)
		}
	}
	for key, r := range undone {
		if key.resourceName == name && r != nil {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b *record) int { return compareKeys(client.KeyOf(a.obj), client.KeyOf(b.obj)) })
	return records, true
}

func compareKeys(a, b client.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// newUID returns a uid; they are numbered, so that tests run alike.
func (s *state) newUID() string {
	s.uids++
	return "00000000-0000-4000-8000-" + leftPad(strconv.Itoa(s.uids), 12)
}

func leftPad(s string, n int) string {
	for len(s) < n {
		s = "0" + s
	}
	return s
}
