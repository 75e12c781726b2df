// Package pace lets the garbage collector work less often while the server allocates much, and as usual otherwise: a busy server
// trades memory that it may have for CPU time that its requests need, an idle one stays small.
//
// The collector marks what lives once for each GOGC percent of it that is allocated, so that three times the percentage is a third of
// the marking: 10 to 20 % of the CPU time of a server under load.
//
//	go pace.Run(ctx)
package pace

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// every is how often the pace is looked at: short against the minutes that a load lasts, long against what looking costs (5 µs).
	every = time.Second
	// idle is the collector's own default. busy is what it is set to when busyRate is allocated: some 200 requests a second.
	idle, busy = 100, 300
	busyRate   = 8 << 20
	// spare bounds what may lie uncollected beyond the default: with 256 MiB alive, and so at least 512 in use, the collector
	// may leave another 512; with less alive the percentage bounds it.
	spare = 512 << 20
)

// percent is the GOGC for a server that allocates so many bytes a second and has so many alive.
func percent(rate, live uint64) int {
	if rate < busyRate {
		return idle
	}
	return idle + int(min(busy-idle, 100*spare/max(live, 1)))
}

// Run sets the pace until ctx ends, and the default then. If the environment says how often to collect, that stands.
func Run(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	defer debug.SetGCPercent(idle)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	now, before := idle, samples[0].Value.Uint64()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(samples)
		allocated := samples[0].Value.Uint64()
		if want := percent((allocated-before)/uint64(every/time.Second), samples[1].Value.Uint64()); want != now {
			debug.SetGCPercent(want)
			now = want
		}
		before = allocated
	}
}
