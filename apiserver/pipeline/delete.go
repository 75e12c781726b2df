package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
)

func (p *Pipeline) delete(ctx context.Context, h *handle, r *Request) (*Result, error) {
	if r.Subresource != "" {
		return nil, methodNotAllowed(h, r)
	}
	if err := checkDeleteOptions(&r.Delete); err != nil {
		return nil, err
	}
	r.DryRun = r.DryRun || len(r.Delete.DryRun) > 0
	return p.deleteIf(ctx, h, r, func(*current) error { return nil })
}

// deleteIf deletes the object unless still, which looks at what is stored just then, returns an error.
func (p *Pipeline) deleteIf(ctx context.Context, h *handle, r *Request, still func(*current) error) (*Result, error) {
	return p.rewrite(ctx, h, r, func(cur *current) (decision, error) {
		if err := still(cur); err != nil {
			return decision{}, err
		}
		if err := checkPreconditions(h, r, cur); err != nil {
			return decision{}, err
		}
		a := h.attributes(r, admission.Delete, nil, cur.obj)
		if err := p.mutate(ctx, a); err != nil {
			return decision{}, err
		}
		if err := p.checkAdmission(ctx, a); err != nil {
			return decision{}, err
		}
		d := h.decideDelete(cur.obj, &r.Delete, p.now())
		d.admitted = a
		return d, nil
	})
}

func checkDeleteOptions(o *metav1.DeleteOptions) error {
	if o.GracePeriodSeconds != nil && *o.GracePeriodSeconds < 0 {
		// As in Kubernetes, a negative grace period means one second.
		one := int64(1)
		o.GracePeriodSeconds = &one
	}
	// Reading past a damaged object is not offered: as in Kubernetes with its gate closed, asking for it changes nothing.
	o.IgnoreStoreReadErrorWithClusterBreakingPotential = nil
	errs := metavalidation.ValidateDeleteOptions(o)
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
}

func checkPreconditions(h *handle, r *Request, cur *current) error {
	pre := r.Delete.Preconditions
	if pre == nil {
		return nil
	}
	kind := schema.GroupResource{Group: h.res.Kind.Group, Resource: h.res.Kind.Kind}
	if pre.UID != nil && *pre.UID != cur.obj.GetUID() {
		return apierrors.NewConflict(kind, r.Name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *pre.UID, cur.obj.GetUID()))
	}
	if pre.ResourceVersion != nil && *pre.ResourceVersion != cur.obj.GetResourceVersion() {
		return apierrors.NewConflict(kind, r.Name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *pre.ResourceVersion, cur.obj.GetResourceVersion()))
	}
	return nil
}

// decideDelete says what a deletion does to an object at a time: remove it, mark it, shorten its grace, or nothing.
func (h *handle) decideDelete(old registry.Object, o *metav1.DeleteOptions, now time.Time) decision {
	grace, pending := h.grace(old, o)
	if pending {
		return decision{keep: true}
	}
	if h.res.Strategy.Uncollected {
		o = &metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	}
	finalizers := collectorFinalizers(old.GetFinalizers(), o, h.res.Strategy.DefaultPropagation)
	held := h.res.Strategy.Held != nil && h.res.Strategy.Held(old)
	if len(finalizers) == 0 && !held && grace <= 0 {
		return decision{}
	}
	obj := old.DeepCopyObject().(registry.Object)
	obj.SetFinalizers(finalizers)
	h.mark(obj, grace, held, now)
	obj.SetResourceVersion("")
	return decision{obj: obj}
}

// grace returns how long the deletion waits. pending means that a deletion is under way and this one changes nothing of it.
func (h *handle) grace(old registry.Object, o *metav1.DeleteOptions) (grace time.Duration, pending bool) {
	if old.GetDeletionTimestamp() == nil {
		if h.res.Strategy.GracePeriod == nil {
			return 0, false
		}
		return h.res.Strategy.GracePeriod(old, o.GracePeriodSeconds), false
	}
	running := old.GetDeletionGracePeriodSeconds()
	if running == nil || *running == 0 {
		return 0, false
	}
	// Only a shorter grace period may follow.
	if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds >= *running {
		return 0, true
	}
	return time.Duration(*o.GracePeriodSeconds) * time.Second, false
}

// mark writes the deletion into the object's metadata.
func (h *handle) mark(obj registry.Object, grace time.Duration, held bool, now time.Time) {
	seconds := int64(grace / time.Second)
	when := metav1.NewTime(now.Add(grace).Truncate(time.Second))
	began := obj.GetDeletionTimestamp()
	if began == nil {
		if obj.GetGeneration() > 0 {
			obj.SetGeneration(obj.GetGeneration() + 1)
		}
		if h.res.Strategy.MarkDeleted != nil {
			h.res.Strategy.MarkDeleted(obj)
		}
	} else if running := obj.GetDeletionGracePeriodSeconds(); running != nil {
		when = metav1.NewTime(began.Add(-time.Duration(*running)*time.Second + grace))
	} else {
		when = *began
	}
	obj.SetDeletionTimestamp(&when)
	if !held {
		obj.SetDeletionGracePeriodSeconds(&seconds)
	}
}

// collectorFinalizers adds or drops the garbage collector's two finalizers as the propagation policy says.
func collectorFinalizers(have []string, o *metav1.DeleteOptions, kindDefault metav1.DeletionPropagation) []string {
	policy := kindDefault
	explicit := true
	switch {
	case o.PropagationPolicy != nil:
		policy = *o.PropagationPolicy
	//lint:ignore SA1019 clients still send it
	case o.OrphanDependents != nil && *o.OrphanDependents:
		policy = metav1.DeletePropagationOrphan
	case o.OrphanDependents != nil:
		policy = metav1.DeletePropagationBackground
	default:
		explicit = policy == metav1.DeletePropagationOrphan
		// Without a policy an object keeps what its owner asked for.
		if slices.Contains(have, metav1.FinalizerOrphanDependents) || slices.Contains(have, metav1.FinalizerDeleteDependents) {
			explicit = false
		}
	}
	if !explicit {
		return have
	}
	out := slices.DeleteFunc(slices.Clone(have), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	switch policy {
	case metav1.DeletePropagationOrphan:
		out = append(out, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		out = append(out, metav1.FinalizerDeleteDependents)
	}
	return out
}

// collectionWorkers is how many objects of a collection are deleted at once: enough to fill the store's group commits, few
// enough to leave it to others as well.
const collectionWorkers = 32

func (p *Pipeline) deleteCollection(ctx context.Context, h *handle, r *Request) (*Result, error) {
	if err := checkDeleteOptions(&r.Delete); err != nil {
		return nil, err
	}
	l := *r
	l.Verb, l.ResourceVersion, l.Continue = List, "", ""
	q, err := h.query(&l)
	if err != nil {
		return nil, err
	}
	listing, err := h.listAll(ctx, q, readFresh)
	if err != nil {
		return nil, err
	}
	var found []*Object
	for o, err := range listing.Objects {
		if err != nil {
			return nil, err
		}
		found = append(found, o)
	}
	res, err := p.deleteAll(ctx, h, r, found)
	if err == nil {
		res.Collection = listing
	}
	return res, err
}

// deleteAll deletes the objects that were found. One that has gone meanwhile, whose place another has taken, or that is no longer
// selected, is left alone.
func (p *Pipeline) deleteAll(ctx context.Context, h *handle, r *Request, found []*Object) (*Result, error) {
	r.DryRun = r.DryRun || len(r.Delete.DryRun) > 0
	selected := h.selection(r)
	var mu sync.Mutex
	var count int64
	var first error
	each(len(found), collectionWorkers, func(i int) {
		err := p.deleteFound(ctx, h, r, found[i], selected)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			count++
		case !apierrors.IsNotFound(err) && first == nil:
			first = err
		}
	})
	if first != nil {
		return nil, first
	}
	return &Result{Count: count}, nil
}

func (p *Pipeline) deleteFound(ctx context.Context, h *handle, r *Request, found *Object, selected func(registry.Object) bool) error {
	obj, err := found.Decoded()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	was := obj.(metav1.Object)
	one := *r
	one.Verb, one.Namespace, one.Name, one.LabelSelector, one.FieldSelector = Delete, was.GetNamespace(), was.GetName(), "", ""
	_, err = p.deleteIf(ctx, h, &one, func(cur *current) error {
		if cur.obj.GetUID() != was.GetUID() || cur.obj.GetResourceVersion() != was.GetResourceVersion() && !selected(cur.obj) {
			return apierrors.NewNotFound(h.gr(), one.Name)
		}
		return nil
	})
	return err
}
