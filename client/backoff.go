package client

import (
	"cmp"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

const (
	// retryBase is the longest first pause after a failure: an endpoint that went away is usually replaced by another at once.
	retryBase = 50 * time.Millisecond
	// retryMax is the longest pause: with it a thousand kubelets that wait for a server knock 200 times a second.
	retryMax = 5 * time.Second
)

// Backoff spaces repeated attempts: the n-th pause is drawn evenly from (0, min(50 ms·2ⁿ, Most)], so that many clients that lost the
// same server do not come back in step, and one that came a moment too early has not long to wait.
type Backoff struct {
	// Most is the longest pause; 0 means 5 s.
	Most     time.Duration
	failures int
}

// Next is how long to wait after one more failure.
func (b *Backoff) Next() time.Duration {
	most := cmp.Or(b.Most, retryMax)
	ceiling := most
	if b.failures < 16 {
		ceiling = min(retryBase<<b.failures, most)
	}
	b.failures++
	return rand.N(ceiling) + 1
}

// Reset is for an attempt that went well.
func (b *Backoff) Reset() { b.failures = 0 }

func connectParams() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           grpcbackoff.Config{BaseDelay: connectBackoffBase, Multiplier: 2, Jitter: 0.2, MaxDelay: connectBackoffMax},
		MinConnectTimeout: connectTimeout,
	}
}
