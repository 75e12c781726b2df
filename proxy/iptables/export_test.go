package iptables

import (
	"context"

	"bareboat.dev/proxy/plan"
)

// Pending is the batch that a first Apply of set would write.
func Pending(ctx context.Context, a *Applier, set *plan.Set) (string, error) {
	a.want = newState(a.r)
	a.want.update(set, set.Keys())
	if err := a.readLocked(ctx); err != nil {
		return "", err
	}
	batches := a.batchesLocked(true)
	return batches["nat"] + batches["filter"], nil
}
