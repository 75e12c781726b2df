package customresource

import (
	"context"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/watchcache"
)

// begin deletes, beside all else, the objects of a definition that is being deleted, and then lets it go. Every server does so;
// deletions and writes that another was faster with do nothing.
func (r *Runner) begin(ctx context.Context, d *v1.CustomResourceDefinition) {
	if _, running := r.cleanup[d.UID]; running || !slices.Contains(d.Finalizers, v1.CustomResourceCleanupFinalizer) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	r.cleanup[d.UID] = cancel
	r.workers.Go(func() {
		defer cancel()
		for ctx.Err() == nil {
			err := r.remove(ctx, d)
			if err == nil || ctx.Err() != nil {
				return
			}
			r.cfg.Log.Warn("deleting the instances of a custom resource definition failed", "name", d.Name, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
	})
}

// remove deletes a definition's objects, waits until they have gone, and takes away the finalizer that holds the definition.
func (r *Runner) remove(ctx context.Context, first *v1.CustomResourceDefinition) error {
	if !served(first) {
		return r.conclude(ctx, first, "NeverEstablished", "resource was never established")
	}
	h := first.Status.AcceptedNames
	objects := pipeline.Ref{Group: first.Spec.Group, Resource: h.Plural}
	if _, ok := r.cfg.Pipeline.Set().Lookup(objects.Group, "", objects.Resource); !ok {
		return r.conclude(ctx, first, "OverlappingBuiltInResource", "instances overlap with built-in resources in storage")
	}
	if err := r.condition(ctx, first, v1.ConditionTrue, "InstanceDeletionInProgress", "CustomResource deletion is in progress", false); err != nil {
		return err
	}
	_, err := r.cfg.Pipeline.Do(ctx, &pipeline.Request{Verb: pipeline.DeleteCollection, Caller: pipeline.System(), Ref: objects})
	if err != nil && !apierrors.IsNotFound(err) {
		return r.failed(ctx, first, "InstanceDeletionFailed", fmt.Errorf("could not issue all deletes: %w", err))
	}
	if err := r.gone(ctx, objects); err != nil {
		return r.failed(ctx, first, "InstanceDeletionCheck", fmt.Errorf("could not confirm zero CustomResources remaining: %w", err))
	}
	return r.conclude(ctx, first, "InstanceDeletionCompleted", "removed all instances")
}

// failed writes down what went wrong and returns it.
func (r *Runner) failed(ctx context.Context, d *v1.CustomResourceDefinition, reason string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if writing := r.condition(ctx, d, v1.ConditionTrue, reason, err.Error(), false); writing != nil {
		r.cfg.Log.Warn("writing the status of a custom resource definition failed", "name", d.Name, "error", writing)
	}
	return err
}

// concluding is how often the last word is tried at once while others write the definition too, as another server does.
const concluding = 5

// conclude lets the definition go.
func (r *Runner) conclude(ctx context.Context, d *v1.CustomResourceDefinition, reason, message string) error {
	var err error
	for range concluding {
		if err = r.condition(ctx, d, v1.ConditionFalse, reason, message, true); !apierrors.IsConflict(err) {
			return err
		}
	}
	return err
}

// condition writes the Terminating condition, and takes the finalizer away if it is the last word.
func (r *Runner) condition(ctx context.Context, d *v1.CustomResourceDefinition, status v1.ConditionStatus, reason, message string, last bool) error {
	res, err := r.cfg.Pipeline.Do(ctx, &pipeline.Request{Verb: pipeline.Get, Caller: pipeline.System(), Ref: ref(d.Name)})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	decoded, err := res.Object.Decoded()
	if err != nil {
		return err
	}
	now := decoded.(*v1.CustomResourceDefinition).DeepCopy()
	if now.UID != d.UID {
		return nil
	}
	set(now, &v1.CustomResourceDefinitionCondition{Type: v1.Terminating, Status: status, Reason: reason, Message: message},
		v1.Terminating, metav1.NewTime(r.cfg.Now().Truncate(time.Second)))
	if !last {
		// What others have written meanwhile may say the same; the last word counts.
		if err := r.write(ctx, now, "status"); !apierrors.IsConflict(err) {
			return err
		}
		return nil
	}
	now.Finalizers = slices.DeleteFunc(now.Finalizers, func(f string) bool { return f == v1.CustomResourceCleanupFinalizer })
	return r.write(ctx, now, "")
}

// gone waits until there are no objects any more: those with finalizers go when others let them.
func (r *Runner) gone(ctx context.Context, objects pipeline.Ref) error {
	s, err := r.cfg.Pipeline.Watch(ctx, &pipeline.Request{Verb: pipeline.Watch, Caller: pipeline.System(), SendInitialEvents: true, Ref: objects})
	if err != nil {
		return err
	}
	defer s.Cursor.Close()
	there, all := map[string]bool{}, false
	for {
		batch, err := s.Cursor.Next(ctx)
		if err != nil {
			return s.Error(err)
		}
		for _, e := range batch.Events {
			if there[e.Item.Key] = true; e.Type == watchcache.Deleted {
				delete(there, e.Item.Key)
			}
		}
		all = all || batch.InitialEventsEnd
		if all && len(there) == 0 {
			return nil
		}
	}
}
