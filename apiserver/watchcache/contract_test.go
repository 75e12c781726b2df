package watchcache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/etcd"
	"bareboat.dev/apiserver/storage/etcd/etcdtest"
	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/storage/sqlite"
	"bareboat.dev/apiserver/watchcache"
	"bareboat.dev/apiserver/watchcache/frame"
)

// engines are what the watch contract is tested on.
var engines = map[string]func(t testing.TB) storage.Engine{
	"memory": func(t testing.TB) storage.Engine { return memory.New() },
	"sqlite": func(t testing.TB) storage.Engine {
		return must[storage.Engine](sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db")}))
	},
	"etcd": func(t testing.TB) storage.Engine {
		return must[storage.Engine](etcd.Open(t.Context(), etcd.Config{Endpoints: []string{etcdtest.Start(t).Endpoint}}))
	},
}

const (
	registry = "/registry/"
	podsAt   = "/registry/pods/"
)

// testTime bounds a test that hangs; none waits for it otherwise.
const testTime = 30 * time.Second

func podConfig() watchcache.Config {
	return watchcache.Config{
		Name: "pods", Prefix: podsAt, Namespaced: true, Indexes: []string{"spec.nodeName"},
		Decode: func(f frame.Frame) (watchcache.Object, error) {
			pod := &corev1.Pod{}
			return pod, pod.Unmarshal(f.Object())
		},
		Fields: func(o watchcache.Object) map[string]string {
			pod := o.(*corev1.Pod)
			return map[string]string{"spec.nodeName": pod.Spec.NodeName, "status.phase": string(pod.Status.Phase)}
		},
	}
}

// pod returns the key and stored value of a pod.
func pod(t testing.TB, namespace, name, app, node string) (string, []byte) {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "registry.example/image:1"}}},
	}
	raw, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return podsAt + namespace + "/" + name, frame.Wrap("v1", "Pod", frame.Protobuf, raw)
}

// serve runs a feed with the given caches until the test ends.
func serve(t testing.TB, engine storage.Engine, configs ...watchcache.Config) (*watchcache.Feed, []*watchcache.Cache) {
	t.Helper()
	feed := watchcache.NewFeed(engine, watchcache.FeedConfig{Prefix: registry})
	var caches []*watchcache.Cache
	for _, cfg := range configs {
		c, err := feed.Add(cfg)
		if err != nil {
			t.Fatal(err)
		}
		caches = append(caches, c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); feed.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; engine.Close() })
	if err := feed.WaitReady(deadline(t)); err != nil {
		t.Fatal(err)
	}
	return feed, caches
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	t.Cleanup(cancel)
	return ctx
}

func commit(t testing.TB, e storage.Engine, ops ...storage.Op) storage.Revision {
	t.Helper()
	rev, err := e.Commit(context.Background(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// writer makes a random history: pods that come, change their label or node, and go, one or several in a commit.
func writer(t testing.TB, e storage.Engine, seed uint64, commits int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for range commits {
		var ops []storage.Op
		first := rng.IntN(20)
		for i := range 1 + rng.IntN(3) {
			key, value := pod(t, fmt.Sprintf("ns%d", rng.IntN(2)), fmt.Sprintf("p%d-%d", seed, first+i),
				fmt.Sprintf("app%d", rng.IntN(3)), fmt.Sprintf("node%d", rng.IntN(3)))
			op := storage.Op{Type: storage.Put, Key: key, Value: value}
			if rng.IntN(4) == 0 {
				op = storage.Op{Type: storage.Delete, Key: key}
			}
			ops = append(ops, op)
		}
		if _, err := e.Commit(context.Background(), ops...); err != nil && !errors.Is(err, storage.ErrConflict) {
			t.Error(err)
			return
		}
	}
}

// seen is an event as tests compare them.
type seen struct {
	Type     watchcache.EventType
	Key      string
	Revision storage.Revision
	App      string
}

func (s seen) String() string { return fmt.Sprintf("%v %s@%d %s", s.Type, s.Key, s.Revision, s.App) }

// oracle tells, from the store's own history, what a watcher must see.
type oracle struct {
	start  storage.Revision
	events []storage.Event
}

// expect returns what a watch from one revision up to another must deliver: the definition of the contract, naively.
func (o oracle) expect(match func(*corev1.Pod) bool, from, to storage.Revision) []seen {
	state := map[string]*corev1.Pod{}
	var out []seen
	for _, e := range o.events {
		rev := e.Entry.Modified
		if rev > to {
			break
		}
		before, after := state[e.Entry.Key], (*corev1.Pod)(nil)
		if e.Type == storage.PutEvent {
			after = decode(e.Entry)
		}
		state[e.Entry.Key] = after
		was, is := before != nil && match(before), after != nil && match(after)
		if rev <= from || !was && !is {
			continue
		}
		switch {
		case !was:
			out = append(out, seen{watchcache.Added, e.Entry.Key, rev, after.Labels["app"]})
		case !is:
			out = append(out, seen{watchcache.Deleted, e.Entry.Key, rev, before.Labels["app"]})
		default:
			out = append(out, seen{watchcache.Modified, e.Entry.Key, rev, after.Labels["app"]})
		}
	}
	return out
}

func decode(e storage.Entry) *corev1.Pod {
	f, err := frame.Splice(e.Value, int64(e.Modified))
	if err != nil {
		panic(err)
	}
	p := &corev1.Pod{}
	if err := p.Unmarshal(f.Object()); err != nil {
		panic(err)
	}
	return p
}

// selections are the kinds of queries that watchers use, with what they mean.
var selections = []struct {
	name  string
	query watchcache.Query
	match func(*corev1.Pod) bool
}{
	{"everything", watchcache.Query{}, func(*corev1.Pod) bool { return true }},
	{"namespace", watchcache.Query{Namespace: "ns1"}, func(p *corev1.Pod) bool { return p.Namespace == "ns1" }},
	{"object", watchcache.Query{Namespace: "ns0", Name: "p1-3"}, func(p *corev1.Pod) bool { return p.Namespace == "ns0" && p.Name == "p1-3" }},
	{"name", watchcache.Query{Fields: fields.OneTermEqualSelector("metadata.name", "p2-5")}, func(p *corev1.Pod) bool { return p.Name == "p2-5" }},
	{"field", watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "node1")}, func(p *corev1.Pod) bool { return p.Spec.NodeName == "node1" }},
	{"field in namespace", watchcache.Query{Namespace: "ns0", Fields: fields.OneTermEqualSelector("spec.nodeName", "node2")},
		func(p *corev1.Pod) bool { return p.Namespace == "ns0" && p.Spec.NodeName == "node2" }},
	{"not field", watchcache.Query{Fields: fields.OneTermNotEqualSelector("spec.nodeName", "node0")}, func(p *corev1.Pod) bool { return p.Spec.NodeName != "node0" }},
	{"label", watchcache.Query{Labels: labels.SelectorFromSet(labels.Set{"app": "app1"})}, func(p *corev1.Pod) bool { return p.Labels["app"] == "app1" }},
	{"label set", watchcache.Query{Namespace: "ns1", Labels: must(labels.Parse("app in (app0, app2)"))},
		func(p *corev1.Pod) bool { return p.Namespace == "ns1" && p.Labels["app"] != "app1" }},
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A list at R and the watch from R give every matching change exactly once, in order, or an explicit error, whatever is
// selected and however slow the watcher is.
func TestWatchContract(t *testing.T) {
	t.Parallel()
	for name, open := range engines {
		t.Run(name, func(t *testing.T) { testContract(t, open(t)) })
	}
}

func testContract(t *testing.T, engine storage.Engine) {
	const writers, commits = 3, 150
	cfg := podConfig()
	cfg.LogEvents = 200 // less than the history, so that slow watchers do expire
	start, err := engine.Current(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	history, err := engine.Watch(context.Background(), registry, start)
	if err != nil {
		t.Fatal(err)
	}
	defer history.Close()
	_, caches := serve(t, engine, cfg)
	pods := caches[0]

	var writing, watching sync.WaitGroup
	finished := make(chan struct{})
	var end storage.Revision
	type run struct {
		selection, from, to int
		got                 []seen
		expired             bool
	}
	var mu sync.Mutex
	var runs []run
	for i := range selections {
		for _, pace := range []int{0, 1, 40} {
			watching.Add(1)
			go func() {
				defer watching.Done()
				w := &watcher{t: t, pods: pods, query: selections[i].query, pace: pace, finished: finished, end: &end}
				for !w.ended {
					from, to, got, expired := w.run()
					mu.Lock()
					runs = append(runs, run{i, int(from), int(to), got, expired})
					mu.Unlock()
				}
			}()
		}
	}
	for i := range writers {
		writing.Add(1)
		go func() { defer writing.Done(); writer(t, engine, uint64(i), commits) }()
	}
	writing.Wait()
	if end, err = engine.Current(context.Background()); err != nil {
		t.Fatal(err)
	}
	close(finished)
	watching.Wait()

	truth := oracle{start: start}
	for ctx, upTo := deadline(t), start; upTo < end; {
		b, err := history.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		truth.events = append(truth.events, b.Events...)
		upTo = b.Revision
	}
	expired := 0
	for _, r := range runs {
		s := selections[r.selection]
		want := truth.expect(s.match, storage.Revision(r.from), storage.Revision(r.to))
		if !slices.Equal(r.got, want) {
			t.Errorf("%s from %d to %d:\n got %v\nwant %v", s.name, r.from, r.to, r.got, want)
		}
		if r.expired {
			expired++
		}
	}
	t.Logf("%d watches, %d expired, %d events", len(runs), expired, len(truth.events))
}

// watcher lists and watches until the history has ended, at its pace: how often it lets the writers go on before each Next.
type watcher struct {
	t        *testing.T
	pods     *watchcache.Cache
	query    watchcache.Query
	pace     int
	finished chan struct{}
	end      *storage.Revision
	ended    bool
}

// run is one list and watch, up to its error or the end; it checks the list against the initial events of a second watch.
func (w *watcher) run() (from, to storage.Revision, got []seen, expired bool) {
	ctx := deadline(w.t)
	page, err := w.pods.List(ctx, w.query, watchcache.ListOptions{})
	if err != nil {
		w.t.Error(err)
		w.ended = true
		return
	}
	from, to = page.Revision, page.Revision
	cursor, err := w.pods.Watch(ctx, w.query, watchcache.WatchOptions{From: from})
	if errors.Is(err, watchcache.ErrExpired) {
		return from, to, nil, true
	}
	if err != nil {
		w.t.Error(err)
		w.ended = true
		return
	}
	defer cursor.Close()
	for {
		w.linger(cursor)
		select {
		case <-w.finished:
			if to >= *w.end {
				w.ended = true
				return
			}
			// Nothing may match any more: ask for the revision too.
			if w.pods.Get(ctx, "none", "none", watchcache.ReadOptions{}); cursor.Revision() >= *w.end {
				w.ended = true
				return from, cursor.Revision(), got, false
			}
		default:
		}
		next, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		batch, err := cursor.Next(next)
		cancel()
		to = cursor.Revision()
		switch {
		case errors.Is(err, watchcache.ErrExpired):
			return from, to, got, true
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			continue
		case err != nil:
			w.t.Error(err)
			w.ended = true
			return
		}
		for _, e := range batch.Events {
			p, err := w.pods.Object(e.Item)
			if err != nil {
				w.t.Error(err)
			}
			if p.GetResourceVersion() != fmt.Sprint(e.Item.Revision) {
				w.t.Errorf("%s: resource version %q in the frame of revision %d", e.Item.Key, p.GetResourceVersion(), e.Item.Revision)
			}
			got = append(got, seen{e.Type, e.Item.Key, e.Item.Revision, p.GetLabels()["app"]})
		}
	}
}

// linger lets a slow watcher fall behind: it waits until the cache has got further, or the history has ended.
func (w *watcher) linger(c *watchcache.Cursor) {
	if w.pace == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-w.finished:
			cancel()
		case <-ctx.Done():
		}
	}()
	w.pods.WaitRevision(ctx, c.Revision()+storage.Revision(w.pace*5))
}

// A key of another resource that begins with the same letters is not the cache's.
func TestPrefixesDoNotMix(t *testing.T) {
	engine := memory.New()
	feed, _ := serve(t, engine, podConfig())
	cfg := podConfig()
	if _, err := feed.Add(cfg); err == nil || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("second cache of the same prefix: %v", err)
	}
	cfg.Prefix = "/registry/podsecrets/"
	other, err := feed.Add(cfg)
	if err != nil {
		t.Fatal(err)
	}
	key, value := pod(t, "a", "b", "", "")
	commit(t, engine, storage.Op{Key: strings.Replace(key, "/pods/", "/podsecrets/", 1), Value: value})
	if _, _, err := other.Get(deadline(t), "a", "b", watchcache.ReadOptions{}); err != nil {
		t.Error(err)
	}
}
