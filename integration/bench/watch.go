package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
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

// watchFanOut measures from the acknowledgement of a write to the last of many watchers. The yardstick is a gRPC server that does
// nothing but send the same bytes to as many streams.
func watchFanOut(e *Env) ([]Row, error) {
	s := startServer(e, "")
	before := pss(s.pid)
	request, err := proto.Marshal(&apiv1.WatchRequest{Ref: &apiv1.ResourceRef{Version: "v1", Resource: "configmaps", Namespace: "default"}, SendInitialEvents: true})
	if err != nil {
		return nil, err
	}
	f := newFanOut()
	if err := f.open(func() *generator { return s.generator(e, "h2") }, grpcCall(s.address(), apiv1.ResourceService_Watch_FullMethodName, func(b []byte, _, _ int) []byte { return append(b, request...) })); err != nil {
		return nil, err
	}
	for f.ready.Load() < watchers {
		time.Sleep(10 * time.Millisecond)
	}
	idle := pss(s.pid)
	go s.profile(e, "watch", watchTime)
	used := cpuTime([]int{s.pid})
	maps := client.Of(s.dial(e), client.ConfigMaps())
	last, err := f.write(func(i int) (int64, error) {
		m, err := maps.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("event-%d", i)}})
		if err != nil {
			return 0, err
		}
		return int64(client.RevisionOf(m)), nil
	})
	if err != nil {
		return nil, err
	}
	used = cpuTime([]int{s.pid}) - used
	bare, bareUsed, err := bareFanOut(e, s, f.size())
	if err != nil {
		return nil, err
	}
	each := func(d time.Duration) string {
		return fmt.Sprintf("%.2f µs of CPU a delivery", float64(d.Microseconds())/(watchers*eventRate*watchTime.Seconds()))
	}
	p50, p99 := percentile(last, 0.5), percentile(last, 0.99)
	bare50, bare99 := percentile(bare, 0.5), percentile(bare, 0.99)
	return []Row{
		{"watch, 5,000 watchers, 100 events/s: write acknowledged to last watcher, p50", ms(p50), "bare gRPC streams " + ms(bare50), fmt.Sprintf("%.2f", float64(p50)/float64(bare50)), ""},
		{"the same, p99", ms(p99) + ", server " + each(used), "bare gRPC streams " + ms(bare99) + ", server " + each(bareUsed), fmt.Sprintf("%.2f", float64(p99)/float64(bare99)), "≤ 50 ms"},
		{"memory per idle watcher (server, PSS)", fmt.Sprintf("%.1f KiB", float64(idle-before)/watchers/1024), "", "", "≤ 20 KiB"},
	}, nil
}

// fanOut is many watchers.
type fanOut struct {
	// ready is how many watchers have begun to follow; bytes is the size of the newest message.
	ready atomic.Int64
	bytes atomic.Int64
	conns []*watchConn
	ended sync.WaitGroup
}

// watchConn is the watchers of one connection, all served by one goroutine.
type watchConn struct {
	fan *fanOut
	gen *generator
	// partial are messages that have come in part, by stream, reached the revision of each stream's newest.
	partial map[uint32][]byte
	reached map[uint32]int64
	mu      sync.Mutex
	steps   map[step]arrivals
}

// step is what a message brings its watcher: everything after one revision up to another.
type step struct{ after, upTo int64 }

// arrivals are how many watchers made a step, and when the last one did.
type arrivals struct {
	n    int
	last time.Time
}

func newFanOut() *fanOut { return &fanOut{} }

// open opens the watches. They end with the measurement.
func (f *fanOut) open(dial func() *generator, c call) error {
	for range connections {
		w := &watchConn{fan: f, gen: dial(), partial: map[uint32][]byte{}, reached: map[uint32]int64{}, steps: map[step]arrivals{}}
		w.gen.ok = c.ok
		for range watchers / connections {
			if err := w.gen.send(c.headers, c.body(nil, 0, 0)); err != nil {
				return err
			}
		}
		f.conns = append(f.conns, w)
		f.ended.Go(w.follow)
	}
	return nil
}

func (w *watchConn) follow() {
	for {
		if _, err := w.gen.receive(w.take); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				fmt.Println("watch connection:", err)
			}
			return
		}
	}
}

// take takes a piece of a stream apart into messages.
func (w *watchConn) take(stream uint32, data []byte) {
	if before := w.partial[stream]; len(before) > 0 {
		data = append(before, data...)
		delete(w.partial, stream)
	}
	for len(data) >= 5 {
		n := 5 + int(binary.BigEndian.Uint32(data[1:]))
		if len(data) < n {
			break
		}
		w.message(stream, data[5:n])
		data = data[n:]
	}
	if len(data) > 0 {
		w.partial[stream] = append([]byte(nil), data...)
	}
}

// Field numbers of WatchResponse and its Event.
const (
	fieldEvents, fieldRevision = 1, 2
	fieldType                  = 1
)

// message looks at the parts of a WatchResponse that are counted: its revision, and whether it ends the initial events.
func (w *watchConn) message(stream uint32, m []byte) {
	size := len(m)
	var revision int64
	events := 0
	for len(m) > 0 {
		num, typ, n := protowire.ConsumeTag(m)
		if n < 0 {
			return
		}
		m = m[n:]
		switch {
		case num == fieldRevision && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(m)
			revision, m = int64(v), m[max(n, 0):]
			continue
		case num == fieldEvents && typ == protowire.BytesType:
			v, n := protowire.ConsumeBytes(m)
			if n < 0 {
				return
			}
			if isBookmark(v) {
				w.fan.ready.Add(1)
			} else {
				events++
			}
			m = m[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, m); n < 0 {
			return
		}
		m = m[n:]
	}
	k := step{w.reached[stream], revision}
	w.reached[stream] = revision
	if events == 0 {
		return
	}
	w.fan.bytes.Store(int64(size / events))
	w.mu.Lock()
	w.steps[k] = arrivals{w.steps[k].n + 1, time.Now()}
	w.mu.Unlock()
}

// isBookmark reports whether an Event begins with the type of a bookmark.
func isBookmark(event []byte) bool {
	return len(event) >= 2 && event[0] == fieldType<<3 && event[1] == byte(apiv1.Event_TYPE_BOOKMARK)
}

// size is about what one event takes in a message.
func (f *fanOut) size() int { return int(f.bytes.Load()) }

// write makes events at the given rate and returns, for each, how long the last watcher waited after the write was acknowledged. A
// watcher that is behind gets several events in one message, which carries the newest's revision: it has then seen all of them.
func (f *fanOut) write(one func(i int) (revision int64, err error)) ([]time.Duration, error) {
	n := int(watchTime.Seconds()) * eventRate
	revisions, acknowledged := make([]int64, n), make([]time.Time, n)
	var group errgroup.Group
	tick := time.NewTicker(time.Second / eventRate)
	defer tick.Stop()
	for i := range n {
		<-tick.C
		// The rate is kept whatever a write takes.
		group.Go(func() (err error) {
			revisions[i], err = one(i)
			acknowledged[i] = time.Now()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second) // the last events' way to the last watcher
	var waits []time.Duration
	for i, rev := range revisions {
		n, at := f.arrived(rev)
		if n < watchers {
			return nil, fmt.Errorf("event %d reached %d of %d watchers", i, n, watchers)
		}
		waits = append(waits, max(0, at.Sub(acknowledged[i])))
	}
	return waits, nil
}

// arrived returns how many watchers a revision has reached, and when it reached the last.
func (f *fanOut) arrived(rev int64) (n int, last time.Time) {
	for _, w := range f.conns {
		w.mu.Lock()
		for k, a := range w.steps {
			if k.after < rev && rev <= k.upTo {
				n += a.n
				if a.last.After(last) {
					last = a.last
				}
			}
		}
		w.mu.Unlock()
	}
	return n, last
}
