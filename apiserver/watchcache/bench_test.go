package watchcache_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/fields"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/watchcache"
)

const (
	benchWatchers = 5000
	benchRate     = 100 // events a second
	benchNodes    = 5000
)

// audience is many watchers, each with a goroutine of its own, as a server has them.
type audience struct {
	cursors []*watchcache.Cursor
	wait    sync.WaitGroup
	cancel  context.CancelFunc
}

// watchers starts the audience; got is called for each event that each of them gets.
func watchers(b *testing.B, c *watchcache.Cache, query func(i int) watchcache.Query, got func(i int, e *watchcache.Event)) *audience {
	ctx, cancel := context.WithCancel(context.Background())
	a := &audience{cancel: cancel}
	for i := range benchWatchers {
		cursor, err := c.Watch(ctx, query(i), watchcache.WatchOptions{AnyRevision: true})
		if err != nil {
			b.Fatal(err)
		}
		a.cursors = append(a.cursors, cursor)
		a.wait.Add(1)
		go func() {
			defer a.wait.Done()
			for {
				batch, err := cursor.Next(ctx)
				if err != nil {
					return
				}
				for _, e := range batch.Events {
					got(i, e)
				}
			}
		}()
	}
	return a
}

func (a *audience) leave() {
	a.cancel()
	a.wait.Wait()
	for _, c := range a.cursors {
		c.Close()
	}
}

// 5,000 watchers of everything at 100 events a second: the time from before the commit to the last watcher, and how many
// times an event is encoded.
func BenchmarkFanOut(b *testing.B) {
	engine := memory.New()
	_, caches := serve(b, engine, podConfig())
	var mu sync.Mutex
	left := map[storage.Revision]int{}
	arrived := make(chan storage.Revision, benchRate)
	encodings := 0
	a := watchers(b, caches[0], func(int) watchcache.Query { return watchcache.Query{} }, func(_ int, e *watchcache.Event) {
		e.Encoded("bench", func(e *watchcache.Event) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			encodings++
			return e.Item.Frame.Object(), nil
		})
		mu.Lock()
		left[e.Item.Revision]++
		if left[e.Item.Revision] == benchWatchers {
			arrived <- e.Item.Revision
		}
		mu.Unlock()
	})
	defer a.leave()
	var times []time.Duration
	sent := map[storage.Revision]time.Time{}
	ticker := time.NewTicker(time.Second / benchRate)
	defer ticker.Stop()
	events := 0
	for b.Loop() {
		<-ticker.C
		start := time.Now()
		sent[commit(b, engine, putPod(b, "a", fmt.Sprintf("p%d", events%1000), "web", "n"))] = start
		events++
		for more := true; more; {
			select {
			case rev := <-arrived:
				times = append(times, time.Since(sent[rev]))
			default:
				more = false
			}
		}
	}
	for len(times) < events {
		times = append(times, time.Since(sent[<-arrived]))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(encodings)/float64(events), "encodings/event")
	b.ReportMetric(0, "ns/op")
}

// 5,000 watchers, each of its own node's pods: an event wakes one of them, so it costs about as much as with one watcher.
func BenchmarkDispatchByNode(b *testing.B) {
	engine := memory.New()
	_, caches := serve(b, engine, podConfig())
	arrived := make(chan int, 1)
	byNode := func(i int) watchcache.Query {
		return watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", fmt.Sprintf("node%d", i))}
	}
	one := func(node int) time.Duration {
		op := putPod(b, "a", fmt.Sprintf("p%d", node), "web", fmt.Sprintf("node%d", node))
		start := time.Now()
		commit(b, engine, op)
		if got := <-arrived; got != node {
			b.Fatalf("event of node %d woke the watcher of %d", node, got)
		}
		return time.Since(start)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lone, err := caches[0].Watch(ctx, byNode(0), watchcache.WatchOptions{AnyRevision: true})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			batch, err := lone.Next(ctx)
			if err != nil {
				return
			}
			for range batch.Events {
				arrived <- 0
			}
		}
	}()
	var alone time.Duration
	const rounds = 2000
	for range rounds {
		alone += one(0)
	}
	cancel()
	<-done
	lone.Close()
	a := watchers(b, caches[0], byNode, func(i int, _ *watchcache.Event) { arrived <- i })
	defer a.leave()
	var among time.Duration
	n := 0
	for b.Loop() {
		among += one(n % benchNodes)
		n++
	}
	b.ReportMetric(float64(alone.Nanoseconds())/rounds/1000, "us-alone")
	b.ReportMetric(float64(among.Nanoseconds())/float64(n)/1000, "us-among-5000")
	b.ReportMetric((among.Seconds()/float64(n))/(alone.Seconds()/rounds), "ratio")
	b.ReportMetric(0, "ns/op")
}

// What an idle watcher costs, with the goroutine that waits for it.
func BenchmarkIdleWatcherMemory(b *testing.B) {
	engine := memory.New()
	_, caches := serve(b, engine, podConfig())
	for b.Loop() {
		before := heap()
		a := watchers(b, caches[0], func(i int) watchcache.Query {
			return watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", fmt.Sprintf("node%d", i))}
		}, func(int, *watchcache.Event) {})
		b.ReportMetric(float64(heap()-before)/benchWatchers, "B/watcher")
		a.leave()
	}
	b.ReportMetric(0, "ns/op")
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// Listing 10,000 pods while one is changed before each list, against making the same list of pointers from a slice.
func BenchmarkList(b *testing.B) {
	engine := memory.New()
	_, caches := serve(b, engine, podConfig())
	const n = 10_000
	for i := 0; i < n; i += 100 {
		var ops []storage.Op
		for j := range 100 {
			ops = append(ops, putPod(b, "a", fmt.Sprintf("p%05d", i+j), "web", fmt.Sprintf("node%d", (i+j)%100)))
		}
		commit(b, engine, ops...)
	}
	var all, narrow time.Duration
	rounds := 0
	for b.Loop() {
		commit(b, engine, putPod(b, "a", "p00000", "web", fmt.Sprintf("node%d", rounds%2)))
		start := time.Now()
		if page := list(b, caches[0], watchcache.Query{}, watchcache.ListOptions{}); len(page.Items) != n {
			b.Fatal(len(page.Items))
		}
		all += time.Since(start)
		start = time.Now()
		list(b, caches[0], watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", "node50")}, watchcache.ListOptions{})
		narrow += time.Since(start)
		rounds++
	}
	b.ReportMetric(float64(all.Microseconds())/float64(rounds), "us/list-10000")
	b.ReportMetric(float64(narrow.Microseconds())/float64(rounds), "us/list-100-by-field")
	b.ReportMetric(0, "ns/op")
}

// How many changes a second the feed takes into a cache, against decoding the same objects and nothing else.
func BenchmarkFeed(b *testing.B) {
	engine := memory.New()
	feed, caches := serve(b, engine, podConfig())
	var ops []storage.Op
	for i := range storage.MaxOps {
		ops = append(ops, putPod(b, "a", fmt.Sprintf("p%05d", i), "web", "node1"))
	}
	const round = 100
	var feeding, decoding time.Duration
	rounds := 0
	for b.Loop() {
		start := time.Now()
		var rev storage.Revision
		for range round {
			rev = commit(b, engine, ops...)
		}
		if err := feed.WaitRevision(deadline(b), rev); err != nil {
			b.Fatal(err)
		}
		feeding += time.Since(start)
		it, _, err := caches[0].Get(deadline(b), "a", "p00000", watchcache.ReadOptions{})
		if err != nil {
			b.Fatal(err)
		}
		start = time.Now()
		for range round * storage.MaxOps {
			if _, err := podConfig().Decode(it.Frame); err != nil {
				b.Fatal(err)
			}
		}
		decoding += time.Since(start)
		rounds++
	}
	n := float64(rounds * round * storage.MaxOps)
	b.ReportMetric(n/feeding.Seconds(), "changes/s")
	b.ReportMetric(n/decoding.Seconds(), "decodes/s")
	b.ReportMetric(feeding.Seconds()/decoding.Seconds(), "decodes/change")
	b.ReportMetric(0, "ns/op")
}
