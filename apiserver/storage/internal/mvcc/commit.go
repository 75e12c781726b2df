package mvcc

import "bareboat.dev/apiserver/storage"

// Failing returns the first op whose condition does not hold at the revision, with the key's version there, or nil.
func (ix *Index[V]) Failing(ops []storage.Op, at storage.Revision) (op *storage.Op, v Version[V], exists bool) {
	for i, op := range ops {
		v, ok := ix.At(op.Key, at)
		var current *storage.Entry
		if ok {
			current = &storage.Entry{Key: op.Key, Created: v.Created, Modified: v.Modified}
		}
		if !op.Holds(current) {
			return &ops[i], v, ok
		}
	}
	return nil, Version[V]{}, false
}

// Changes reports whether any op is more than a Check.
func Changes(ops []storage.Op) bool {
	for _, op := range ops {
		if op.Type != storage.Check {
			return true
		}
	}
	return false
}

// Apply adds the versions that ops make at a revision and appends their events. Versions are numbered from 0 in the order
// of their events.
func (ix *Index[V]) Apply(rev storage.Revision, ops []storage.Op, keep func([]byte) V, events []storage.Event) []storage.Event {
	seq := uint8(0)
	for _, op := range ops {
		switch op.Type {
		case storage.Put:
			v := ix.Append(op.Key, Version[V]{Modified: rev, Seq: seq, Value: keep(op.Value)})
			seq++
			events = append(events, storage.Event{Type: storage.PutEvent,
				Entry: storage.Entry{Key: op.Key, Value: op.Value, Created: v.Created, Modified: rev}})
		case storage.Delete:
			ix.Append(op.Key, Version[V]{Modified: rev, Created: rev, Seq: seq, Deleted: true})
			seq++
			events = append(events, storage.Event{Type: storage.DeleteEvent, Entry: storage.Entry{Key: op.Key, Modified: rev}})
		}
	}
	return events
}
