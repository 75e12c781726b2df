package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
)

// batchWorkers is how many operations of a batch run at once. The store commits concurrent writes together, so this is
// also the size of its group commits when one batch is all there is.
const batchWorkers = 128

// Batch runs independent requests and returns one result or error for each, in order.
func (p *Pipeline) Batch(ctx context.Context, requests []*Request) ([]*Result, []error) {
	results, errs := make([]*Result, len(requests)), make([]error, len(requests))
	each(len(requests), batchWorkers, func(i int) { results[i], errs[i] = p.Do(ctx, requests[i]) })
	return results, errs
}

// each calls do for 0 to n-1 from at most the given number of goroutines and returns when all calls have.
func each(n, workers int, do func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, workers) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}
