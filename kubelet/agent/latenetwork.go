package agent

import (
	"context"
	"sync"
)

// LateNetwork is the pod network, which exists once the node's pod range is known. Make one with NewLateNetwork.
type LateNetwork struct {
	once  sync.Once
	ready chan struct{}
	n     Network
}

// NewLateNetwork makes one that is not there yet.
func NewLateNetwork() *LateNetwork { return &LateNetwork{ready: make(chan struct{})} }

// Set gives it. Only the first call counts.
func (l *LateNetwork) Set(n Network) {
	l.once.Do(func() {
		l.n = n
		close(l.ready)
	})
}

// Wait waits until it is there.
func (l *LateNetwork) Wait(ctx context.Context) (Network, error) {
	select {
	case <-l.ready:
		return l.n, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Get returns it, or nil if it is not there yet.
func (l *LateNetwork) Get() Network {
	select {
	case <-l.ready:
		return l.n
	default:
		return nil
	}
}
