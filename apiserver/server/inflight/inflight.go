// Package inflight bounds how many requests the server works on at once, so that a flood costs its senders time and not the
// server its memory. Reads and writes have separate bounds, as kube-apiserver's --max-requests-inflight and
// --max-mutating-requests-inflight. What lives long has bounds of its own, so that neither can starve the other: watches, and
// streams into nodes (logs, terminals, forwarded ports, proxied requests).
package inflight

import (
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Kind is what a request is counted as.
type Kind int

// The kinds.
const (
	Read Kind = iota
	Write
	Watch
	Stream
	kinds
)

const (
	// DefaultReads and DefaultWrites are Kubernetes' defaults. A request holds at most its body and its answer, 3 MiB each, so
	// 600 of them at once are bounded by 3.6 GiB and in practice take a few MiB.
	DefaultReads  = 400
	DefaultWrites = 200
	// DefaultWatches: a node's daemons hold about 25 watches, so this is enough for 4,000 nodes on one server. At 20 KiB each
	// that is 2 GiB at most.
	DefaultWatches = 100_000
	// DefaultStreams: a stream holds two buffers of 32 KiB and gRPC's windows of 64 KiB on either side, about 256 KiB, so these
	// are bounded by 512 MiB.
	DefaultStreams = 2000
	// RequestTimeout bounds requests that are not streams, as kube-apiserver's --request-timeout: whatever the store does, a
	// request ends and gives its place back.
	RequestTimeout = 60 * time.Second
	// retryAfter is how many seconds a refused client is told to wait.
	retryAfter = 1
)

// Limits are the bounds; 0 means none.
type Limits struct{ Reads, Writes, Watches, Streams int }

// Limiter counts requests under way.
type Limiter struct {
	now [kinds]atomic.Int64
	max [kinds]int64
}

// New returns a limiter.
func New(l Limits) *Limiter {
	return &Limiter{max: [kinds]int64{Read: int64(l.Reads), Write: int64(l.Writes), Watch: int64(l.Watches), Stream: int64(l.Streams)}}
}

// Enter admits a request and returns what to call once when it ends, or TooManyRequests. Whoever is exempt is counted and never
// refused: an administrator must get in when a flood fills the house.
func (l *Limiter) Enter(k Kind, exempt bool) (leave func(), err error) {
	n, limit := &l.now[k], l.max[k]
	if now := n.Add(1); limit > 0 && now > limit && !exempt {
		n.Add(-1)
		return nil, apierrors.NewTooManyRequests("Too many requests, please try again later.", retryAfter)
	}
	return func() { n.Add(-1) }, nil
}

// Count returns how many requests of a kind are under way.
func (l *Limiter) Count(k Kind) int64 { return l.now[k].Load() }
