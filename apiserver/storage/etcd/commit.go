package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bareboat.dev/apiserver/storage"
)

// Commit implements storage.Engine.
func (e *Engine) Commit(ctx context.Context, ops ...storage.Op) (storage.Revision, error) {
	if err := storage.Validate(ops); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if e.ctx.Err() != nil {
		return 0, storage.ErrClosed
	}
	if shareable(ops) {
		return e.group.outcome(ctx, e.group.enqueue(ops))
	}
	call, cancel := e.bound(ctx)
	defer cancel()
	return e.transact(call, ops)
}

// transact makes a transaction of one commit.
func (e *Engine) transact(ctx context.Context, ops []storage.Op) (storage.Revision, error) {
	r := newRequest(weight(ops), len(ops))
	r.commit(ops, lastPlace)
	a, err := e.txn(ctx, r)
	if err != nil {
		return 0, e.commitFailure(ctx, err)
	}
	if !a.succeeded {
		return 0, conflict(ops, &a)
	}
	return whole(a.revision), nil
}

// txn sends a transaction.
func (e *Engine) txn(ctx context.Context, r request) (answer, error) {
	a, err := e.send(ctx, r)
	if unreceived(err) {
		return a, fmt.Errorf("%w: %w", rpctypes.ErrRequestTooLarge, err)
	}
	return a, clientv3.ContextError(ctx, err)
}

// unreceived reports whether gRPC itself refused a request for its size: etcd lets it take 512 KiB more than --max-request-bytes. It has
// no code of its own, and a response is never refused.
func unreceived(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "message larger than max")
}

// comparison is a condition in etcd's terms: how the revision of a key's last change compares with another.
type comparison struct {
	how etcdserverpb.Compare_CompareResult
	rev int64
}

// compare is an op's condition; false if it has none. storage.Op.Holds is the same in Go.
func compare(op *storage.Op) (comparison, bool) {
	never := comparison{etcdserverpb.Compare_LESS, 0} // as no key has a negative revision
	switch {
	case op.If == storage.Absent && op.Type == storage.Delete:
		return never, true // what is absent cannot be deleted
	case op.If == storage.Absent:
		return comparison{etcdserverpb.Compare_EQUAL, 0}, true
	case op.If == storage.Present || op.If == storage.None && op.Type == storage.Delete:
		return comparison{etcdserverpb.Compare_GREATER, 0}, true
	case op.If == storage.None:
		return comparison{}, false
	}
	main, _ := split(storage.Revision(op.If))
	if main == 1 {
		return never, true // nothing was written then
	}
	// A transaction writes a key once at most, so its place adds nothing to its revision.
	return comparison{etcdserverpb.Compare_EQUAL, main}, true
}

// conflict finds the op whose condition did not hold in what the transaction read instead.
func conflict(ops []storage.Op, a *answer) error {
	i := 0
	for j := range ops {
		if _, ok := compare(&ops[j]); !ok {
			continue
		}
		current, err := a.found(i)
		if err != nil {
			return fmt.Errorf("%w: what etcd says of a condition that does not hold: %w", storage.ErrUnavailable, err)
		}
		if !ops[j].Holds(current) {
			return &storage.ConflictError{Key: ops[j].Key, Current: current}
		}
		i++
	}
	return fmt.Errorf("%w: etcd refused a transaction whose conditions hold", storage.ErrUnavailable)
}

// commitFailure says whether a commit that failed can have happened.
func (e *Engine) commitFailure(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: etcd: %w", storage.ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		// It says so both of what it refuses and of what it has applied and was over the quota with.
		return fmt.Errorf("%w: etcd has reached its quota: compact and defragment it, then disarm the alarm: %w", storage.ErrUnknownOutcome, err)
	case definite(err):
		return fmt.Errorf("%w: etcd: %w", storage.ErrUnavailable, err)
	case e.ctx.Err() != nil:
		return fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, storage.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", storage.ErrUnknownOutcome, ctx.Err())
	}
	return fmt.Errorf("%w: etcd: %w", storage.ErrUnknownOutcome, err)
}

// definite reports whether a failed commit has certainly not happened: the server refused it before it was proposed.
func definite(err error) bool {
	for _, refused := range []error{rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyRequests, rpctypes.ErrNoLeader, rpctypes.ErrPermissionDenied,
		rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken, rpctypes.ErrTooManyOps} {
		if errors.Is(err, refused) {
			return true
		}
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return false
}
