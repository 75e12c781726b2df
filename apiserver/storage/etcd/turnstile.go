package etcd

import (
	"context"
	"sync"

	"bareboat.dev/apiserver/storage"
)

// turnstile lets callers that come while a read is under way share the next one.
type turnstile struct {
	read func(context.Context) (storage.Revision, error)

	mu      sync.Mutex
	running bool
	next    *shared
}

// shared is one read for several callers.
type shared struct {
	done chan struct{}
	rev  storage.Revision
	err  error
}

// get waits for a read that starts after the call. life is what the read is made under, so that one caller's end does not
// fail the others.
func (t *turnstile) get(ctx, life context.Context) (storage.Revision, error) {
	t.mu.Lock()
	s := t.next
	if s == nil {
		s = &shared{done: make(chan struct{})}
		t.next = s
	}
	if !t.running {
		t.running = true
		go t.run(life)
	}
	t.mu.Unlock()
	select {
	case <-s.done:
		return s.rev, s.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run makes reads as long as anybody waits.
func (t *turnstile) run(life context.Context) {
	for {
		t.mu.Lock()
		s := t.next
		t.next = nil
		if s == nil {
			t.running = false
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		s.rev, s.err = t.read(life)
		close(s.done)
	}
}
