package pace

import (
	"context"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// The percentage is the default for an idle server, more for a busy one, and never so much that more than the spare memory is used.
func TestPercent(t *testing.T) {
	for _, tc := range []struct {
		rate, live uint64
		want       int
	}{
		{0, 0, 100}, {busyRate - 1, 50 << 20, 100}, {busyRate, 0, 300}, {busyRate, 50 << 20, 300}, {1 << 30, 256 << 20, 300},
		{1 << 30, 512 << 20, 200}, {1 << 30, 1 << 30, 150}, {1 << 30, 100 << 30, 100},
	} {
		if got := percent(tc.rate, tc.live); got != tc.want {
			t.Errorf("%d bytes a second with %d alive: %d, not %d", tc.rate, tc.live, got, tc.want)
		}
	}
}

// A load is followed, and the collector is as it was when the pace ends.
func TestRun(t *testing.T) {
	t.Setenv("GOGC", "")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			Run(ctx)
			close(done)
		}()
		synctest.Wait()
		var kept [][]byte
		for range 64 {
			kept = append(kept, make([]byte, 1<<20))
		}
		time.Sleep(every + time.Millisecond)
		synctest.Wait()
		if got := set(); got <= idle {
			t.Errorf("busy, and GOGC is %d", got)
		}
		time.Sleep(2 * every)
		synctest.Wait()
		if got := set(); got != idle {
			t.Errorf("idle, and GOGC is %d", got)
		}
		cancel()
		<-done
		if got := set(); got != idle || len(kept) == 0 {
			t.Errorf("after the end GOGC is %d", got)
		}
	})
}

// set returns the percentage that is set.
func set() int {
	now := debug.SetGCPercent(idle)
	debug.SetGCPercent(now)
	return now
}
