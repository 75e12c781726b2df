// Package inflight bounds how many requests the server works on at once, so that a flood costs its senders time and not the
// server its memory. Reads and writes have separate bounds, as kube-apiserver's --max-requests-inflight and
// --max-mutating-requests-inflight; streams that live long (watches, node streams) count only while they start.
package inflight

import (
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Kubernetes' defaults. A request holds at most its body and its answer, 3 MiB each, so 600 of them at once are bounded by
// 3.6 GiB and in practice take a few MiB.
const (
	DefaultReads  = 400
	DefaultWrites = 200
	// RequestTimeout bounds requests that are not streams, as kube-apiserver's --request-timeout: whatever the store does, a
	// request ends and gives its place back.
	RequestTimeout = 60 * time.Second
	// retryAfter is how many seconds a refused client is told to wait.
	retryAfter = 1
)

// Limiter counts requests under way.
type Limiter struct {
	reads, writes       atomic.Int64
	maxReads, maxWrites int64
}

// New returns a limiter; a bound of 0 means none.
func New(maxReads, maxWrites int) *Limiter {
	return &Limiter{maxReads: int64(maxReads), maxWrites: int64(maxWrites)}
}

// Enter admits a request and returns what to call when it ends, or TooManyRequests.
func (l *Limiter) Enter(write bool) (leave func(), err error) {
	n, limit := &l.reads, l.maxReads
	if write {
		n, limit = &l.writes, l.maxWrites
	}
	if now := n.Add(1); limit > 0 && now > limit {
		n.Add(-1)
		return nil, apierrors.NewTooManyRequests("Too many requests, please try again later.", retryAfter)
	}
	return func() { n.Add(-1) }, nil
}

// Counts returns how many reads and writes are under way.
func (l *Limiter) Counts() (reads, writes int64) { return l.reads.Load(), l.writes.Load() }
