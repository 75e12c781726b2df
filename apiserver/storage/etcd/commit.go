package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
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
	r, err := e.txn(ctx, translate(ops, lastPlace))
	if err != nil {
		return 0, e.commitFailure(ctx, err)
	}
	if !r.Succeeded {
		return 0, conflict(ops, r.Responses)
	}
	return whole(r.Header.Revision), nil
}

// txn sends a transaction. It is put together here, from the messages of etcd's API: the client's own way to it copies each value
// three times.
func (e *Engine) txn(ctx context.Context, r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	resp, err := e.kv.Txn(ctx, r, grpc.MaxCallSendMsgSize(sendBytes), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if unreceived(err) {
		return nil, fmt.Errorf("%w: %w", rpctypes.ErrRequestTooLarge, err)
	}
	return resp, clientv3.ContextError(ctx, err)
}

// unreceived reports whether gRPC itself refused a request for its size: etcd lets it take 512 KiB more than --max-request-bytes. It has
// no code of its own, and a response is never refused.
func unreceived(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "message larger than max")
}

// translate makes a transaction: what to compare, what to do, and what to read if a comparison fails.
func translate(ops []storage.Op, at int) *etcdserverpb.TxnRequest {
	r := &etcdserverpb.TxnRequest{}
	for _, op := range ops {
		key := []byte(op.Key)
		if c, ok := compare(op, key); ok {
			r.Compare = append(r.Compare, c)
			r.Failure = append(r.Failure, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{
				RequestRange: &etcdserverpb.RangeRequest{Key: key},
			}})
		}
		switch op.Type {
		case storage.Put:
			r.Success = append(r.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{
				RequestPut: &etcdserverpb.PutRequest{Key: key, Value: place(op.Value, at)},
			}})
		case storage.Delete:
			r.Success = append(r.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: key},
			}})
		}
	}
	return r
}

// compare is an op's condition; false if it has none. storage.Op.Holds is the same in Go.
func compare(op storage.Op, key []byte) (*etcdserverpb.Compare, bool) {
	modified := func(how etcdserverpb.Compare_CompareResult, rev int64) (*etcdserverpb.Compare, bool) {
		return &etcdserverpb.Compare{
			Key: key, Target: etcdserverpb.Compare_MOD, Result: how, TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: rev},
		}, true
	}
	switch {
	case op.If == storage.Absent && op.Type == storage.Delete:
		// Never true, as a key has no negative revision: what is absent cannot be deleted.
		return modified(etcdserverpb.Compare_LESS, 0)
	case op.If == storage.Absent:
		return modified(etcdserverpb.Compare_EQUAL, 0)
	case op.If == storage.Present || op.If == storage.None && op.Type == storage.Delete:
		return modified(etcdserverpb.Compare_GREATER, 0)
	case op.If == storage.None:
		return nil, false
	}
	main, _ := split(storage.Revision(op.If))
	if main == 1 {
		return modified(etcdserverpb.Compare_LESS, 0) // nothing was written then
	}
	// A transaction writes a key once at most, so its place adds nothing to its revision.
	return modified(etcdserverpb.Compare_EQUAL, main)
}

// conflict finds the op whose condition did not hold in what the transaction read instead.
func conflict(ops []storage.Op, reads []*etcdserverpb.ResponseOp) error {
	i := 0
	for _, op := range ops {
		if _, ok := compare(op, nil); !ok {
			continue
		}
		var current *storage.Entry
		if kvs := reads[i].GetResponseRange().Kvs; len(kvs) > 0 {
			found := entry(kvs[0])
			current = &found
		}
		if !op.Holds(current) {
			return &storage.ConflictError{Key: op.Key, Current: current}
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
