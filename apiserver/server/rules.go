package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/watchcache"
)

// rules follows the stored RBAC objects, and makes requests that come before it has read them wait.
type rules struct {
	store *authz.Store
	rbac  authz.RBAC
	// begin is closed when the default roles are stored: whoever reads the rules from then on sees all of them.
	begin chan struct{}
	ready chan struct{}
}

func newRules() *rules {
	store := authz.NewStore()
	return &rules{store: store, rbac: authz.RBAC{Rules: store}, begin: make(chan struct{}), ready: make(chan struct{})}
}

// Authorize implements authz.Authorizer.
func (r *rules) Authorize(ctx context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	select {
	case <-r.ready:
		return r.rbac.Authorize(ctx, a)
	default:
	}
	select {
	case <-r.ready:
		return r.rbac.Authorize(ctx, a)
	case <-ctx.Done():
		return authz.NoOpinion, "", ctx.Err()
	}
}

// rbacResources are the resources that rules are made of.
func rbacResources() []string {
	return []string{"clusterroles", "clusterrolebindings", "roles", "rolebindings"}
}

// run follows all four resources until ctx ends.
func (r *rules) run(ctx context.Context, p *pipeline.Pipeline) error {
	select {
	case <-r.begin:
	case <-ctx.Done():
		return nil
	}
	resources := rbacResources()
	synced := make(chan string, len(resources))
	done := make(chan error, len(resources))
	for _, plural := range resources {
		go func() { done <- r.follow(ctx, p, plural, func() { synced <- plural }) }()
	}
	for range resources {
		select {
		case <-synced:
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil {
		close(r.ready)
	}
	var errs []error
	for range resources {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// follow keeps the store equal to one resource. If the watch falls off the history it starts again, and what is gone by then
// is deleted.
func (r *rules) follow(ctx context.Context, p *pipeline.Pipeline, plural string, synced func()) error {
	known := map[string]metav1.Object{}
	first := true
	for ctx.Err() == nil {
		err := r.followOnce(ctx, p, plural, known, func() {
			if first {
				first = false
				synced()
			}
		})
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, watchcache.ErrExpired):
		default:
			return fmt.Errorf("following %s: %w", plural, err)
		}
	}
	return nil
}

func (r *rules) followOnce(ctx context.Context, p *pipeline.Pipeline, plural string, known map[string]metav1.Object, synced func()) error {
	s, err := p.Watch(ctx, &pipeline.Request{
		Verb: pipeline.Watch, Caller: pipeline.System(), SendInitialEvents: true,
		Ref: pipeline.Ref{Group: rbacv1.GroupName, Version: "v1", Resource: plural},
	})
	if err != nil {
		return err
	}
	defer s.Cursor.Close()
	gone := map[string]bool{}
	for k := range known {
		gone[k] = true
	}
	for {
		batch, err := s.Cursor.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range batch.Events {
			decoded, err := s.Object(e).Decoded()
			if err != nil {
				return err
			}
			obj := decoded.(metav1.Object)
			delete(gone, e.Item.Key)
			if e.Type == watchcache.Deleted {
				r.store.Delete(obj)
				delete(known, e.Item.Key)
				continue
			}
			r.store.Set(obj)
			known[e.Item.Key] = obj
		}
		if batch.InitialEventsEnd {
			for k := range gone {
				r.store.Delete(known[k])
				delete(known, k)
			}
			gone = nil
			synced()
		}
	}
}

// rulesWait bounds how long a start waits for the rules to have been read once the default ones are stored.
const rulesWait = 30 * time.Second

// readAll lets run begin and blocks until the rules have been read.
func (r *rules) readAll(ctx context.Context) error {
	close(r.begin)
	ctx, cancel := context.WithTimeout(ctx, rulesWait)
	defer cancel()
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("reading the RBAC rules: %w", ctx.Err())
	}
}
