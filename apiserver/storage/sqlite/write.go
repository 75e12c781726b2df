package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/internal/mvcc"
)

const (
	// groupRequests and groupBytes bound one transaction, so that a flood of commits is answered in steps of a few
	// milliseconds.
	groupRequests = 512
	groupBytes    = 8 << 20
)

// request is a commit, or a step of a compaction, on its way through the writer.
type request struct {
	ops []storage.Op
	// delete are rows to remove; compacted, if not 0, is the compaction to note.
	delete    []int64
	compacted storage.Revision

	rev      storage.Revision
	conflict *conflict
	err      error
	done     chan struct{}
}

// conflict is the first op whose condition did not hold, and the key's version.
type conflict struct {
	key     string
	version mvcc.Version[struct{}]
	exists  bool
}

// Commit implements storage.Engine.
func (e *Engine) Commit(ctx context.Context, ops ...storage.Op) (storage.Revision, error) {
	if err := storage.Validate(ops); err != nil {
		return 0, err
	}
	r := &request{ops: ops, done: make(chan struct{})}
	if err := e.submit(ctx, r); err != nil {
		return 0, err
	}
	if r.conflict != nil {
		return 0, e.conflictError(ctx, r.conflict)
	}
	return r.rev, r.err
}

// submit hands a request to the writer and waits for its outcome.
func (e *Engine) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-e.closing:
		return storage.ErrClosed
	default:
	}
	select {
	case e.requests <- r:
	case <-e.closing:
		return storage.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return nil
	case <-e.written:
		select {
		case <-r.done:
			return nil
		default:
			return storage.ErrClosed
		}
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, ctx.Err())
	}
}

// conflictError fetches the entry that a commit conflicted with. If it has been compacted away since, the key's newest
// entry stands in for it.
func (e *Engine) conflictError(ctx context.Context, c *conflict) error {
	if !c.exists {
		return &storage.ConflictError{Key: c.key}
	}
	value, err := e.value(ctx, c.version)
	if err == nil {
		entry := found{c.key, c.version}.entry(value)
		return &storage.ConflictError{Key: c.key, Current: &entry}
	}
	if !errors.Is(err, errGone) {
		return err
	}
	entry, _, err := e.Get(ctx, c.key, storage.Latest)
	if errors.Is(err, storage.ErrNotFound) {
		return &storage.ConflictError{Key: c.key}
	}
	if err != nil {
		return err
	}
	return &storage.ConflictError{Key: c.key, Current: &entry}
}

// write is the goroutine that commits.
func (e *Engine) write() {
	defer e.closed.Done()
	defer close(e.written)
	for {
		select {
		case <-e.closing:
			return
		default:
		}
		select {
		case r := <-e.requests:
			e.group(e.gather(r))
		case <-e.closing:
			return
		}
	}
}

// gather takes what else waits. When nothing does it lets other goroutines run and looks again, as long as that brings
// something: those that the last group has just answered are about to commit again, and a sync costs more than the look.
func (e *Engine) gather(first *request) []*request {
	group, bytes, looked := []*request{first}, 0, 0
	for len(group) < groupRequests && bytes < groupBytes {
		select {
		case r := <-e.requests:
			group = append(group, r)
			for _, op := range r.ops {
				bytes += len(op.Value)
			}
			continue
		default:
		}
		if looked == len(group) {
			break
		}
		looked = len(group)
		runtime.Gosched()
	}
	return group
}

// group decides and commits some requests in one transaction and answers them.
func (e *Engine) group(group []*request) {
	events, rev := e.decide(group)
	err := e.writer.commit(events, group)
	e.mu.Lock()
	if err != nil {
		for _, event := range events {
			e.index.Rollback(event.Entry.Key, e.visible)
		}
	} else {
		e.visible = rev
		for _, r := range group {
			if r.compacted > e.compacted {
				e.compacted = r.compacted
				e.log.Compact(r.compacted)
			}
		}
		if len(events) > 0 {
			e.log.Append(rev, events)
		}
	}
	e.mu.Unlock()
	for _, r := range group {
		if err != nil {
			r.err, r.conflict = e.writeError(err), nil
		}
		close(r.done)
	}
}

// decide checks the conditions of each request, in order, and enters those that hold into the index, where they stay
// invisible until they are durable.
func (e *Engine) decide(group []*request) (events []storage.Event, rev storage.Revision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rev = e.visible
	for _, r := range group {
		if op, v, exists := e.index.Failing(r.ops, rev); op != nil {
			r.conflict = &conflict{key: op.Key, version: v, exists: exists}
			continue
		}
		if mvcc.Changes(r.ops) {
			rev++
			events = e.index.Apply(rev, r.ops, func([]byte) struct{} { return struct{}{} }, events)
		}
		r.rev = rev
	}
	return events, rev
}

// writeError says what a failed transaction means to those who wait for it.
func (e *Engine) writeError(err error) error {
	switch {
	case errors.Is(err, errFailed):
		return fmt.Errorf("%w: an earlier write to %s failed and nothing is written any more: check the disk, then restart the server", storage.ErrUnavailable, e.cfg.Path)
	case diskFull(err):
		return fmt.Errorf("%w: no space left for %s: free some on its disk: %w", storage.ErrUnavailable, e.cfg.Path, err)
	case errors.Is(err, storage.ErrUnknownOutcome):
		return fmt.Errorf("write %s: %w", e.cfg.Path, err)
	}
	return fmt.Errorf("%w: write %s: %w", storage.ErrUnavailable, e.cfg.Path, err)
}
