package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

// Recorder records events; client/events has one.
type Recorder interface {
	Event(about client.Object, eventType, reason, messageFmt string, args ...any)
}

// Options are what an engine is made of.
type Options struct {
	Client  *client.Client
	Events  Recorder
	Log     *slog.Logger
	Metrics *Metrics
	// Enabled selects controllers by name; nil enables all.
	Enabled func(name string) bool
	// Discover replaces Discover, for tests against a server without discovery; nil asks Client.
	Discover func(ctx context.Context) ([]Resource, error)
}

// Engine runs controllers for one term of leadership.
type Engine struct {
	opts        Options
	controllers []Controller
	views       map[viewID]anyView
	loops       []*Loop
	background  []func(context.Context) error
	served      map[plan.Kind]bool
	running     atomic.Bool
}

// New checks the controllers' declarations. Its error wraps ErrTwoWriters if two claim one field.
func New(opts Options, controllers ...Controller) (*Engine, error) {
	if err := checkClaims(controllers); err != nil {
		return nil, err
	}
	return &Engine{opts: opts, controllers: controllers, views: map[viewID]anyView{}}, nil
}

// discoverRetry is how long to wait before asking again what the server serves: short, since nothing runs until then, and
// the client itself backs off while no endpoint answers.
const discoverRetry = 250 * time.Millisecond

// Run starts every controller whose kinds are served and works until ctx ends. It may be called once.
func (e *Engine) Run(ctx context.Context) error {
	resources, err := e.discoverUntil(ctx)
	if err != nil {
		return nil // Only ctx ends the attempts.
	}
	e.served = map[plan.Kind]bool{}
	for _, r := range resources {
		e.served[r.Kind] = true
	}
	if err := e.setup(); err != nil {
		return err
	}
	var run []func(context.Context) error
	for _, v := range e.views {
		v.build(e)
		run = append(run, v.run)
	}
	run = append(run, e.work)
	return client.RunAll(ctx, run...)
}

// Running reports whether the mirrors are complete and the loops work.
func (e *Engine) Running() bool { return e.running.Load() }

func (e *Engine) discover(ctx context.Context) ([]Resource, error) {
	if e.opts.Discover != nil {
		return e.opts.Discover(ctx)
	}
	return Discover(ctx, e.opts.Client)
}

func (e *Engine) discoverUntil(ctx context.Context) ([]Resource, error) {
	for {
		resources, err := e.discover(ctx)
		if err == nil {
			return resources, nil
		}
		e.opts.Log.Warn("cannot discover what the API serves", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(discoverRetry):
		}
	}
}

func (e *Engine) setup() error {
	for _, c := range e.controllers {
		if e.opts.Enabled != nil && !e.opts.Enabled(c.Name) {
			continue
		}
		if missing := e.missing(c); len(missing) > 0 {
			e.opts.Log.Info("controller stays off: the API does not serve its kinds", "controller", c.Name, "missing", missing)
			continue
		}
		s := &Setup{engine: e, controller: c, Log: e.opts.Log.With("controller", c.Name)}
		if err := c.Setup(s); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

func (e *Engine) missing(c Controller) []string {
	var missing []string
	for _, k := range slices.Concat(c.Reads, c.Creates, c.Deletes) {
		if !e.served[k] && !slices.Contains(c.Optional, k) && !slices.Contains(missing, k.String()) {
			missing = append(missing, k.String())
		}
	}
	return missing
}

// work waits for the mirrors and then runs the loops.
func (e *Engine) work(ctx context.Context) error {
	started := time.Now()
	for _, v := range e.views {
		if err := v.waitSynced(ctx); err != nil {
			// Queues that were filled but never worked hold goroutines of their own.
			for _, l := range e.loops {
				l.queue.ShutDown()
			}
			return ignoreEnd(ctx, err)
		}
	}
	e.opts.Log.Info("controllers started", "loops", len(e.loops), "mirrors", len(e.views), "after", time.Since(started))
	e.running.Store(true)
	defer e.running.Store(false)
	run := slices.Clone(e.background)
	for _, l := range e.loops {
		run = append(run, l.run)
	}
	return ignoreEnd(ctx, client.RunAll(ctx, run...))
}

// ignoreEnd drops the error that the end of ctx causes.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (e *Engine) record(ev plan.Event) {
	e.opts.Events.Event(ev.About, ev.Type, ev.Reason, "%s", ev.Message)
}
