package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/etcd/etcdtest"
)

func value(s string) []byte { return []byte(envelope + s) }

// share commits some ops in one transaction, as if they had come at the same time.
func share(t *testing.T, e *Engine, ops ...storage.Op) []*waiting {
	t.Helper()
	commits := make([]*waiting, len(ops))
	for i, op := range ops {
		commits[i] = &waiting{ops: []storage.Op{op}}
	}
	if err := e.share(t.Context(), commits); err != nil {
		t.Fatal(err)
	}
	return commits
}

func keys(t *testing.T, e *Engine, at storage.Revision) string {
	t.Helper()
	r, err := e.List(t.Context(), "/", storage.ListOptions{Revision: at})
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, entry := range r.Entries {
		out += fmt.Sprintf("%s=%s ", entry.Key, entry.Value[len(envelope):])
	}
	return out
}

// Commits that share a transaction have an outcome and a revision each; the state at each of the revisions can be read and
// watched from, as if they had been made one after the other.
func TestSharedTransaction(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	start, err := e.Commit(t.Context(), storage.Op{Key: "/b", Value: value("old")})
	if err != nil {
		t.Fatal(err)
	}
	c := share(t, e,
		storage.Op{Key: "/a", Value: value("new"), If: storage.Absent},
		storage.Op{Key: "/b", Value: value("no"), If: storage.Absent},
		storage.Op{Key: "/c", Value: value("new"), If: storage.Absent},
		storage.Op{Key: "/d", Type: storage.Check, If: storage.Absent},
	)
	var conflict *storage.ConflictError
	if !errors.As(c[1].err, &conflict) || conflict.Key != "/b" || conflict.Current.Modified != start || string(conflict.Current.Value) != string(value("old")) {
		t.Errorf("%+v", c[1].err)
	}
	if c[0].err != nil || c[2].err != nil || c[3].err != nil || !(start < c[0].rev && c[0].rev < c[2].rev && c[2].rev < c[3].rev) {
		t.Fatalf("%+v %+v %+v after %d", c[0], c[2], c[3], start)
	}
	for rev, want := range map[storage.Revision]string{
		start: "/b=old ", c[0].rev - 1: "/b=old ", c[0].rev: "/a=new /b=old ", c[0].rev + 1: "/a=new /b=old ", c[2].rev: "/a=new /b=old /c=new ", storage.Latest: "/a=new /b=old /c=new ",
	} {
		if got := keys(t, e, rev); got != want {
			t.Errorf("at %d: %s, not %s", rev, got, want)
		}
	}
	if _, _, err := e.Get(t.Context(), "/c", c[0].rev); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("/c before it was made: %v", err)
	}
	if r, err := e.List(t.Context(), "/", storage.ListOptions{Revision: c[0].rev, Limit: 1}); err != nil || len(r.Entries) != 1 || !r.More {
		t.Errorf("%+v %v", r, err)
	}
	for from, want := range map[storage.Revision][]string{start: {"/a", "/c"}, c[0].rev: {"/c"}, c[2].rev - 1: {"/c"}} {
		w, err := e.Watch(t.Context(), "/", from)
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.Next(t.Context())
		w.Close()
		if err != nil || len(b.Events) != len(want) || b.Events[0].Entry.Key != want[0] || b.Revision != c[3].rev {
			t.Errorf("from %d: %+v %v", from, b, err)
		}
	}
}

// An object that is changed and deleted by later commits is still what it was at a revision inside a shared transaction.
func TestSharedTransactionInThePast(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	share(t, e, storage.Op{Key: "/a", Value: value("1")}, storage.Op{Key: "/b", Value: value("1")})
	c := share(t, e, storage.Op{Key: "/a", Value: value("2")}, storage.Op{Key: "/c", Value: value("2")}, storage.Op{Key: "/b", Value: value("2")})
	last, err := e.Commit(t.Context(), storage.Op{Key: "/a", Type: storage.Delete, If: storage.Condition(c[0].rev)})
	if err != nil {
		t.Fatal(err)
	}
	for rev, want := range map[storage.Revision]string{
		c[0].rev: "/a=2 /b=1 ", c[1].rev: "/a=2 /b=1 /c=2 ", c[2].rev: "/a=2 /b=2 /c=2 ", last - 1: "/a=2 /b=2 /c=2 ", last: "/b=2 /c=2 ",
	} {
		if got := keys(t, e, rev); got != want {
			t.Errorf("at %d: %s, not %s", rev, got, want)
		}
	}
	if err := e.Compact(t.Context(), c[1].rev); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, e, c[1].rev); got != "/a=2 /b=1 /c=2 " {
		t.Errorf("what was compacted to: %s", got)
	}
}

// What was sent and not answered has an unknown outcome; what was not has none.
func TestQueue(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sent []*waiting
	for range flights {
		w := e.group.enqueue([]storage.Op{{Key: "/same", Value: value("x"), If: storage.Absent}})
		for !boarded(e, w) {
			runtime.Gosched()
		}
		sent = append(sent, w)
	}
	w := &waiting{ops: []storage.Op{{Key: "/late", Value: value("x")}}, done: make(chan struct{})}
	if _, err := e.group.abandon(w, context.Canceled); !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrUnknownOutcome) {
		t.Errorf("what was not sent: %v", err)
	}
	cancel()
	for _, w := range sent {
		if _, err := e.group.outcome(ctx, w); !errors.Is(err, storage.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
			t.Errorf("what was sent: %v", err)
		}
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Commit(t.Context(), storage.Op{Key: "/after", Value: value("x")}); err != nil {
		t.Error(err)
	}
}

// Commits that only look at a key share a transaction, and never with one that changes it: etcd compares before it changes anything.
func TestTogether(t *testing.T) {
	create := func(key string) []storage.Op {
		return []storage.Op{{Key: key, Value: value("x"), If: storage.Absent}, {Type: storage.Check, Key: "/looked-at", If: storage.Present}}
	}
	change := []storage.Op{{Key: "/looked-at", Value: value("x")}}
	for name, tc := range map[string]struct {
		queue [][]storage.Op
		want  []int
	}{
		"lookers":              {[][]storage.Op{create("/a"), create("/b")}, []int{2}},
		"a change among them":  {[][]storage.Op{create("/a"), change, create("/b")}, []int{2, 1}},
		"a change before them": {[][]storage.Op{change, create("/a"), create("/b")}, []int{1, 2}},
		"the same change":      {[][]storage.Op{change, change}, []int{1, 1}},
	} {
		g := &group{}
		for _, ops := range tc.queue {
			g.queue = append(g.queue, &waiting{ops: ops})
		}
		var got []int
		for len(g.queue) > 0 {
			got = append(got, len(g.takeLocked()))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: transactions of %v commits, want %v", name, got, tc.want)
		}
	}
}

// boarded reports whether a commit is part of a flight, as it is from then on.
func boarded(e *Engine, w *waiting) bool {
	e.group.mu.Lock()
	defer e.group.mu.Unlock()
	return w.flight != nil
}

// A flight of which some commits have been answered ends when the callers of the others have given up.
func TestFlightWithoutAudience(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &flight{ctx: ctx, cancel: cancel, audience: 3}
	for range f.audience {
		f.commits = append(f.commits, &waiting{flight: f, done: make(chan struct{})})
	}
	g := &group{}
	g.abandon(f.commits[0], context.Canceled)
	g.answer(f.commits[:2], nil)
	if ctx.Err() != nil {
		t.Error("ended although one waits")
	}
	g.abandon(f.commits[2], context.Canceled)
	if ctx.Err() == nil {
		t.Error("goes on although nobody waits")
	}
}

// A commit that was answered just when its caller gave up has the revision of its outcome.
func TestAnsweredWhileGivenUp(t *testing.T) {
	w := &waiting{done: make(chan struct{})}
	g := &group{}
	w.rev = whole(7)
	g.answer([]*waiting{w}, nil)
	if rev, err := g.abandon(w, context.Canceled); rev != whole(7) || err != nil {
		t.Errorf("at %d: %v", rev, err)
	}
}

// Each of many commits at the same time for a few keys has its own outcome: one creates a key, the others conflict.
func TestManyAtOnce(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	const callers, names = 200, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, revs := map[string]int{}, map[storage.Revision]bool{}
	for i := range callers {
		wg.Go(func() {
			key := fmt.Sprintf("/%d", i%names)
			rev, err := e.Commit(t.Context(), storage.Op{Key: key, Value: value("x"), If: storage.Absent})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && revs[rev]:
				t.Errorf("revision %d was given twice", rev)
			case err == nil:
				made[key]++
				revs[rev] = true
			case !errors.Is(err, storage.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for key, n := range made {
		if n != 1 {
			t.Errorf("%s was made %d times", key, n)
		}
	}
	if len(made) != names {
		t.Errorf("%d keys", len(made))
	}
}

// An etcd with lower limits than the default is served with a transaction for each commit.
func TestSmallTransactions(t *testing.T) {
	server := etcdtest.Start(t, "--max-txn-ops=4")
	e := open(t, server, nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := e.Commit(t.Context(), storage.Op{Key: fmt.Sprintf("/%d", i), Value: value("x"), If: storage.Absent}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, err := e.Count(t.Context(), "/"); err != nil || n != 50 {
		t.Errorf("%d keys, %v", n, err)
	}
}

// Large objects that come together do not make a request that etcd refuses.
func TestLargeTogether(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	var wg sync.WaitGroup
	large := value(string(bytes.Repeat([]byte("x"), 1<<20)))
	for i := range 8 {
		wg.Go(func() {
			if _, err := e.Commit(t.Context(), storage.Op{Key: fmt.Sprintf("/%d", i), Value: large}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Commits that come together to an etcd with a lower limit of a request's size than the default each get what they would have got alone.
func TestSmallRequests(t *testing.T) {
	server := etcdtest.Start(t, "--max-request-bytes=65536")
	e := open(t, server, nil)
	commits := make([]*waiting, 80)
	for i := range commits {
		size := 20 << 10
		if i == len(commits)/2 {
			size = 100 << 10
		}
		op := storage.Op{Key: fmt.Sprintf("/%d", i), Value: value(string(bytes.Repeat([]byte("x"), size)))}
		// They are in the queue before the first flight boards.
		commits[i] = &waiting{ops: []storage.Op{op}, bytes: weight([]storage.Op{op}), done: make(chan struct{})}
	}
	e.group.mu.Lock()
	e.group.queue = commits
	e.group.departLocked()
	e.group.mu.Unlock()
	for i, w := range commits {
		_, err := e.group.outcome(t.Context(), w)
		if large := i == len(commits)/2; large && !errors.Is(err, storage.ErrTooLarge) || !large && err != nil {
			t.Errorf("commit %d: %v", i, err)
		}
	}
	if _, err := e.Commit(t.Context(), storage.Op{Key: "/larger", Value: value(string(bytes.Repeat([]byte("x"), 1<<20)))}); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("what etcd does not even receive: %v", err)
	}
}

// A value and its place come back as they were kept, also a value that ends as if it had a place.
func FuzzPlace(f *testing.F) {
	f.Add([]byte("k8s\x00abc"), 3)
	f.Add([]byte("k8s\x00x\x05"), 127)
	f.Add([]byte("k8s\x00"), 0)
	f.Add([]byte("{}x\x05"), 127)
	f.Fuzz(func(t *testing.T, v []byte, n int) {
		n &= lastPlace
		if !placeable(v) {
			n = lastPlace
		}
		before := bytes.Clone(v)
		if got, bare := placed(appendPlaced(nil, v, n)); got != n || !bytes.Equal(bare, v) || !bytes.Equal(v, before) {
			t.Errorf("%q at %d: %q at %d", v, n, bare, got)
		}
	})
}

// Revisions keep the order of transactions and places, and split again.
func TestRevisions(t *testing.T) {
	last := storage.Revision(0)
	for main := int64(2); main < 5; main++ {
		for n := range stride {
			rev := at(main, n)
			if m, k := split(rev); rev <= last || m != main || k != n {
				t.Fatalf("%d: %d %d after %d", rev, m, k, last)
			}
			last = rev
		}
	}
	if last != whole(4) || base(whole(4)) != 4 || base(at(4, 0)) != 3 || base(1) != 1 {
		t.Errorf("%d", last)
	}
}

// The largest transaction that commits can share is one that etcd takes with its default limits.
func TestLargestTransaction(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	commits := make([]*waiting, groupCommits)
	for i := range commits {
		commits[i] = &waiting{}
		for k := range groupOps {
			commits[i].ops = append(commits[i].ops, storage.Op{Key: fmt.Sprintf("/%d/%d", i, k), Value: value("x"), If: storage.Absent})
		}
	}
	if err := e.share(t.Context(), commits); err != nil {
		t.Fatal(err)
	}
	for i, c := range commits {
		if c.err != nil || i > 0 && c.rev != commits[i-1].rev+1 {
			t.Fatalf("commit %d at %d: %v", i, c.rev, c.err)
		}
	}
	if n, err := e.Count(t.Context(), "/"); err != nil || n != groupCommits*groupOps {
		t.Errorf("%d keys: %v", n, err)
	}
}
