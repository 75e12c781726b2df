// Package memory is the storage engine for tests: everything is in the process's memory and lost with it, and its history
// grows until it is compacted. It passes the same suite as the engines that last.
//
//	engine := memory.New()
//	defer engine.Close()
package memory

import (
	"context"
	"fmt"
	"sync"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/internal/mvcc"
)

// Engine implements storage.Engine.
type Engine struct {
	mu        sync.RWMutex
	index     *mvcc.Index[[]byte]
	log       *mvcc.Log
	current   storage.Revision
	compacted storage.Revision
	closed    bool
}

var _ storage.Engine = (*Engine)(nil)

// New returns an empty store.
func New() *Engine {
	return &Engine{index: mvcc.NewIndex[[]byte](), log: mvcc.NewLog(mvcc.First, 0, 0, 0), current: mvcc.First}
}

// readableLocked resolves the revision of a read.
func (e *Engine) readableLocked(ctx context.Context, at storage.Revision) (storage.Revision, error) {
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case e.closed:
		return 0, storage.ErrClosed
	case at == storage.Latest:
		return e.current, nil
	case at > e.current:
		return 0, fmt.Errorf("%w: %d, the newest is %d", storage.ErrFuture, at, e.current)
	case at < e.compacted:
		return 0, fmt.Errorf("%w: %d, the oldest is %d", storage.ErrCompacted, at, e.compacted)
	}
	return at, nil
}

func entry(key string, v mvcc.Version[[]byte]) storage.Entry {
	return storage.Entry{Key: key, Value: v.Value, Created: v.Created, Modified: v.Modified}
}

// Get implements storage.Engine.
func (e *Engine) Get(ctx context.Context, key string, at storage.Revision) (storage.Entry, storage.Revision, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	at, err := e.readableLocked(ctx, at)
	if err != nil {
		return storage.Entry{}, 0, err
	}
	v, ok := e.index.At(key, at)
	if !ok {
		return storage.Entry{}, at, fmt.Errorf("%s: %w", key, storage.ErrNotFound)
	}
	return entry(key, v), at, nil
}

// List implements storage.Engine.
func (e *Engine) List(ctx context.Context, prefix string, opts storage.ListOptions) (storage.ListResult, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	at, err := e.readableLocked(ctx, opts.Revision)
	if err != nil {
		return storage.ListResult{}, err
	}
	result := storage.ListResult{Revision: at}
	e.index.Ascend(prefix, opts.After, at, func(key string, v mvcc.Version[[]byte]) bool {
		if opts.Limit > 0 && len(result.Entries) == opts.Limit {
			result.More = true
			return false
		}
		result.Entries = append(result.Entries, entry(key, v))
		return true
	})
	return result, nil
}

// Count implements storage.Engine.
func (e *Engine) Count(ctx context.Context, prefix string) (int64, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	at, err := e.readableLocked(ctx, storage.Latest)
	if err != nil {
		return 0, err
	}
	var n int64
	e.index.Ascend(prefix, "", at, func(string, mvcc.Version[[]byte]) bool { n++; return true })
	return n, nil
}

// Commit implements storage.Engine.
func (e *Engine) Commit(ctx context.Context, ops ...storage.Op) (storage.Revision, error) {
	if err := storage.Validate(ops); err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	at, err := e.readableLocked(ctx, storage.Latest)
	if err != nil {
		return 0, err
	}
	if op, v, exists := e.index.Failing(ops, at); op != nil {
		conflict := &storage.ConflictError{Key: op.Key}
		if exists {
			current := entry(op.Key, v)
			conflict.Current = &current
		}
		return 0, conflict
	}
	if !mvcc.Changes(ops) {
		return at, nil
	}
	e.current++
	e.log.Append(e.current, e.index.Apply(e.current, ops, func(v []byte) []byte { return v }, nil))
	return e.current, nil
}

// Watch implements storage.Engine.
func (e *Engine) Watch(ctx context.Context, prefix string, from storage.Revision) (storage.Watcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, err := e.log.Watch(prefix, from, nil)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Current implements storage.Engine.
func (e *Engine) Current(ctx context.Context) (storage.Revision, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.readableLocked(ctx, storage.Latest)
}

// Compact implements storage.Engine.
func (e *Engine) Compact(ctx context.Context, before storage.Revision) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.readableLocked(ctx, storage.Latest); err != nil {
		return err
	}
	if before > e.current {
		return fmt.Errorf("%w: %d, the newest is %d", storage.ErrFuture, before, e.current)
	}
	if before > e.compacted {
		e.compacted = before
		e.index.Compact(before, 0)
		e.log.Compact(before)
	}
	return nil
}

// Close implements storage.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.log.Close()
	return nil
}
