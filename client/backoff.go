package client

import (
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

// backoff spaces repeated attempts: the n-th pause is drawn evenly from (0, min(retryBase·2ⁿ, retryMax)], so that many clients
// that lost the same server do not come back in step.
type backoff struct{ failures int }

func (b *backoff) next() time.Duration {
	ceiling := retryMax
	if b.failures < 16 {
		ceiling = min(retryBase<<b.failures, retryMax)
	}
	b.failures++
	return rand.N(ceiling) + 1
}

func (b *backoff) reset() { b.failures = 0 }

func connectParams() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           grpcbackoff.Config{BaseDelay: connectBackoffBase, Multiplier: 2, Jitter: 0.2, MaxDelay: connectBackoffMax},
		MinConnectTimeout: connectTimeout,
	}
}
