package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	// watchers on one collection, each a stream; connections share them as client processes would.
	watchers, connections = 5_000, 50
	// eventRate per second, for watchTime.
	eventRate, watchTime = 100, 5 * time.Second
)

// watchFanOut measures from the acknowledgement of a write to the last of many watchers.
func watchFanOut(e *Env) ([]Row, error) {
	s := startServer(e, "")
	before := pss(s.pid)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := newFanOut()
	var wg sync.WaitGroup
	for range connections {
		c := s.dial(e)
		for range watchers / connections {
			stream, err := apiv1.NewResourceServiceClient(c.Conn()).Watch(ctx, &apiv1.WatchRequest{Ref: &apiv1.ResourceRef{Version: "v1", Resource: "configmaps", Namespace: "default"}, SendInitialEvents: true})
			if err != nil {
				return nil, err
			}
			wg.Go(func() { f.follow(stream) })
		}
	}
	for f.synced.Load() < watchers {
		time.Sleep(10 * time.Millisecond)
	}
	idle := pss(s.pid)
	last, err := f.write(s.dial(e))
	if err != nil {
		return nil, err
	}
	cancel()
	wg.Wait()
	return []Row{
		{"watch, 5,000 watchers, 100 events/s: write acknowledged to last watcher, p50", ms(percentile(last, 0.5)), "", "", ""},
		{"the same, p99", ms(percentile(last, 0.99)), "", "", "≤ 50 ms"},
		{"memory per idle watcher (server, PSS)", fmt.Sprintf("%.1f KiB", float64(idle-before)/watchers/1024), "", "", "≤ 20 KiB"},
	}, nil
}

// fanOut counts, for each revision, how many watchers have seen it, and when the last one did.
type fanOut struct {
	synced atomic.Int64
	mu     sync.Mutex
	seen   map[int64]int
	last   map[int64]time.Time
}

func newFanOut() *fanOut { return &fanOut{seen: map[int64]int{}, last: map[int64]time.Time{}} }

func (f *fanOut) follow(stream apiv1.ResourceService_WatchClient) {
	started := false
	for {
		resp, err := stream.Recv()
		if err != nil {
			return
		}
		now := time.Now()
		for _, ev := range resp.Events {
			switch {
			case ev.Type == apiv1.Event_TYPE_BOOKMARK && ev.InitialEventsEnd:
				started = true
				f.synced.Add(1)
			case started && ev.Type != apiv1.Event_TYPE_BOOKMARK:
				f.mu.Lock()
				f.seen[resp.Revision]++
				f.last[resp.Revision] = now
				f.mu.Unlock()
			}
		}
	}
}

// write makes events at the given rate and returns, for each, how long the last watcher waited after the write was
// acknowledged. A revision that several messages share is left out of the figures of others only if a watcher got a batch.
func (f *fanOut) write(c *client.Client) ([]time.Duration, error) {
	maps := client.Of(c, client.ConfigMaps())
	acknowledged := map[int64]time.Time{}
	tick := time.NewTicker(time.Second / eventRate)
	defer tick.Stop()
	for i := range int(watchTime.Seconds()) * eventRate {
		<-tick.C
		m, err := maps.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("event-%d", i)}})
		if err != nil {
			return nil, err
		}
		acknowledged[client.RevisionOf(m)] = time.Now()
	}
	time.Sleep(time.Second) // the last events' way to the last watcher
	f.mu.Lock()
	defer f.mu.Unlock()
	var waits []time.Duration
	for rev, at := range acknowledged {
		if f.seen[rev] > 0 {
			waits = append(waits, max(0, f.last[rev].Sub(at)))
		}
	}
	if len(waits) == 0 {
		return nil, fmt.Errorf("no watcher saw any event")
	}
	return waits, nil
}
