package etcd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"bareboat.dev/apiserver/storage"
)

const (
	// groupCommits is how many commits share a transaction at most, and groupOps how many ops one of them may have. etcd bounds the
	// ops of a transaction, 128 by default, and those of a transaction in it by what the outer one leaves; and places are
	// fewer than 128.
	groupCommits = 100
	groupOps     = 16
	// flights is how many shared transactions are under way at once. The second leaves only where it is no waste: while the first
	// has at most few commits, so that a handful of writers do not wait for each other, or with at least many, so that it is
	// worth a request of its own. A commit costs etcd 450 µs of CPU alone, 60 among 16, 40 among 64.
	flights, few, many = 2, 4, 32
	// slow is how long a transaction may take until it no longer counts as one of the flights: a member that hangs holds up
	// what was sent to it, not what comes after.
	slow = 100 * time.Millisecond
)

// waiting is a commit on its way through the group.
type waiting struct {
	ops   []storage.Op
	bytes int
	// flight is the transaction that the commit is part of, nil as long as it waits; guarded by the group.
	flight *flight
	// gone: nobody waits for it any more, or it was answered; guarded by the group.
	gone bool
	done chan struct{}
	rev  storage.Revision
	err  error
}

// flight is a transaction under way. It ends when nobody waits for it any more.
type flight struct {
	ctx      context.Context
	cancel   context.CancelFunc
	commits  []*waiting
	audience int
}

// group has commits that come at the same time share transactions: independent conditional puts, each with its own conditions and
// outcome, cost etcd one proposal, one entry in its log and one sync. A commit that comes alone goes out at once and alone.
type group struct {
	engine *Engine
	mu     sync.Mutex
	queue  []*waiting
	// flying is how many flights are under way, or boarding, and airborne how many commits are on them.
	flying, airborne int
	// single says that this etcd allows no large transactions.
	single bool
	// closed: no flight begins any more.
	closed  bool
	running sync.WaitGroup
}

// close lets no flight begin any more and waits until every one has landed, which the engine's end makes them do.
func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.running.Wait()
}

// shareable reports whether a commit may share a transaction: its place must be kept with what it puts, and a deletion has
// nothing to keep it with.
func shareable(ops []storage.Op) bool {
	return len(ops) <= groupOps && !slices.ContainsFunc(ops, func(op storage.Op) bool {
		return op.Type == storage.Delete || op.Type == storage.Put && !placeable(op.Value)
	})
}

// enqueue has ops leave with the next flight.
func (g *group) enqueue(ops []storage.Op) *waiting {
	w := &waiting{ops: ops, bytes: weight(ops), done: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, w)
	g.departLocked()
	return w
}

// outcome waits for that of a commit.
func (g *group) outcome(ctx context.Context, w *waiting) (storage.Revision, error) {
	select {
	case <-w.done:
		return w.rev, w.err
	case <-ctx.Done():
		return g.abandon(w, ctx.Err())
	case <-g.engine.ctx.Done():
		return g.abandon(w, storage.ErrClosed)
	}
}

// weight is what the ops take of a request.
func weight(ops []storage.Op) int {
	n := 0
	for _, op := range ops {
		n += storage.OpBytes + 3*len(op.Key) + len(op.Value)
	}
	return n
}

// abandon is the answer to a commit that nobody waits for any more. What has not been sent has not happened, and what was
// answered meanwhile has its outcome.
func (g *group) abandon(w *waiting, why error) (storage.Revision, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.done:
		return w.rev, w.err
	default:
	}
	if w.flight == nil {
		g.queue = slices.DeleteFunc(g.queue, func(other *waiting) bool { return other == w })
		return 0, why
	}
	w.leaveLocked()
	return 0, fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, why)
}

// leaveLocked has one less wait for the flight that the commit is part of.
func (w *waiting) leaveLocked() {
	if w.gone || w.flight == nil {
		return
	}
	w.gone = true
	if w.flight.audience--; w.flight.audience == 0 {
		w.flight.cancel()
	}
}

// departLocked begins a flight if something waits and one may leave.
func (g *group) departLocked() {
	worth := g.flying == 0 || g.flying < flights && (g.airborne <= few || len(g.queue) >= many)
	if len(g.queue) > 0 && worth && !g.closed {
		g.flying++
		g.running.Add(1)
		go g.fly()
	}
}

// board takes what waits onto a flight; it may have been given up meanwhile. It lets other goroutines run first, as long as that
// brings something: those that are about to commit do so now, and a transaction costs more than the look.
func (g *group) board() *flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	for looked := 0; looked < len(g.queue) && len(g.queue) < groupCommits; {
		looked = len(g.queue)
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	f := &flight{}
	if len(g.queue) == 0 {
		return f
	}
	f.commits = g.takeLocked()
	f.ctx, f.cancel = context.WithCancel(g.engine.ctx)
	f.audience = len(f.commits)
	g.airborne += f.audience
	for _, w := range f.commits {
		w.flight = f
	}
	g.departLocked()
	return f
}

// takeLocked takes commits off the queue that can share a transaction: no key that one of them changes is named by another. The first
// always goes.
func (g *group) takeLocked() []*waiting {
	if len(g.queue) == 1 || g.single {
		first := g.queue[:1:1]
		g.queue = g.queue[1:]
		return first
	}
	var taken, left []*waiting
	changed, bytes := make(map[string]bool, len(g.queue)), 0 // of the keys that are named
	for _, w := range g.queue {
		if len(taken) == groupCommits || len(taken) > 0 && bytes+w.bytes > storage.MaxCommitBytes || disturbs(changed, w.ops) {
			left = append(left, w)
			continue
		}
		for _, op := range w.ops {
			changed[op.Key] = op.Type != storage.Check
		}
		bytes += w.bytes
		taken = append(taken, w)
	}
	g.queue = left
	return taken
}

// disturbs reports whether one of the ops changes a key that is named already, or names one that is changed: etcd compares before it changes
// anything.
func disturbs(changed map[string]bool, ops []storage.Op) bool {
	for i := range ops {
		if change, named := changed[ops[i].Key]; named && (change || ops[i].Type != storage.Check) {
			return true
		}
	}
	return false
}

// fly carries a flight out and answers its commits.
func (g *group) fly() {
	defer g.running.Done()
	f := g.board()
	land := sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.flying--
		g.airborne -= len(f.commits)
		g.departLocked()
	})
	defer land()
	if len(f.commits) == 0 {
		return
	}
	defer f.cancel()
	late := time.AfterFunc(slow, land)
	defer late.Stop()
	err := g.engine.share(f.ctx, f.commits)
	if len(f.commits) > 1 && (errors.Is(err, rpctypes.ErrTooManyOps) || errors.Is(err, rpctypes.ErrRequestTooLarge)) {
		g.alone(f, err)
		return
	}
	g.answer(f.commits, err)
}

// alone sends the commits of a refused flight one by one: this etcd has lower limits than the default, or several large
// objects came together.
func (g *group) alone(f *flight, err error) {
	if errors.Is(err, rpctypes.ErrTooManyOps) {
		g.engine.cfg.Log.Warn("etcd allows no transactions that commits can share, its --max-txn-ops is low", "commits", len(f.commits))
		g.mu.Lock()
		g.single = true
		g.mu.Unlock()
	}
	for i := range f.commits {
		one := f.commits[i : i+1]
		g.answer(one, g.engine.share(f.ctx, one))
	}
}

// answer ends the wait for commits. The error, if there is one, is all of theirs.
func (g *group) answer(commits []*waiting, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range commits {
		if err != nil {
			w.err = err
		}
		w.leaveLocked()
		close(w.done)
	}
}

// share makes one transaction of the commits and takes their outcomes out of its answer.
func (e *Engine) share(ctx context.Context, commits []*waiting) error {
	if len(commits) == 1 {
		w := commits[0]
		w.rev, w.err = e.transact(ctx, w.ops)
		return nil
	}
	bytes, ops := 0, 0
	for _, w := range commits {
		bytes, ops = bytes+w.bytes, ops+len(w.ops)
	}
	r := newRequest(bytes, ops)
	for i, w := range commits {
		r.shared(w.ops, placeOf(i, commits))
	}
	a, err := e.txn(ctx, r)
	if err == nil && len(a.parts) != len(commits) {
		err = fmt.Errorf("%d responses to %d commits", len(a.parts), len(commits))
	}
	if err != nil {
		return e.commitFailure(ctx, err)
	}
	for i, w := range commits {
		w.rev, w.err = w.result(&a, i, placeOf(i, commits))
	}
	return nil
}

// result is what the answer to a shared transaction says of the commit, its ith.
func (w *waiting) result(a *answer, i, place int) (storage.Revision, error) {
	part, err := a.shared(i)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: etcd: %w", storage.ErrUnknownOutcome, err)
	case !part.succeeded:
		return 0, conflict(w.ops, &part)
	case changes(w.ops):
		return at(a.revision, place), nil
	}
	return whole(a.revision), nil
}

// placeOf is the place of the ith commit of a flight.
func placeOf(i int, commits []*waiting) int { return lastPlace - (len(commits) - 1 - i) }

// changes reports whether any op is more than a Check.
func changes(ops []storage.Op) bool {
	return slices.ContainsFunc(ops, func(op storage.Op) bool { return op.Type != storage.Check })
}
