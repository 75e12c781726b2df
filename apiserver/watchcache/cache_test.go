package watchcache_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/watchcache"
	"bareboat.dev/apiserver/watchcache/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names returns the names of items, in order.
func names(items []*watchcache.Item) (out []string) {
	for _, it := range items {
		out = append(out, it.Namespace+"/"+it.Name)
	}
	return out
}

func putPod(t testing.TB, namespace, name, app, node string) storage.Op {
	key, value := pod(t, namespace, name, app, node)
	return storage.Op{Type: storage.Put, Key: key, Value: value}
}

func deletePod(t testing.TB, namespace, name string) storage.Op {
	key, _ := pod(t, namespace, name, "", "")
	return storage.Op{Type: storage.Delete, Key: key}
}

func list(t testing.TB, c *watchcache.Cache, q watchcache.Query, o watchcache.ListOptions) watchcache.Page {
	t.Helper()
	page, err := c.List(deadline(t), q, o)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// events reads a cursor until it has delivered n events.
func events(t testing.TB, c *watchcache.Cursor, n int) (out []string) {
	t.Helper()
	for len(out) < n {
		batch, err := c.Next(deadline(t))
		if err != nil {
			t.Fatalf("after %v: %v", out, err)
		}
		for _, e := range batch.Events {
			out = append(out, fmt.Sprintf("%v %s@%d", e.Type, e.Item.Name, e.Item.Revision))
		}
	}
	return out
}

func want(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%v\nnot\n%v", got, want)
	}
}

// Lists are narrowed by namespace, name, field and label, and are in key order.
func TestListSelects(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	commit(t, engine, putPod(t, "b", "x", "web", "n1"), putPod(t, "a", "y", "db", "n1"), putPod(t, "a", "x", "web", "n2"), putPod(t, "ab", "z", "web", ""))
	for _, test := range []struct {
		query watchcache.Query
		want  []string
	}{
		{watchcache.Query{}, []string{"a/x", "a/y", "ab/z", "b/x"}},
		{watchcache.Query{Namespace: "a"}, []string{"a/x", "a/y"}},
		{watchcache.Query{Namespace: "none"}, nil},
		{watchcache.Query{Name: "x"}, []string{"a/x", "b/x"}},
		{watchcache.Query{Namespace: "b", Name: "x"}, []string{"b/x"}},
		{watchcache.Query{Namespace: "b", Name: "y"}, nil},
		{watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, []string{"a/y", "b/x"}},
		{watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "")}, []string{"ab/z"}},
		{watchcache.Query{Fields: must(fields.ParseSelector("metadata.namespace=a,metadata.name!=x"))}, []string{"a/y"}},
		{watchcache.Query{Labels: must(labels.Parse("app=web"))}, []string{"a/x", "ab/z", "b/x"}},
		{watchcache.Query{Labels: must(labels.Parse("app=web")), Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, []string{"b/x"}},
		{watchcache.Query{Labels: must(labels.Parse("!app"))}, nil},
	} {
		page := list(t, caches[0], test.query, watchcache.ListOptions{})
		if got := names(page.Items); !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, not %v", test.query, got, test.want)
		}
	}
}

// Where a query says itself what its field selector looks at, lists and watches go by that, also for fields that are indexed.
func TestFieldsOfTheQuery(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	q := watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "x"), FieldsOf: func(it *watchcache.Item) map[string]string {
		return map[string]string{"spec.nodeName": it.Labels["app"]}
	}}
	rev := commit(t, engine, putPod(t, "a", "one", "x", "n1"), putPod(t, "a", "two", "y", "x"))
	if got := names(list(t, caches[0], q, watchcache.ListOptions{}).Items); !slices.Equal(got, []string{"a/one"}) {
		t.Errorf("listed %v", got)
	}
	cursor := must(caches[0].Watch(deadline(t), q, watchcache.WatchOptions{From: rev}))
	defer cursor.Close()
	into := commit(t, engine, putPod(t, "a", "two", "x", "n1"))
	out := commit(t, engine, putPod(t, "a", "one", "y", "x"))
	want(t, events(t, cursor, 2), fmt.Sprintf("%v two@%d", watchcache.Added, into), fmt.Sprintf("%v one@%d", watchcache.Deleted, out))
}

// A list that is continued shows the state of its first page, whatever has been written since, from the cache and, when
// the cache no longer has it, from the store; after a compaction it is ErrExpired, at the latest when the feed is told of that.
func TestContinueSurvivesWrites(t *testing.T) {
	t.Parallel()
	for _, logEvents := range []int{0, 10} {
		t.Run(fmt.Sprintf("log of %d", logEvents), func(t *testing.T) {
			engine := memory.New()
			cfg := podConfig()
			cfg.LogEvents = logEvents
			feed, caches := serve(t, engine, cfg)
			pods := caches[0]
			var expected []string
			for i := range 20 {
				commit(t, engine, putPod(t, "a", fmt.Sprintf("p%02d", i), "old", "n1"))
				expected = append(expected, fmt.Sprintf("a/p%02d", i))
			}
			for _, q := range []watchcache.Query{{}, {Namespace: "a"}, {Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}, {Labels: must(labels.Parse("app=old"))}} {
				page := list(t, pods, q, watchcache.ListOptions{Limit: 6})
				if q.Labels == nil && q.Fields == nil && page.Remaining != 14 || q.Labels != nil && page.Remaining != -1 {
					t.Errorf("%d remain", page.Remaining)
				}
				all := names(page.Items)
				for page.Next != "" {
					for i := range 20 {
						commit(t, engine, putPod(t, "a", fmt.Sprintf("p%02d", i), "new", "n2"))
						commit(t, engine, putPod(t, "a", fmt.Sprintf("p%02d-more", i), "old", "n1"))
					}
					commit(t, engine, deletePod(t, "a", "p19"))
					first := page.Revision
					page = list(t, pods, q, watchcache.ListOptions{ReadOptions: watchcache.ReadOptions{Revision: first, Match: watchcache.Exact}, After: page.Next, Limit: 6})
					if page.Revision != first {
						t.Errorf("page at %d of a list at %d", page.Revision, first)
					}
					all = append(all, names(page.Items)...)
				}
				want(t, all, expected...)
				for i := range 20 {
					commit(t, engine, putPod(t, "a", fmt.Sprintf("p%02d", i), "old", "n1"))
					engine.Commit(t.Context(), deletePod(t, "a", fmt.Sprintf("p%02d-more", i)))
				}
			}
			old := list(t, pods, watchcache.Query{}, watchcache.ListOptions{}).Revision
			for i := range 50 {
				commit(t, engine, putPod(t, "a", "p00", fmt.Sprint(i), "n1"))
			}
			now, _ := engine.Current(t.Context())
			list(t, pods, watchcache.Query{}, watchcache.ListOptions{}) // the cache has seen it all now
			if err := engine.Compact(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			_, err := pods.List(deadline(t), watchcache.Query{}, watchcache.ListOptions{ReadOptions: watchcache.ReadOptions{Revision: old, Match: watchcache.Exact}})
			if logEvents == 10 && !errors.Is(err, watchcache.ErrExpired) || logEvents == 0 && err != nil {
				t.Errorf("list of a compacted revision: %v", err)
			}
			feed.Forget(now)
			_, err = pods.List(deadline(t), watchcache.Query{}, watchcache.ListOptions{ReadOptions: watchcache.ReadOptions{Revision: old, Match: watchcache.Exact}})
			if !errors.Is(err, watchcache.ErrExpired) {
				t.Errorf("list of a forgotten revision: %v", err)
			}
			list(t, pods, watchcache.Query{}, watchcache.ListOptions{ReadOptions: watchcache.ReadOptions{Revision: now, Match: watchcache.Exact}})
		})
	}
}

// A read without a revision sees every commit that was acknowledged before it, also of another server's clients.
func TestReadsAreFresh(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	for i := range 200 {
		rev := commit(t, engine, putPod(t, "a", "p", fmt.Sprint(i), "n"))
		it, at, err := caches[0].Get(deadline(t), "a", "p", watchcache.ReadOptions{})
		if err != nil || it.Revision != rev || at < rev || it.Labels["app"] != fmt.Sprint(i) {
			t.Fatalf("read %+v at %d after the commit at %d: %v", it, at, rev, err)
		}
	}
	commit(t, engine, deletePod(t, "a", "p"))
	if _, at, err := caches[0].Get(deadline(t), "a", "p", watchcache.ReadOptions{}); !errors.Is(err, watchcache.ErrNotFound) || at == 0 {
		t.Errorf("read of a deleted object: %v at %d", err, at)
	}
}

// An object can be read as it was; a revision that does not come is ErrFuture.
func TestReadAtRevision(t *testing.T) {
	t.Parallel()
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	r1 := commit(t, engine, putPod(t, "a", "p", "one", "n"))
	r2 := commit(t, engine, putPod(t, "a", "p", "two", "n"))
	r3 := commit(t, engine, deletePod(t, "a", "p"))
	read := func(rev storage.Revision) (string, error) {
		it, _, err := caches[0].Get(deadline(t), "a", "p", watchcache.ReadOptions{Revision: rev, Match: watchcache.Exact})
		if err != nil {
			return "", err
		}
		return it.Labels["app"], nil
	}
	for rev, app := range map[storage.Revision]string{r1: "one", r2: "two"} {
		if got, err := read(rev); got != app || err != nil {
			t.Errorf("at %d: %q %v", rev, got, err)
		}
	}
	for rev, wanted := range map[storage.Revision]error{r1 - 1: watchcache.ErrNotFound, r3: watchcache.ErrNotFound, r3 + 1: watchcache.ErrFuture} {
		if _, err := read(rev); !errors.Is(err, wanted) {
			t.Errorf("at %d: %v", rev, err)
		}
	}
}

// A watch from a revision that does not come is ErrFuture.
func TestWatchFromTheFuture(t *testing.T) {
	t.Parallel()
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	if _, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{From: 100}); !errors.Is(err, watchcache.ErrFuture) {
		t.Errorf("watch from the future: %v", err)
	}
}

// An object that cannot be decoded has a name and no labels, so that it can be seen and deleted; what is no object at all
// is left out.
func TestUndecodableObjects(t *testing.T) {
	engine := memory.New()
	_, caches := serve(t, engine, podConfig())
	broken := frame.Wrap("v1", "Pod", frame.Protobuf, []byte{0x0a, 1, 0xff})
	commit(t, engine, putPod(t, "a", "good", "web", "n1"), storage.Op{Key: podsAt + "a/junk", Value: []byte("junk")}, storage.Op{Key: podsAt + "a/broken", Value: broken})
	page := list(t, caches[0], watchcache.Query{}, watchcache.ListOptions{})
	want(t, names(page.Items), "a/broken", "a/good")
	if _, err := caches[0].Object(page.Items[0]); err == nil {
		t.Error("broken object was decoded")
	}
	page = list(t, caches[0], watchcache.Query{Labels: must(labels.Parse("app=web"))}, watchcache.ListOptions{})
	want(t, names(page.Items), "a/good")
}
