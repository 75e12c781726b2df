// Package storagetest is the contract of storage.Engine in executable form: each sentence of its comments is a test here, and
// a random concurrent history is checked against a model. Every engine runs it:
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, storagetest.Setup{New: func(t testing.TB) storage.Engine { return memory.New() }})
//	}
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bareboat.dev/apiserver/storage"
)

// Setup says how an engine is made.
type Setup struct {
	// New returns an engine on a store without keys; the suite closes it.
	New func(t testing.TB) storage.Engine
	// Reopen ends an engine of New as a crash of the process would, as far as a test can, and returns a new one on the same
	// store. Nil if the engine does not last.
	Reopen func(t testing.TB, e storage.Engine) storage.Engine
	// Stride is how far the revisions of commits that were not made together are apart; 0 means 1. Of commits that were made
	// together the engine may tell less exactly which created a key.
	Stride storage.Revision
	// NoProgress is set for stores that cannot promise a watcher progress without events.
	NoProgress bool
}

// limit bounds a test that hangs; none waits for it otherwise.
const limit = 30 * time.Second

// suite is one test's engine with assertions.
type suite struct {
	testing.TB
	storage.Engine
	ctx    context.Context
	stride storage.Revision
}

// Run runs the suite.
func Run(t *testing.T, setup Setup) {
	tests := []struct {
		name string
		test func(*suite)
	}{
		{"an empty store has a revision that is not Latest", emptyStore},
		{"a commit creates, changes and deletes", createChangeDelete},
		{"values are kept byte for byte", values},
		{"a key is read as it was at a revision", getAt},
		{"a list is an ordered range of one snapshot", list},
		{"a list at a revision does not see later commits", listAt},
		{"count counts a prefix", count},
		{"a condition holds or the commit conflicts", conditions},
		{"a commit is all or nothing, at one revision", multi},
		{"checks alone make no revision", checks},
		{"what the limits forbid does nothing", limits},
		{"a call with an ended context fails", endedContext},
		{"a watch delivers what follows a list", watchAfterList},
		{"a watch from Latest delivers only what is new", watchLatest},
		{"a watch from an old revision replays history", watchHistory},
		{"a revision is not split between batches", watchWhole},
		{"a watch from the future is refused", watchFuture},
		{"Next can be called again after its context ended", nextContext},
		{"a closed watcher says so", watchClose},
		{"closing the engine ends everything", engineClose},
		{"compaction forgets what is before", compact},
		{"concurrent conditional commits lose no update", counter},
		{"a random concurrent history agrees with a model", history},
	}
	if !setup.NoProgress {
		tests = append(tests, struct {
			name string
			test func(*suite)
		}{"a watcher makes progress without events", progress})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := setup.New(t)
			defer e.Close()
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			test.test(&suite{t, e, ctx, max(setup.Stride, 1)})
		})
	}
	if setup.Reopen != nil {
		t.Run("what was acknowledged survives a crash", func(t *testing.T) { reopen(t, setup) })
	}
}

func put(key, value string) storage.Op {
	return storage.Op{Type: storage.Put, Key: key, Value: []byte(value)}
}

func del(key string) storage.Op { return storage.Op{Type: storage.Delete, Key: key} }

// when adds a condition to an op.
func when(op storage.Op, c storage.Condition) storage.Op {
	op.If = c
	return op
}

func (s *suite) commit(ops ...storage.Op) storage.Revision {
	s.Helper()
	rev, err := s.Commit(s.ctx, ops...)
	if err != nil {
		s.Fatalf("commit %v: %v", ops, err)
	}
	return rev
}

func (s *suite) current() storage.Revision {
	s.Helper()
	rev, err := s.Current(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	return rev
}

func (s *suite) wantErr(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("error is %v, not %v", err, want)
	}
}

// wantEntry checks a Get.
func (s *suite) wantEntry(key string, at storage.Revision, value string, created, modified storage.Revision) {
	s.Helper()
	e, _, err := s.Get(s.ctx, key, at)
	if err != nil {
		s.Errorf("get %s at %d: %v", key, at, err)
		return
	}
	if e.Key != key || string(e.Value) != value || e.Created != created || e.Modified != modified {
		s.Errorf("get %s at %d: %s, not %q created %d modified %d", key, at, show(e), value, created, modified)
	}
}

func (s *suite) wantAbsent(key string, at storage.Revision) {
	s.Helper()
	_, rev, err := s.Get(s.ctx, key, at)
	s.wantErr(err, storage.ErrNotFound)
	if rev == 0 || at != storage.Latest && rev != at {
		s.Errorf("absent %s at %d was read at revision %d", key, at, rev)
	}
}

func (s *suite) wantList(prefix string, opts storage.ListOptions, want ...string) storage.ListResult {
	s.Helper()
	r, err := s.List(s.ctx, prefix, opts)
	if err != nil {
		s.Fatalf("list %s %+v: %v", prefix, opts, err)
	}
	var got []string
	for _, e := range r.Entries {
		got = append(got, e.Key+"="+string(e.Value))
	}
	if !slices.Equal(got, want) {
		s.Errorf("list %s %+v: %v, not %v", prefix, opts, got, want)
	}
	return r
}

func (s *suite) watch(prefix string, from storage.Revision) storage.Watcher {
	s.Helper()
	w, err := s.Watch(s.ctx, prefix, from)
	if err != nil {
		s.Fatalf("watch %s from %d: %v", prefix, from, err)
	}
	s.Cleanup(w.Close)
	return w
}

// collect reads a watcher until it has n events, and checks the order of batches.
func (s *suite) collect(w storage.Watcher, n int) (events []storage.Event) {
	s.Helper()
	last := storage.Revision(0)
	for len(events) < n {
		b, err := w.Next(s.ctx)
		if err != nil {
			s.Fatalf("after %d of %d events: %v", len(events), n, err)
		}
		if b.Revision < last {
			s.Fatalf("batch at revision %d after one at %d", b.Revision, last)
		}
		for _, e := range b.Events {
			if e.Entry.Modified <= last && len(events) > 0 && e.Entry.Modified < events[len(events)-1].Entry.Modified || e.Entry.Modified > b.Revision {
				s.Fatalf("event %s in a batch at revision %d after %d", show(e.Entry), b.Revision, last)
			}
			events = append(events, e)
		}
		last = b.Revision
	}
	return events
}

func (s *suite) wantEvents(got []storage.Event, want ...string) {
	s.Helper()
	var texts []string
	for _, e := range got {
		texts = append(texts, showEvent(e))
	}
	if !slices.Equal(texts, want) {
		s.Errorf("events are\n%s\nnot\n%s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
}

// firstErr reads a watcher until it fails.
func (s *suite) firstErr(w storage.Watcher, err error) error {
	for err == nil {
		_, err = w.Next(s.ctx)
	}
	return err
}

func show(e storage.Entry) string {
	return fmt.Sprintf("%s=%.40q created %d modified %d", e.Key, e.Value, e.Created, e.Modified)
}

func showEvent(e storage.Event) string {
	if e.Type == storage.DeleteEvent {
		return fmt.Sprintf("delete %s@%d", e.Entry.Key, e.Entry.Modified)
	}
	return fmt.Sprintf("put %s=%s@%d created %d", e.Entry.Key, e.Entry.Value, e.Entry.Modified, e.Entry.Created)
}

func putEvent(key, value string, created, modified storage.Revision) string {
	return fmt.Sprintf("put %s=%s@%d created %d", key, value, modified, created)
}

// same reports whether an entry is what the model says.
func (m *model) same(a, b storage.Entry) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Created/m.stride == b.Created/m.stride && a.Modified == b.Modified
}
