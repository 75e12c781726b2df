package server

import (
	"context"
	"time"

	"bareboat.dev/apiserver/storage"
)

// compactEvery is how often history is forgotten. What is forgotten is at least as old, so clients that lose their connection
// for five minutes can still resume, as with kube-apiserver's --etcd-compaction-interval.
const compactEvery = 5 * time.Minute

// compact forgets, each time, the history before the revision of the time before.
func (s *Server) compact(ctx context.Context) error {
	var before storage.Revision
	tick := time.NewTicker(compactEvery)
	defer tick.Stop()
	for {
		now, err := s.cfg.Engine.Current(ctx)
		if err == nil && before > 0 {
			if err = s.cfg.Engine.Compact(ctx, before); err == nil {
				s.feed.Forget(before)
			}
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("compacting the store failed", "error", err)
		} else {
			before = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
