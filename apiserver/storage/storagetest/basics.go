package storagetest

import (
	"context"
	"errors"
	"strings"

	"bareboat.dev/apiserver/storage"
)

func emptyStore(s *suite) {
	if rev := s.current(); rev <= storage.Latest {
		s.Errorf("revision %d", rev)
	}
	r := s.wantList("/", storage.ListOptions{})
	if r.Revision <= storage.Latest || r.More {
		s.Errorf("empty list: %+v", r)
	}
}

func createChangeDelete(s *suite) {
	before := s.current()
	s.wantAbsent("/a", storage.Latest)
	r1 := s.commit(put("/a", "1"))
	if r1 <= before {
		s.Errorf("commit at %d after %d", r1, before)
	}
	s.wantEntry("/a", storage.Latest, "1", r1, r1)
	r2 := s.commit(put("/a", "2"))
	s.wantEntry("/a", storage.Latest, "2", r1, r2)
	r3 := s.commit(del("/a"))
	s.wantAbsent("/a", storage.Latest)
	r4 := s.commit(put("/a", "3"))
	s.wantEntry("/a", storage.Latest, "3", r4, r4)
	if !(r1 < r2 && r2 < r3 && r3 < r4) || s.current() != r4 {
		s.Errorf("revisions %d %d %d %d, current %d", r1, r2, r3, r4, s.current())
	}
}

func values(s *suite) {
	for key, value := range map[string]string{
		"/empty": "", "/zero": "\x00\x00", "/binary": "k8s\x00\xff\xfe\n", "/large": strings.Repeat("x", 1<<20),
		"/schlüssel/日本 %_'\"": "quoted",
	} {
		rev := s.commit(put(key, value))
		s.wantEntry(key, storage.Latest, value, rev, rev)
		s.wantEntry(key, rev, value, rev, rev)
	}
}

func getAt(s *suite) {
	r0 := s.commit(put("/other", ""))
	r1 := s.commit(put("/a", "1"))
	r2 := s.commit(put("/a", "2"))
	r3 := s.commit(del("/a"))
	s.wantAbsent("/a", r0)
	s.wantEntry("/a", r1, "1", r1, r1)
	s.wantEntry("/a", r2, "2", r1, r2)
	s.wantAbsent("/a", r3)
	_, _, err := s.Get(s.ctx, "/a", r3+10)
	s.wantErr(err, storage.ErrFuture)
	_, err = s.List(s.ctx, "/", storage.ListOptions{Revision: r3 + 10})
	s.wantErr(err, storage.ErrFuture)
}

func list(s *suite) {
	s.commit(put("/p/b", "2"), put("/p/a", "1"), put("/q", "x"), put("/p/c", "3"), put("/p", "y"))
	rev := s.commit(put("/z", "z"))
	r := s.wantList("/p/", storage.ListOptions{}, "/p/a=1", "/p/b=2", "/p/c=3")
	if r.Revision != rev || r.More {
		s.Errorf("revision %d more %v", r.Revision, r.More)
	}
	if r = s.wantList("/p/", storage.ListOptions{Limit: 2}, "/p/a=1", "/p/b=2"); !r.More {
		s.Error("no More")
	}
	if r = s.wantList("/p/", storage.ListOptions{Limit: 2, After: "/p/b"}, "/p/c=3"); r.More {
		s.Error("More at the end")
	}
	if r = s.wantList("/p/", storage.ListOptions{Limit: 3}, "/p/a=1", "/p/b=2", "/p/c=3"); r.More {
		s.Error("More with nothing left")
	}
	s.wantList("/p/", storage.ListOptions{After: "/p/aa"}, "/p/b=2", "/p/c=3")
	s.wantList("/p/", storage.ListOptions{After: "/p/c"})
	s.wantList("/p", storage.ListOptions{}, "/p=y", "/p/a=1", "/p/b=2", "/p/c=3")
	s.wantList("/none", storage.ListOptions{})
}

func listAt(s *suite) {
	s.commit(put("/p/a", "1"), put("/p/b", "1"))
	r1 := s.commit(put("/p/c", "1"))
	s.commit(del("/p/a"))
	s.commit(put("/p/b", "2"), put("/p/bb", "1"))
	s.wantList("/p/", storage.ListOptions{}, "/p/b=2", "/p/bb=1", "/p/c=1")
	r := s.wantList("/p/", storage.ListOptions{Revision: r1}, "/p/a=1", "/p/b=1", "/p/c=1")
	if r.Revision != r1 {
		s.Errorf("list at %d says %d", r1, r.Revision)
	}
	s.wantList("/p/", storage.ListOptions{Revision: r1, After: "/p/a", Limit: 1}, "/p/b=1")
}

func count(s *suite) {
	s.commit(put("/p/a", ""), put("/p/b", ""), put("/q", ""))
	s.commit(del("/p/a"), put("/p/c", ""), put("/p/d", ""))
	for prefix, want := range map[string]int64{"/p/": 3, "/q": 1, "/": 4, "/none": 0} {
		if n, err := s.Count(s.ctx, prefix); err != nil || n != want {
			s.Errorf("count %s: %d %v, not %d", prefix, n, err, want)
		}
	}
}

// conditions goes through every kind of op, condition and state of the key.
func conditions(s *suite) {
	types := map[string]storage.OpType{"put": storage.Put, "delete": storage.Delete, "check": storage.Check}
	for name, typ := range types {
		for _, exists := range []bool{true, false} {
			for cond, holds := range map[storage.Condition]bool{
				storage.None: exists || typ != storage.Delete, storage.Absent: !exists && typ != storage.Delete,
				storage.Present: exists, 1: exists, 2: false,
			} {
				var at storage.Revision
				if exists {
					at = s.commit(put("/k", "old"))
				}
				op := storage.Op{Type: typ, Key: "/k", Value: []byte("new"), If: cond}
				switch cond {
				case 1:
					op.If = storage.Condition(max(at, 1))
				case 2:
					op.If = storage.Condition(at + 1000)
				}
				_, err := s.Commit(s.ctx, op)
				if holds != (err == nil) {
					s.Errorf("%s exists %v condition %d: %v", name, exists, cond, err)
				}
				if !holds {
					s.wantConflict(err, "/k", at)
				}
				s.Commit(s.ctx, del("/k"))
			}
		}
	}
}

// wantConflict checks a ConflictError: modified is the revision of the key's entry, 0 if it must be absent.
func (s *suite) wantConflict(err error, key string, modified storage.Revision) {
	s.Helper()
	var c *storage.ConflictError
	if !errors.Is(err, storage.ErrConflict) || !errors.As(err, &c) {
		s.Errorf("error is %v, not a conflict", err)
		return
	}
	if c.Key != key || (c.Current == nil) != (modified == 0) {
		s.Errorf("conflict %+v", c)
	} else if c.Current != nil && (c.Current.Key != key || c.Current.Modified != modified || string(c.Current.Value) != "old") {
		s.Errorf("conflict with %s", show(*c.Current))
	}
}

func multi(s *suite) {
	r1 := s.commit(put("/a", "old"), put("/c", "1"))
	w := s.watch("/", r1)
	_, err := s.Commit(s.ctx, put("/b", "2"), put("/x", "2"), when(put("/a", "2"), storage.Absent), del("/c"))
	s.wantConflict(err, "/a", r1)
	s.wantList("/", storage.ListOptions{}, "/a=old", "/c=1")
	if s.current() != r1 {
		s.Error("a failed commit made a revision")
	}
	r2 := s.commit(put("/x", "3"), when(put("/a", "3"), storage.Condition(r1)), del("/c"), when(storage.Op{Type: storage.Check, Key: "/b"}, storage.Absent))
	for _, key := range []string{"/a", "/x"} {
		if e, _, err := s.Get(s.ctx, key, storage.Latest); err != nil || e.Modified != r2 {
			s.Errorf("%s: %s %v", key, show(e), err)
		}
	}
	s.wantAbsent("/c", storage.Latest)
	b := s.wholeBatch(w)
	s.wantEvents(b.Events, putEvent("/x", "3", r2, r2), putEvent("/a", "3", r1, r2), showEvent(storage.Event{Type: storage.DeleteEvent, Entry: storage.Entry{Key: "/c", Modified: r2}}))
}

// wholeBatch returns the next batch that has events.
func (s *suite) wholeBatch(w storage.Watcher) storage.Batch {
	s.Helper()
	for {
		b, err := w.Next(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		if len(b.Events) > 0 {
			return b
		}
	}
}

func checks(s *suite) {
	r1 := s.commit(put("/a", "old"))
	check := storage.Op{Type: storage.Check, Key: "/a"}
	if rev := s.commit(when(check, storage.Condition(r1))); rev < r1 || s.current() != r1 {
		s.Errorf("check at %d, current %d", rev, s.current())
	}
	_, err := s.Commit(s.ctx, when(check, storage.Absent))
	s.wantConflict(err, "/a", r1)
}

func limits(s *suite) {
	r1 := s.commit(put("/a", "1"))
	most := make([]storage.Op, storage.MaxOps)
	for i := range most {
		most[i] = put("/many/"+strings.Repeat("x", i+1), "")
	}
	for name, test := range map[string]struct {
		ops  []storage.Op
		want error
	}{
		"nothing":       {nil, storage.ErrInvalid},
		"empty key":     {[]storage.Op{put("/b", ""), put("", "")}, storage.ErrInvalid},
		"same key":      {[]storage.Op{put("/b", "1"), put("/b", "2")}, storage.ErrInvalid},
		"unknown op":    {[]storage.Op{{Type: 9, Key: "/b"}}, storage.ErrInvalid},
		"too many ops":  {append(most, put("/b", "")), storage.ErrTooLarge},
		"too many byte": {[]storage.Op{put("/b", strings.Repeat("x", storage.MaxCommitBytes))}, storage.ErrTooLarge},
	} {
		if _, err := s.Commit(s.ctx, test.ops...); !errors.Is(err, test.want) {
			s.Errorf("%s: %v", name, err)
		}
	}
	if s.current() != r1 {
		s.Error("a refused commit made a revision")
	}
	s.commit(most...)
	s.commit(put("/b", strings.Repeat("x", storage.MaxCommitBytes-storage.OpBytes-3*len("/b"))))
}

func endedContext(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, _, err := s.Get(ctx, "/a", storage.Latest)
	s.wantErr(err, context.Canceled)
	_, err = s.List(ctx, "/", storage.ListOptions{})
	s.wantErr(err, context.Canceled)
	_, err = s.Current(ctx)
	s.wantErr(err, context.Canceled)
	if _, err = s.Commit(ctx, put("/a", "")); !errors.Is(err, context.Canceled) && !errors.Is(err, storage.ErrUnknownOutcome) {
		s.Errorf("commit: %v", err)
	}
	_, err = s.Watch(ctx, "/", storage.Latest)
	s.wantErr(err, context.Canceled)
}
