package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/etcd/etcdtest"
)

// attempt is a commit and what became of it.
type attempt struct {
	key, value string
	rev        storage.Revision
	err        error
}

// write has many writers create and change keys of their own, and a few that all of them name, until each has made some commits.
// between is called by one of them half way.
func write(ctx context.Context, e *Engine, writers, commits int, between func()) []attempt {
	var mu sync.Mutex
	var all []attempt
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range commits {
				if w == 0 && i == commits/2 {
					between()
				}
				a := attempt{key: fmt.Sprintf("/own/%d/%d", w, i/2), value: fmt.Sprintf("%d.%d", w, i)}
				op := storage.Op{Key: a.key, Value: value(a.value)}
				if i%5 == 4 {
					a.key = fmt.Sprintf("/shared/%d", i)
					op.Key, op.If = a.key, storage.Absent
				}
				a.rev, a.err = e.Commit(ctx, op)
				mu.Lock()
				all = append(all, a)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// collect watches from a revision until everything up to another was delivered.
func collect(t *testing.T, e *Engine, from, to storage.Revision) []storage.Event {
	t.Helper()
	w, err := e.Watch(t.Context(), "/", from)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var events []storage.Event
	for last := from; last < to; {
		b, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		events, last = append(events, b.Events...), b.Revision
	}
	return events
}

// finish makes a commit that every watcher of "/" gets to see, so that none waits for a revision without events.
func finish(t *testing.T, e *Engine) storage.Revision {
	t.Helper()
	rev, err := e.Commit(t.Context(), storage.Op{Key: "/end", Value: value("end")})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// account checks attempts against the events: what happened is there once and at its revision, what did not is not.
func account(t *testing.T, attempts []attempt, events []storage.Event) {
	t.Helper()
	seen := map[string]storage.Revision{}
	last := storage.Revision(0)
	for _, e := range events {
		text := e.Entry.Key + "=" + string(e.Entry.Value)
		if e.Entry.Modified <= last || seen[text] != 0 {
			t.Fatalf("%s at %d, after %d", text, e.Entry.Modified, last)
		}
		last = e.Entry.Modified
		seen[text] = last
	}
	for _, a := range attempts {
		at, happened := seen[a.key+"="+string(value(a.value))]
		switch {
		case a.err == nil && (!happened || at != a.rev):
			t.Errorf("%s=%s was committed at %d and is at %d", a.key, a.value, a.rev, at)
		case a.err != nil && happened && !errors.Is(a.err, storage.ErrUnknownOutcome):
			t.Errorf("%s=%s happened at %d: %v", a.key, a.value, at, a.err)
		}
	}
}

// Every revision that concurrent commits got is one whose state can be listed and got, page by page too, and from which a watch
// delivers exactly what came after it.
func TestEveryRevision(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	start, err := e.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	attempts := write(t.Context(), e, 32, 6, func() {})
	end := finish(t, e)
	events := collect(t, e, start, end)
	account(t, attempts, events)
	inside := 0
	state := map[string]storage.Entry{}
	for i, event := range events {
		rev := event.Entry.Modified
		state[event.Entry.Key] = event.Entry
		if base(rev) != int64(rev)>>placeBits {
			inside++
		}
		var got []storage.Entry
		for after, more := "", true; more; {
			page, err := e.List(t.Context(), "/", storage.ListOptions{Revision: rev, After: after, Limit: 40})
			if err != nil {
				t.Fatal(err)
			}
			got, more = append(got, page.Entries...), page.More
			after = got[len(got)-1].Key
		}
		if len(got) != len(state) || !slices.IsSortedFunc(got, func(a, b storage.Entry) int { return slices.Compare([]byte(a.Key), []byte(b.Key)) }) {
			t.Fatalf("at %d: %d entries, not %d", rev, len(got), len(state))
		}
		for _, entry := range got {
			if want := state[entry.Key]; entry.Modified != want.Modified || string(entry.Value) != string(want.Value) {
				t.Fatalf("at %d: %+v, not %+v", rev, entry, want)
			}
		}
		if i%8 == 0 && i+1 < len(events) {
			rest := collect(t, e, rev, end)
			if len(rest) != len(events)-i-1 || rest[0].Entry.Modified != events[i+1].Entry.Modified {
				t.Fatalf("from %d: %d events, not %d", rev, len(rest), len(events)-i-1)
			}
		}
	}
	if inside == 0 {
		t.Error("no commits shared a transaction")
	}
}

// A server that is killed and started again under commits loses none that it confirmed, and a watch that was there before
// delivers each that happened once.
func TestRestartUnderCommits(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	start, err := e.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w, err := e.Watch(t.Context(), "/", start)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	attempts := write(ctx, e, 32, 10, func() { server.Restart(t) })
	end := finish(t, e)
	var live []storage.Event
	for last := start; last < end; {
		b, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		live, last = append(live, b.Events...), b.Revision
	}
	account(t, attempts, live)
	if again := collect(t, e, start, end); len(again) != len(live) {
		t.Errorf("%d events, and %d when watched again", len(live), len(again))
	}
}

// A watch and a list from inside a transaction work until the history that they need is compacted away, and say so then.
func TestCompactedInside(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	first := finish(t, e)
	c := share(t, e, storage.Op{Key: "/a", Value: value("1")}, storage.Op{Key: "/b", Value: value("1")}, storage.Op{Key: "/c", Value: value("1")})
	end := finish(t, e)
	if err := e.Compact(t.Context(), c[1].rev); err != nil {
		t.Fatal(err)
	}
	for rev, want := range map[storage.Revision]string{first: "/end=end ", c[0].rev: "/a=1 /end=end ", c[1].rev: "/a=1 /b=1 /end=end "} {
		if got := keys(t, e, rev); got != want {
			t.Errorf("at %d: %s, not %s", rev, got, want)
		}
	}
	if _, err := e.List(t.Context(), "/", storage.ListOptions{Revision: first - 1}); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("list before what is kept: %v", err)
	}
	if rest := collect(t, e, c[1].rev, end); len(rest) != 2 || rest[0].Entry.Key != "/c" {
		t.Errorf("from where it was compacted to: %+v", rest)
	}
	if err := e.Compact(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	if w, err := e.Watch(t.Context(), "/", c[1].rev); err == nil {
		_, err = w.Next(t.Context())
		w.Close()
		if !errors.Is(err, storage.ErrCompacted) {
			t.Errorf("watch: %v", err)
		}
	} else if !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("watch: %v", err)
	}
	if _, err := e.List(t.Context(), "/", storage.ListOptions{Revision: c[1].rev}); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("list: %v", err)
	}
	if _, _, err := e.Get(t.Context(), "/c", c[1].rev); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("get: %v", err)
	}
	for _, rev := range []storage.Revision{end + 1, 1<<63 - 1} {
		if _, err := e.List(t.Context(), "/", storage.ListOptions{Revision: rev}); !errors.Is(err, storage.ErrFuture) {
			t.Errorf("list at %d: %v", rev, err)
		}
		w, err := e.Watch(t.Context(), "/", rev)
		if err == nil {
			w.Close()
		}
		if !errors.Is(err, storage.ErrFuture) {
			t.Errorf("watch from %d: %v", rev, err)
		}
	}
}
