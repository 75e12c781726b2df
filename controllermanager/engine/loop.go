package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

const (
	// retryFirst and retryMost bound the back-off of one key: 5 ms doubling to a minute takes 14 failures in a row.
	retryFirst = 5 * time.Millisecond
	retryMost  = time.Minute
	// stepLimit bounds one step with its writes and the wait for mirrors to show them: 30 s is ten times a failover of
	// the API server. A step that takes longer fails and is tried again.
	stepLimit = 30 * time.Second
)

// Step is one call of a controller's core.
type Step struct {
	// Key that was queued; Namespace and Name are its halves, Namespace empty for a cluster-scoped object.
	Key, Namespace, Name string
	// Now is the time the core decides at.
	Now time.Time
	// Last is what the writes of the step before failed with, nil if they went through. It is forgotten by a restart.
	Last error
}

// LoopConfig describes a loop.
type LoopConfig struct {
	// Name of the queue in metrics, upstream's: "replicaset".
	Name string
	// Workers is how many keys are worked on at a time; 0 means 1. Steps of one key never run at the same time.
	Workers int
	// Step reads mirrors and decides. A returned error is logged and the key tried again with back-off.
	Step func(ctx context.Context, s Step) (plan.Plan, error)
	// Every queues EveryKey again and again, for what only the clock reveals. Optional.
	Every    time.Duration
	EveryKey string
}

// Loop is a queue of keys and the workers that step through it.
type Loop struct {
	cfg    LoopConfig
	setup  *Setup
	log    *slog.Logger
	queue  workqueue.TypedRateLimitingInterface[string]
	failed *lastErrors
}

// Loop adds a loop to the engine.
func (s *Setup) Loop(cfg LoopConfig) *Loop {
	l := &Loop{cfg: cfg, setup: s, log: s.Log.With("queue", cfg.Name), failed: newLastErrors()}
	l.queue = workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryMost),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: cfg.Name, MetricsProvider: s.engine.opts.Metrics},
	)
	s.engine.loops = append(s.engine.loops, l)
	return l
}

// Add queues keys.
func (l *Loop) Add(keys ...string) {
	for _, k := range keys {
		l.queue.Add(k)
	}
}

// AddAfter queues a key when d has passed.
func (l *Loop) AddAfter(key string, d time.Duration) { l.queue.AddAfter(key, d) }

// run works until ctx ends.
func (l *Loop) run(ctx context.Context) error {
	work := []func(context.Context) error{func(ctx context.Context) error {
		<-ctx.Done()
		l.queue.ShutDown()
		return nil
	}}
	for range max(l.cfg.Workers, 1) {
		work = append(work, func(ctx context.Context) error {
			for l.next(ctx) {
			}
			return nil
		})
	}
	if l.cfg.Every > 0 {
		work = append(work, l.tick)
	}
	return client.RunAll(ctx, work...)
}

func (l *Loop) tick(ctx context.Context) error {
	ticker := time.NewTicker(l.cfg.Every)
	defer ticker.Stop()
	for {
		l.queue.Add(l.cfg.EveryKey)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (l *Loop) next(ctx context.Context) bool {
	key, shutdown := l.queue.Get()
	if shutdown {
		return false
	}
	defer l.queue.Done(key)
	if ctx.Err() != nil {
		return false
	}
	after, err := l.step(ctx, key)
	l.failed.set(key, err)
	switch {
	case err == nil:
		l.queue.Forget(key)
		if after > 0 {
			l.queue.AddAfter(key, after)
		}
	case ctx.Err() != nil:
		return false
	default:
		l.logFailure(key, err)
		l.queue.AddRateLimited(key)
	}
	return true
}

func (l *Loop) step(ctx context.Context, key string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	s := Step{Key: key, Name: key, Now: time.Now(), Last: l.failed.get(key)}
	if ns, name, ok := strings.Cut(key, "/"); ok {
		s.Namespace, s.Name = ns, name
	}
	p, err := l.cfg.Step(ctx, s)
	if err != nil {
		return 0, err
	}
	return p.After, l.setup.engine.apply(ctx, l.setup.controller, l.log, p)
}

// logFailure logs what went wrong. Losing a race, with another writer or with the mirror, is part of the design.
func (l *Loop) logFailure(key string, err error) {
	if Expected(err) || client.IsUnavailable(err) {
		l.log.Debug("step to be tried again", "key", key, "error", err)
		return
	}
	l.log.Error("step failed", "key", key, "error", err)
}

// Expected reports whether every error in err only says that the view was out of date, or that the namespace is going away.
func Expected(err error) bool {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			if !Expected(e) {
				return false
			}
		}
		return true
	}
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) || errors.Is(err, ErrGuard) ||
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
