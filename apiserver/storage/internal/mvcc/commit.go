package mvcc

import "bareboat.dev/apiserver/storage"

// FirstConflict returns the first op whose condition does not hold at the revision, or nil. entry makes the entry of a key's
// version, for the error.
func (ix *Index[V]) FirstConflict(ops []storage.Op, at storage.Revision, entry func(key string, v Version[V]) storage.Entry) *storage.ConflictError {
	for _, op := range ops {
		v, ok := ix.At(op.Key, at)
		var current *storage.Entry
		if ok {
			current = &storage.Entry{Key: op.Key, Created: v.Created, Modified: v.Modified}
		}
		if op.Holds(current) {
			continue
		}
		if ok {
			*current = entry(op.Key, v)
		}
		return &storage.ConflictError{Key: op.Key, Current: current}
	}
	return nil
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

// Apply adds the versions that ops make at a revision and appends their events.
func (ix *Index[V]) Apply(rev storage.Revision, ops []storage.Op, keep func([]byte) V, events []storage.Event) []storage.Event {
	for i, op := range ops {
		switch op.Type {
		case storage.Put:
			v := ix.Append(op.Key, Version[V]{Modified: rev, Seq: uint8(i), Value: keep(op.Value)})
			events = append(events, storage.Event{Type: storage.PutEvent,
				Entry: storage.Entry{Key: op.Key, Value: op.Value, Created: v.Created, Modified: rev}})
		case storage.Delete:
			ix.Append(op.Key, Version[V]{Modified: rev, Created: rev, Seq: uint8(i), Deleted: true})
			events = append(events, storage.Event{Type: storage.DeleteEvent, Entry: storage.Entry{Key: op.Key, Modified: rev}})
		}
	}
	return events
}
