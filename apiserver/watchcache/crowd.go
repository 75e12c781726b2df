package watchcache

import (
	"runtime"
	"sync"
)

// crowdStep is how many cursors are woken at a time. Thousands at once would queue up in front of everything else that the process has
// to do: with 3 µs each, a request that passes from goroutine to goroutine would wait 15 ms for 5,000 of them at each step; behind 64 it
// waits 0.2 ms. The cursors of one connection are mostly next to each other, so that their messages still leave together.
const crowdStep = 64

// crowd wakes many cursors without getting in the way of others.
type crowd struct {
	mu sync.Mutex
	// queue has each cursor at most twice: one that is in it waits in no channel before it has been woken or has called again.
	queue   []*Cursor
	running bool
	done    sync.WaitGroup
}

// wake wakes the cursors, few at once, many by and by.
func (w *crowd) wake(cursors []*Cursor) {
	if len(cursors) <= crowdStep {
		for _, c := range cursors {
			c.signal()
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, cursors...)
	if !w.running {
		w.running = true
		w.done.Add(1)
		go w.run()
	}
}

func (w *crowd) run() {
	defer w.done.Done()
	for {
		w.mu.Lock()
		n := min(crowdStep, len(w.queue))
		step := w.queue[:n]
		w.queue = w.queue[n:]
		if n == 0 {
			w.queue, w.running = nil, false
		}
		w.mu.Unlock()
		if n == 0 {
			return
		}
		for _, c := range step {
			c.signal()
		}
		runtime.Gosched()
	}
}
