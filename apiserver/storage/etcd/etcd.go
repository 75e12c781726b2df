// Package etcd is the storage engine for several API servers: the keys and values are in an etcd cluster, as they are, so
// that the ecosystem's etcd tools read them. A revision is etcd's times 128 and, in the low bits, the place of a commit among
// those that shared its transaction (see revision.go).
//
// Commits are transactions that compare modification revisions; those that come at the same time share one. Reads at Latest are linearizable. Watches use etcd's own;
// they resume by themselves over a lost connection, and end with ErrUnavailable when the member they are on has lost its
// quorum, so that the caller starts them again elsewhere.
//
// Needs etcd 3.4 or newer. From 3.4.31 and 3.5.13 on, where progress notifications neither overtake events nor get lost
// (https://github.com/etcd-io/etcd/issues/15220 and 17507), Current also brings watchers up to the revision that it returns.
//
//	engine, err := etcd.Open(ctx, etcd.Config{Endpoints: []string{"https://10.0.0.1:2379"}, TLS: tlsConfig, Log: log})
//	defer engine.Close()
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"bareboat.dev/apiserver/storage"
)

const (
	// dialTime bounds finding a first endpoint that answers.
	dialTime = 5 * time.Second
	// aliveTime and aliveWait find a dead connection within 15 s; etcd's server allows a ping every 5 s.
	aliveTime, aliveWait = 10 * time.Second, 5 * time.Second
	// reconnectFirst and reconnectMost bound the wait before a lost connection is tried again: a restarted member is found
	// at once, one that is down is not hammered.
	reconnectFirst, reconnectMost = 50 * time.Millisecond, 3 * time.Second
	// pageKeys is how many entries one response of an unlimited list has: about 4 MiB with objects of 4 KiB.
	pageKeys = 1000
	// sendBytes leaves room for encoding around storage.MaxCommitBytes.
	sendBytes = 2 * storage.MaxCommitBytes
)

// Config says where etcd is.
type Config struct {
	// Endpoints are the members' client URLs.
	Endpoints []string
	// TLS is nil for plain HTTP.
	TLS *tls.Config
	Log *slog.Logger

	// progress overrides what the servers' versions say about progress notifications.
	progress *bool
}

// Engine implements storage.Engine.
type Engine struct {
	cfg    Config
	client *clientv3.Client
	// ctx is the engine's life.
	ctx    context.Context
	cancel context.CancelFunc
	newest turnstile
	prod   prodder
	group  group
}

var _ storage.Engine = (*Engine)(nil)

// Open connects. It fails if no endpoint answers.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints, TLS: cfg.TLS, DialTimeout: dialTime, DialKeepAliveTime: aliveTime, DialKeepAliveTimeout: aliveWait,
		PermitWithoutStream: true, MaxCallSendMsgSize: sendBytes, MaxCallRecvMsgSize: math.MaxInt32, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: dialTime,
			Backoff: backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMost}})},
	})
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w", strings.Join(cfg.Endpoints, ", "), err)
	}
	e := &Engine{cfg: cfg, client: client}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.newest.read = e.readCurrent
	e.group.engine = e
	first, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if _, err := e.readCurrent(first); err != nil {
		e.Close()
		return nil, fmt.Errorf("no etcd answers: %w", cfg.diagnose(err))
	}
	e.prod.enabled = e.ordersProgress(first)
	if cfg.progress != nil {
		e.prod.enabled = *cfg.progress
	}
	return e, nil
}

// Close implements storage.Engine.
func (e *Engine) Close() error {
	if e.ctx.Err() != nil {
		return nil
	}
	e.cancel()
	e.prod.close()
	e.group.close()
	if err := e.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// bound returns a context that also ends with the engine.
func (e *Engine) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// failure says in the interface's terms why a read failed.
func (e *Engine) failure(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case e.ctx.Err() != nil:
		return storage.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, rpctypes.ErrCompacted):
		return storage.ErrCompacted
	case errors.Is(err, rpctypes.ErrFutureRev):
		return storage.ErrFuture
	}
	return fmt.Errorf("%w: etcd: %w", storage.ErrUnavailable, err)
}

// Count implements storage.Engine.
func (e *Engine) Count(ctx context.Context, prefix string) (int64, error) {
	call, cancel := e.bound(ctx)
	defer cancel()
	r, err := e.client.Get(call, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, e.failure(ctx, err)
	}
	return r.Count, nil
}

// Current implements storage.Engine. Callers at the same time share a read that starts after each of them has called.
func (e *Engine) Current(ctx context.Context) (storage.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	rev, err := e.newest.get(ctx, e.ctx)
	if err != nil {
		return 0, e.failure(ctx, err)
	}
	e.prod.reach(e, rev)
	return rev, nil
}

// readCurrent makes a linearizable read of as little as possible.
func (e *Engine) readCurrent(ctx context.Context) (storage.Revision, error) {
	r, err := e.client.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return whole(r.Header.Revision), nil
}

// readable fails if the state at a revision cannot be read, or that of etcd's revision before it, if it needs that.
func (e *Engine) readable(ctx context.Context, rev storage.Revision) error {
	main, _ := split(rev)
	_, err := e.client.Get(ctx, "\x00", clientv3.WithRev(main), clientv3.WithCountOnly())
	if err == nil && base(rev) != main {
		_, err = e.client.Get(ctx, "\x00", clientv3.WithRev(base(rev)), clientv3.WithCountOnly())
	}
	return err
}

// Stride implements watchcache.Strider.
func (e *Engine) Stride() storage.Revision { return stride }

// Compact implements storage.Engine.
func (e *Engine) Compact(ctx context.Context, before storage.Revision) error {
	call, cancel := e.bound(ctx)
	defer cancel()
	if main, _ := split(before); main != base(before) {
		if _, err := e.client.Get(call, "\x00", clientv3.WithRev(main), clientv3.WithCountOnly()); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			return e.failure(ctx, err)
		}
	}
	_, err := e.client.Compact(call, base(before))
	if errors.Is(err, rpctypes.ErrCompacted) && ctx.Err() == nil {
		return nil
	}
	return e.failure(ctx, err)
}
