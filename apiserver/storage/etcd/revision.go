package etcd

import (
	"bytes"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"bareboat.dev/apiserver/storage"
)

// Several commits can share one of etcd's transactions (see group.go), and so one of etcd's revisions; yet each has a revision
// of its own, as the interface wants it: etcd's, and in the low bits the commit's place in the transaction. Places are
// counted such that the last one is lastPlace, which is also that of a commit alone: so etcd's revision with lastPlace stands for
// everything that it holds.
const (
	placeBits = 7
	// stride is the distance between the revisions of commits that do not share a transaction.
	stride    = 1 << placeBits
	lastPlace = stride - 1
)

// whole is the revision at which everything of etcd's revision has happened.
func whole(main int64) storage.Revision { return at(main, lastPlace) }

// at is the revision of one place in a transaction.
func at(main int64, place int) storage.Revision {
	return storage.Revision(main<<placeBits | int64(place))
}

// split is the inverse of at. Revisions before etcd's first, which is that of an empty store, are as good as that.
func split(rev storage.Revision) (main int64, place int) {
	if main = int64(rev) >> placeBits; main < 1 {
		return 1, lastPlace
	}
	return main, int(rev & lastPlace)
}

// base is etcd's newest revision of which everything had happened at a revision.
func base(rev storage.Revision) int64 {
	main, place := split(rev)
	if place < lastPlace {
		main--
	}
	return max(main, 1)
}

// A commit's place is kept with the values that it put, as a field behind those of the Kubernetes envelope: runtime.Unknown has no
// field 15, and what decodes protobuf skips a field that it does not know. A commit at lastPlace leaves its values as they are.
const (
	envelope   = "k8s\x00"
	placeTag   = 15<<3 | 0 // varint
	placeBytes = 2
)

// placeable reports whether a place can be kept with the value.
func placeable(value []byte) bool { return bytes.HasPrefix(value, []byte(envelope)) }

// placed returns the place that is kept with a value, and the value without it.
func placed(value []byte) (int, []byte) {
	n := len(value) - placeBytes
	if n < len(envelope) || value[n] != placeTag || value[n+1] > lastPlace || !placeable(value) {
		return lastPlace, value
	}
	return int(value[n+1]), value[:n:n]
}

// appendPlaced appends a value as it is kept at a place. A value that would be taken for one with a place gets one too.
func appendPlaced(b, value []byte, place int) []byte {
	b = append(b, value...)
	if place == lastPlace {
		if _, bare := placed(value); len(bare) == len(value) {
			return b
		}
	}
	return append(b, placeTag, byte(place))
}

// entry translates a key. Of a key that was changed since it was created nobody knows at what place that was.
func entry(kv *mvccpb.KeyValue) storage.Entry {
	n, value := placed(kv.Value)
	e := storage.Entry{Key: string(kv.Key), Value: value, Created: whole(kv.CreateRevision), Modified: at(kv.ModRevision, n)}
	if kv.CreateRevision == kv.ModRevision {
		e.Created = e.Modified
	}
	return e
}
