package typecheck

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/watchcache"
)

// retryAfter is how long the runner waits after a failure of the store before it goes on.
const retryAfter = time.Second

// manager is who has set what Runner writes, upstream's controller of the same purpose.
const manager = "validatingadmissionpolicy-status"

const (
	policies    = "validatingadmissionpolicies"
	definitions = "customresourcedefinitions"
)

// Runner keeps the statuses of the validating admission policies. Servers that share a store each run one: they come to the same result, and
// a status is written where it is not that yet, from the version of the policy that it was decided from.
type Runner struct {
	Checker  Checker
	Pipeline *pipeline.Pipeline
	// CatchUp waits until every custom resource is served that is defined.
	CatchUp func(context.Context) error
	Log     *slog.Logger

	// checked are the kinds that each policy was compared with; Run's alone.
	checked map[types.UID]Kinds
}

// Run follows policies and definitions until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if apierrors.IsResourceExpired(err) || errors.Is(err, watchcache.ErrExpired) {
			continue
		}
		r.Log.Warn("checking the types of admission policies failed", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
	return nil
}

func (r *Runner) follow(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	for _, ref := range []pipeline.Ref{
		{Group: admissionregistrationv1.GroupName, Version: "v1", Resource: policies}, {Group: "apiextensions.k8s.io", Version: "v1", Resource: definitions},
	} {
		group.Go(func() error { return r.Pipeline.Notice(ctx, ref, changed) })
	}
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				if err := r.settle(ctx); err != nil {
					return err
				}
			}
		}
	})
	return group.Wait()
}

// settle brings the statuses up to date.
func (r *Runner) settle(ctx context.Context) error {
	all, err := r.Pipeline.Fresh(ctx, admissionregistrationv1.GroupName, policies, "")
	if err != nil || len(all) == 0 {
		r.checked = nil
		return err
	}
	if err := r.CatchUp(ctx); err != nil {
		return err
	}
	set := r.Pipeline.Set()
	checked := make(map[types.UID]Kinds, len(all))
	var failed []error
	for _, obj := range all {
		p := obj.(*admissionregistrationv1.ValidatingAdmissionPolicy)
		kinds := KindsOf(&p.Spec, set)
		// Before this server's first look another may have checked the policy, with the same schemas.
		before, ok := r.checked[p.UID]
		if p.Status.ObservedGeneration < p.Generation || ok && !before.equal(kinds) {
			if err := r.write(ctx, p, r.Checker.Check(&p.Spec, kinds)); err != nil {
				failed = append(failed, err)
				continue
			}
		}
		checked[p.UID] = kinds
	}
	r.checked = checked
	return errors.Join(failed...)
}

// write sets a policy's status. That the policy has changed or gone meanwhile is no failure: the watch says so.
func (r *Runner) write(ctx context.Context, p *admissionregistrationv1.ValidatingAdmissionPolicy, warnings []admissionregistrationv1.ExpressionWarning) error {
	next := p.DeepCopy()
	next.Status.ObservedGeneration = p.Generation
	next.Status.TypeChecking = &admissionregistrationv1.TypeChecking{ExpressionWarnings: warnings}
	if equality.Semantic.DeepEqual(next.Status, p.Status) {
		return nil
	}
	raw, err := next.Marshal()
	if err != nil {
		return err
	}
	_, err = r.Pipeline.Do(ctx, &pipeline.Request{
		Verb: pipeline.Update, Caller: pipeline.System(), FieldManager: manager,
		Ref:  pipeline.Ref{Group: admissionregistrationv1.GroupName, Version: "v1", Resource: policies, Name: p.Name, Subresource: "status"},
		Body: pipeline.Body{ContentType: pipeline.Raw, Data: raw, Kind: admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicy")},
	})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("updating %s: %w", p.Name, err)
	}
	return nil
}
