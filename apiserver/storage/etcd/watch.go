package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bareboat.dev/apiserver/storage"
)

// progressEvery is how often progress is asked for while a watcher is behind a revision that Current has returned. A member
// answers only when its watchers have caught up.
const progressEvery = 100 * time.Millisecond

// watcher implements storage.Watcher.
type watcher struct {
	engine    *Engine
	responses clientv3.WatchChan
	cancel    context.CancelFunc
	done      chan struct{}
	once      sync.Once
	// seen is the revision of the newest batch.
	seen atomic.Int64
	// start is at least the revision watched from; what is between them has no events.
	start storage.Revision
	err   error
}

// Watch implements storage.Engine.
func (e *Engine) Watch(ctx context.Context, prefix string, from storage.Revision) (storage.Watcher, error) {
	if from == storage.Latest {
		var err error
		if from, err = e.Current(ctx); err != nil {
			return nil, err
		}
	}
	life, cancel := context.WithCancel(clientv3.WithRequireLeader(e.ctx))
	w := &watcher{engine: e, cancel: cancel, done: make(chan struct{}), start: max(from, whole(base(from)))}
	w.seen.Store(int64(from))
	// Of a transaction that was not through, the watch delivers what is left.
	opts := []clientv3.OpOption{clientv3.WithRev(base(from) + 1), clientv3.WithProgressNotify(), clientv3.WithFragment(), clientv3.WithCreatedNotify()}
	if prefix == "" {
		prefix = "\x00"
		opts = append(opts, clientv3.WithFromKey())
	} else {
		opts = append(opts, clientv3.WithPrefix())
	}
	w.responses = e.client.Watch(life, prefix, opts...)
	if err := w.created(ctx, from); err != nil {
		w.Close()
		return nil, err
	}
	e.prod.add(w)
	return w, nil
}

// created waits for the server to have made the watch, and checks that the revision is one to watch from. etcd itself
// would wait for a future one, and starts at the very revision of a compaction, whose deletions it may have lost.
func (w *watcher) created(ctx context.Context, from storage.Revision) error {
	select {
	case r, ok := <-w.responses:
		if !ok {
			return w.ended()
		}
		if err := r.Err(); err != nil {
			return w.failure(err)
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-w.engine.ctx.Done():
		return storage.ErrClosed
	}
	return w.engine.failure(ctx, w.engine.readable(ctx, from))
}

// Close implements storage.Watcher.
func (w *watcher) Close() {
	w.once.Do(func() {
		close(w.done)
		w.cancel()
		w.engine.prod.remove(w)
	})
}

// Next implements storage.Watcher.
func (w *watcher) Next(ctx context.Context) (storage.Batch, error) {
	for w.err == nil {
		select {
		case <-w.done:
			w.err = storage.ErrClosed
			continue
		default:
		}
		if err := ctx.Err(); err != nil {
			return storage.Batch{}, err
		}
		if int64(w.start) > w.seen.Load() {
			w.seen.Store(int64(w.start))
			return storage.Batch{Revision: w.start}, nil
		}
		select {
		case r, ok := <-w.responses:
			if !ok {
				w.err = w.ended()
			} else if err := r.Err(); err != nil {
				w.err = w.failure(err)
			} else if batch, ok := w.batch(r); ok {
				return batch, nil
			}
		case <-ctx.Done():
		case <-w.done:
		case <-w.engine.ctx.Done():
			w.err = storage.ErrClosed
		}
	}
	return storage.Batch{}, w.err
}

// ended is why the client has closed the channel of responses.
func (w *watcher) ended() error {
	select {
	case <-w.done:
		return storage.ErrClosed
	case <-w.engine.ctx.Done():
		return storage.ErrClosed
	default:
		return fmt.Errorf("%w: etcd ended the watch", storage.ErrUnavailable)
	}
}

func (w *watcher) failure(err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) {
		return storage.ErrCompacted
	}
	return w.engine.failure(w.engine.ctx, err)
}

// batch translates a response. The client has put fragments together, so it has whole revisions. Its header may be ahead
// of events that are still to come: only a progress notification says that there are none.
func (w *watcher) batch(r clientv3.WatchResponse) (storage.Batch, bool) {
	batch := storage.Batch{}
	switch {
	case r.IsProgressNotify():
		batch.Revision = whole(r.Header.Revision)
	case len(r.Events) > 0:
		batch.Revision = whole(r.Events[len(r.Events)-1].Kv.ModRevision)
		batch.Events = make([]storage.Event, 0, len(r.Events))
		seen := storage.Revision(w.seen.Load())
		for _, e := range r.Events {
			event := storage.Event{Entry: entry(e.Kv)}
			if e.Type == mvccpb.Event_DELETE {
				event.Type, event.Entry.Value, event.Entry.Created = storage.DeleteEvent, nil, 0
			}
			if event.Entry.Modified > seen {
				batch.Events = append(batch.Events, event)
			}
		}
	}
	if int64(batch.Revision) <= w.seen.Load() {
		return batch, false
	}
	w.seen.Store(int64(batch.Revision))
	return batch, true
}

// prodder asks for progress notifications while watchers are behind what Current has returned: other users of the etcd
// cluster make revisions that the watchers see no events of.
type prodder struct {
	running sync.WaitGroup

	mu       sync.Mutex
	enabled  bool
	watchers map[*watcher]struct{}
	target   storage.Revision
	active   bool
}

func (p *prodder) add(w *watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers == nil {
		p.watchers = map[*watcher]struct{}{}
	}
	p.watchers[w] = struct{}{}
}

func (p *prodder) remove(w *watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, w)
}

// behindLocked reports whether a watcher has not seen the target.
func (p *prodder) behindLocked() bool {
	for w := range p.watchers {
		if w.seen.Load() < int64(p.target) {
			return true
		}
	}
	return false
}

// reach has watchers get to a revision.
func (p *prodder) reach(e *Engine, rev storage.Revision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.enabled {
		return
	}
	p.target = max(p.target, rev)
	if !p.active && p.behindLocked() && e.ctx.Err() == nil {
		p.active = true
		p.running.Add(1)
		go p.run(e)
	}
}

// close lets nobody begin to ask any more and waits for who does, which the engine's end stops.
func (p *prodder) close() {
	p.mu.Lock()
	p.enabled = false
	p.mu.Unlock()
	p.running.Wait()
}

// run asks until no watcher is behind. A failure needs no answer: the watch itself notices that the server is gone.
func (p *prodder) run(e *Engine) {
	defer p.running.Done()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		p.mu.Lock()
		p.active = p.behindLocked() && e.ctx.Err() == nil
		active := p.active
		p.mu.Unlock()
		if !active {
			return
		}
		// The notification goes to the stream of the watches, which the client tells by the context's metadata.
		ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(e.ctx), progressEvery)
		e.client.RequestProgress(ctx)
		cancel()
		select {
		case <-ticker.C:
		case <-e.ctx.Done():
		}
	}
}
