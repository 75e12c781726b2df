package client

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// RunAll runs every function at the same time and returns when all have returned. The first error cancels the context of
// the others and is returned.
func RunAll(ctx context.Context, run ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range run {
		g.Go(func() error { return f(ctx) })
	}
	return g.Wait()
}
