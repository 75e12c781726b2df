package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bareboat.dev/apiserver/storage"
)

func watchAfterList(s *suite) {
	s.commit(put("/p/a", "1"))
	l := s.wantList("/p/", storage.ListOptions{}, "/p/a=1")
	w := s.watch("/p/", l.Revision)
	r2 := s.commit(put("/p/a", "2"))
	s.commit(put("/q", "other"))
	r3 := s.commit(put("/p/b", "1"))
	r4 := s.commit(del("/p/a"))
	s.wantEvents(s.collect(w, 3), putEvent("/p/a", "2", l.Revision, r2), putEvent("/p/b", "1", r3, r3), fmt.Sprintf("delete /p/a@%d", r4))
}

func watchLatest(s *suite) {
	s.commit(put("/a", "1"))
	w := s.watch("/", storage.Latest)
	r2 := s.commit(put("/b", "2"))
	s.wantEvents(s.collect(w, 1), putEvent("/b", "2", r2, r2))
}

// watchHistory has more events than engines deliver, or keep in memory, at a time.
func watchHistory(s *suite) {
	const n = 700
	start := s.commit(put("/p/first", ""))
	var want []string
	var revs []storage.Revision
	for i := range n {
		key := fmt.Sprintf("/p/%03d", i)
		rev := s.commit(put(key, "v"), put("/q/"+key, strings.Repeat("x", 1000)))
		want, revs = append(want, putEvent(key, "v", rev, rev)), append(revs, rev)
	}
	s.wantEvents(s.collect(s.watch("/p/", start), n), want...)
	s.wantEvents(s.collect(s.watch("/p/", revs[n-11]), 10), want[n-10:]...)
}

func watchWhole(s *suite) {
	start := s.commit(put("/first", ""))
	const n, each = 60, 50
	for i := range n {
		var ops []storage.Op
		for j := range each {
			ops = append(ops, put(fmt.Sprintf("/p/%d/%d", i, j), "v"))
		}
		s.commit(ops...)
	}
	w := s.watch("/p/", start)
	for seen := 0; seen < n*each; {
		b := s.wholeBatch(w)
		counts := map[storage.Revision]int{}
		for _, e := range b.Events {
			counts[e.Entry.Modified]++
		}
		for rev, c := range counts {
			if c != each {
				s.Fatalf("batch has %d of %d events of revision %d", c, each, rev)
			}
		}
		seen += len(b.Events)
	}
}

func watchFuture(s *suite) {
	w, err := s.Watch(s.ctx, "/", s.commit(put("/a", ""))+100)
	if err == nil {
		defer w.Close()
		err = s.firstErr(w, nil)
	}
	s.wantErr(err, storage.ErrFuture)
}

func nextContext(s *suite) {
	start := s.current()
	w := s.watch("/", start)
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error)
	go func() {
		var err error
		for err == nil {
			_, err = w.Next(ctx)
		}
		done <- err
	}()
	cancel()
	s.wantErr(<-done, context.Canceled)
	rev := s.commit(put("/a", "1"))
	s.wantEvents(s.collect(w, 1), putEvent("/a", "1", rev, rev))
}

func watchClose(s *suite) {
	w := s.watch("/", s.current())
	done := make(chan error)
	go func() { done <- s.firstErr(w, nil) }()
	w.Close()
	s.wantErr(<-done, storage.ErrClosed)
	w.Close()
	_, err := w.Next(s.ctx)
	s.wantErr(err, storage.ErrClosed)
}

func engineClose(s *suite) {
	rev := s.commit(put("/a", "1"))
	w := s.watch("/", rev)
	done := make(chan error)
	go func() { done <- s.firstErr(w, nil) }()
	if err := s.Close(); err != nil {
		s.Error(err)
	}
	s.wantErr(<-done, storage.ErrClosed)
	_, err := s.Commit(s.ctx, put("/a", "2"))
	s.wantErr(err, storage.ErrClosed)
	_, _, err = s.Get(s.ctx, "/a", storage.Latest)
	s.wantErr(err, storage.ErrClosed)
	_, err = s.Current(s.ctx)
	s.wantErr(err, storage.ErrClosed)
	_, err = s.Watch(s.ctx, "/", storage.Latest)
	s.wantErr(err, storage.ErrClosed)
	if err := s.Close(); err != nil {
		s.Errorf("second close: %v", err)
	}
}

func compact(s *suite) {
	r1 := s.commit(put("/a", "1"), put("/gone", "1"), put("/still", "1"))
	r2 := s.commit(put("/a", "2"), del("/gone"))
	r3 := s.commit(put("/a", "3"), put("/later", "1"))
	r4 := s.commit(del("/still"))
	behind := s.watch("/", r1)
	s.wantErr(s.Compact(s.ctx, r4+100), storage.ErrFuture)
	for range 2 {
		if err := s.Compact(s.ctx, r3); err != nil {
			s.Fatal(err)
		}
	}
	s.wantEntry("/a", storage.Latest, "3", r1, r3)
	s.wantEntry("/a", r3, "3", r1, r3)
	s.wantEntry("/still", r3, "1", r1, r1)
	s.wantList("/", storage.ListOptions{Revision: r3}, "/a=3", "/later=1", "/still=1")
	s.wantAbsent("/gone", r3)
	_, _, err := s.Get(s.ctx, "/a", r2)
	s.wantErr(err, storage.ErrCompacted)
	_, err = s.List(s.ctx, "/", storage.ListOptions{Revision: r2})
	s.wantErr(err, storage.ErrCompacted)
	s.wantEvents(s.collect(s.watch("/", r3), 1), fmt.Sprintf("delete /still@%d", r4))
	w, err := s.Watch(s.ctx, "/", r2)
	if err == nil {
		defer w.Close()
		err = s.firstErr(w, nil)
	}
	s.wantErr(err, storage.ErrCompacted)
	// A watcher that was there before has either got everything in time or says that it has not.
	for seen := 0; seen < 5; {
		b, err := behind.Next(s.ctx)
		if errors.Is(err, storage.ErrCompacted) {
			return
		}
		if err != nil {
			s.Fatal(err)
		}
		seen += len(b.Events)
	}
}

func progress(s *suite) {
	w := s.watch("/p/", s.current())
	rev := s.commit(put("/other", "1"))
	if now := s.current(); now != rev {
		s.Errorf("current is %d after a commit at %d", now, rev)
	}
	for {
		b, err := w.Next(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		if len(b.Events) > 0 {
			s.Fatalf("events of another prefix: %v", b.Events)
		}
		if b.Revision >= rev {
			return
		}
	}
}
