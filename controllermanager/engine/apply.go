package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/types/known/anypb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

// ErrGuard is wrapped by the error of a write whose guard no longer held.
var ErrGuard = errors.New("the object that the write depends on is gone")

// ErrUndeclared is wrapped by the error of a write that its controller did not declare, which is a mistake in the program.
var ErrUndeclared = errors.New("controller writes what it did not declare")

// WriteError is the failure of one write of a plan.
type WriteError struct {
	Write plan.Write
	Err   error
}

func (e *WriteError) Error() string {
	return fmt.Sprintf("%s %s: %v", e.Write.Verb, e.Write.ID(), e.Err)
}
func (e *WriteError) Unwrap() error { return e.Err }

// Refused returns the first failed write in err, the error of a step, that is of such a kind and that users should know of: the
// API refused it, and not because the view was out of date. It is nil if there is none.
func Refused(err error, kind plan.Kind, verb plan.Verb) *WriteError {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			if we := Refused(e, kind, verb); we != nil {
				return we
			}
		}
		return nil
	}
	var we *WriteError
	if !errors.As(err, &we) || we.Write.Kind != kind || we.Write.Verb != verb || client.IsUnavailable(err) || Expected(we.Err) {
		return nil
	}
	return we
}

// apply sends a plan's writes in one batch, records its events, and waits until the mirrors show what succeeded. Its error
// joins a WriteError per failed write.
func (e *Engine) apply(ctx context.Context, c Controller, log *slog.Logger, p plan.Plan) error {
	for _, ev := range p.Events {
		if ev.Of == nil {
			e.record(ev)
		}
	}
	if len(p.Writes) == 0 {
		return nil
	}
	if err := check(c, p); err != nil {
		return err
	}
	writes, errs := e.guarded(ctx, p.Writes)
	ops := make([]client.Op, len(writes))
	for i, w := range writes {
		ops[i] = op(w)
	}
	results, _ := e.opts.Client.Batch(ctx, ops...) // A request's failure is in each of its results.
	failed := map[plan.Object]bool{}
	for _, err := range errs {
		failed[err.Write.Object] = true
	}
	var joined []error
	for i, res := range results {
		w := writes[i]
		log.Debug("wrote", "verb", w.Verb, "object", w.ID(), "subresource", w.Subresource, "error", res.Err)
		e.opts.Metrics.countWrite(c.Name, w, res.Err)
		// What was to be deleted and is gone is as it should be.
		if res.Err != nil && !(w.Verb == plan.VerbDelete && apierrors.IsNotFound(res.Err)) {
			errs = append(errs, &WriteError{w, res.Err})
			failed[w.Object] = true
		}
	}
	for _, ev := range p.Events {
		if ev.Of != nil && !failed[ev.Of] {
			e.record(ev)
		}
	}
	for _, err := range errs {
		joined = append(joined, err)
	}
	if err := e.await(ctx, writes, results); err != nil {
		joined = append(joined, err)
	}
	return errors.Join(joined...)
}

func check(c Controller, p plan.Plan) error {
	if err := p.Check(); err != nil {
		return err
	}
	for _, w := range p.Writes {
		if !c.mayWrite(w) {
			return fmt.Errorf("%w: %s: %s %s", ErrUndeclared, c.Name, w.Verb, w.Kind)
		}
	}
	return nil
}

// guarded drops the writes whose guards do not hold.
func (e *Engine) guarded(ctx context.Context, writes []plan.Write) (ok []plan.Write, failed []*WriteError) {
	verdicts := map[plan.Guard]error{}
	for _, w := range writes {
		if w.Guard == nil {
			ok = append(ok, w)
			continue
		}
		err, known := verdicts[*w.Guard]
		if !known {
			err = e.holds(ctx, *w.Guard)
			verdicts[*w.Guard] = err
		}
		if err != nil {
			failed = append(failed, &WriteError{w, err})
		} else {
			ok = append(ok, w)
		}
	}
	return ok, failed
}

func (e *Engine) holds(ctx context.Context, g plan.Guard) error {
	meta, err := e.GetMeta(ctx, g.Kind, g.Namespace, g.Name)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", ErrGuard, err)
	case err != nil:
		return err
	case string(meta.UID) != g.UID || meta.DeletionTimestamp != nil:
		return fmt.Errorf("%w: %s %s/%s was replaced or is being deleted", ErrGuard, g.Kind, g.Namespace, g.Name)
	}
	return nil
}

func op(w plan.Write) client.Op {
	k := w.Kind.Untyped()
	switch w.Verb {
	case plan.VerbCreate:
		return client.CreateOp(k, w.Object)
	case plan.VerbUpdate:
		return client.UpdateSubresourceOp(k, w.Object, w.Subresource)
	case plan.VerbMergePatch:
		return client.PatchOp(k, w.Object.GetNamespace(), w.Object.GetName(), client.MergePatch, w.Patch, client.PatchOptions{Subresource: w.Subresource})
	default:
		opts := client.DeleteOptions{UID: string(w.Object.GetUID()), GracePeriodSeconds: w.Grace, Propagation: w.Propagation}
		if !w.AnyVersion {
			opts.ResourceVersion = w.Object.GetResourceVersion()
		}
		return client.DeleteOp(k, w.Object.GetNamespace(), w.Object.GetName(), opts)
	}
}

// await waits until the mirrors show every write that succeeded. Kinds without a mirror are not waited for.
func (e *Engine) await(ctx context.Context, writes []plan.Write, results []client.OpResult) error {
	for i, res := range results {
		if res.Err != nil {
			continue
		}
		w := writes[i]
		o := outcome{namespace: w.Object.GetNamespace(), name: w.Object.GetName()}
		if w.Verb == plan.VerbDelete {
			o.gone = w.Object.GetUID()
		} else {
			o.revision = revision(res.Object)
		}
		for id, view := range e.views {
			if id.kind != w.Kind || !id.scope.holds(o.namespace, o.name) {
				continue
			}
			if err := view.await(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// revision reads the resource version from any encoded object. Every kind's metadata is field 1 of its message, as in
// PartialObjectMetadata, whose decoder skips the rest.
func revision(a *anypb.Any) client.Revision {
	if a == nil {
		return 0
	}
	var meta metav1.PartialObjectMetadata
	if err := meta.Unmarshal(a.GetValue()); err != nil {
		return 0
	}
	return client.RevisionOf(&meta)
}
