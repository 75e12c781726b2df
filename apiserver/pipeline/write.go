package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
	"bareboat.dev/apiserver/watchcache/frame"
)

const minute = time.Minute

const (
	// maxAttempts bounds how often one write is decided again because the object moved on meanwhile. Each failed attempt
	// means that another writer succeeded, so 64 clients that update one object all get through within 64.
	maxAttempts = 100
	// maxNames is how many generated names are tried; with 27^5 suffixes a second try is rare (KEP-4420).
	maxNames = 8
	// maxPicks is how often an allocation that lost a race for its name is done again.
	maxPicks = 16
)

// current is a stored object that a write is decided from.
type current struct {
	obj registry.Object // decoded, with resource version; shared
	rev storage.Revision
	// encoded has the object's bytes, with resource version.
	encoded frame.Frame
	// fresh: the state was read from the store, not from the cache.
	fresh bool
	// stored are the store's own bytes of a custom object that was read from there; readers may see others.
	stored []byte
}

// current reads an object to write it. The cache's state is good enough to begin with, since the commit is conditional on
// it; a decision to fail or to write nothing must be made from a fresh one.
func (p *Pipeline) current(ctx context.Context, h *handle, namespace, name string, fresh bool) (*current, error) {
	if !fresh {
		it, _, err := h.cache.Get(ctx, namespace, name, watchcache.ReadOptions{AnyRevision: true})
		if err == nil {
			obj, err := h.object(it)
			if err != nil {
				return nil, apierrors.NewInternalError(err)
			}
			return &current{obj: obj, rev: it.Revision, encoded: it.Frame}, nil
		}
		if !errors.Is(err, watchcache.ErrNotFound) {
			return nil, err
		}
	}
	e, _, err := p.cfg.Engine.Get(ctx, h.res.Key(namespace, name), storage.Latest)
	if err != nil {
		return nil, err
	}
	f, err := h.frame(e.Value, e.Modified)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	obj, err := h.decodeFrame(f)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("decoding %s: %w", e.Key, err))
	}
	cur := &current{obj: obj, rev: e.Modified, encoded: f, fresh: true}
	if h.res.Custom != nil {
		cur.stored = e.Value
	}
	return cur, nil
}

// decision is what a write makes of the current object.
type decision struct {
	// obj is the new object, without resource version; nil removes the object.
	obj registry.Object
	// keep: write nothing; the result is the current object.
	keep bool
	// asked are the claims that the object had before the server chose any; lost collects those that the server chose and
	// that proved to be taken. Both are nil for kinds without claims of that sort.
	asked, lost map[string]bool
	// admitted is what admission said of the write; nil if it has nothing to commit with it.
	admitted *admission.Attributes
}

// settle tells admission how the write ended.
func (d *decision) settle(err error) {
	if d.admitted == nil {
		return
	}
	version := ""
	if err == nil && d.obj != nil {
		version = d.obj.GetResourceVersion()
	}
	d.admitted.Settle(version, err)
}

// rewrite decides and commits a change of an existing object until nobody else was faster. decide must be free of side effects.
func (p *Pipeline) rewrite(ctx context.Context, h *handle, r *Request, decide func(*current) (decision, error)) (*Result, error) {
	fresh := false
	for range maxAttempts {
		cur, err := p.current(ctx, h, r.Namespace, r.Name, fresh)
		if err != nil {
			return nil, storeError(h.gr(), r.Name, err)
		}
		d, err := decide(cur)
		if !cur.fresh && (err != nil || d.keep) {
			// The cache may be behind: never fail, or do nothing, because of what is no longer so.
			fresh = true
			continue
		}
		if err != nil {
			return nil, err
		}
		if d.keep {
			return &Result{Object: cur.object(h), Unchanged: true}, nil
		}
		res, err := p.commitChange(ctx, h, r, cur, d)
		d.settle(err)
		if err == nil && d.admitted != nil {
			res.Warnings = d.admitted.Warnings()
		}
		var taken *takenError
		if errors.As(err, &taken) {
			if d.lost == nil || d.asked[taken.claim.Key] {
				return nil, h.invalid(r.Name, field.ErrorList{taken.field()})
			}
			d.lost[taken.claim.Key] = true
			err = errPicked
		}
		switch {
		case err == nil:
			return res, nil
		case errors.Is(err, errUnchangedStale), isConflictOn(err, h.res.Key(r.Namespace, r.Name)), errors.Is(err, errPicked), errors.Is(err, errOvertaken):
			fresh = true
			continue
		}
		return nil, storeError(h.gr(), r.Name, err)
	}
	return nil, apierrors.NewConflict(h.gr(), r.Name, errStale)
}

// errUnchangedStale means that a write would change nothing of a state that may be old.
var errUnchangedStale = errors.New("unchanged, but decided from the cache")

// errPicked means that a name that the server chose was taken by somebody faster; the write must be decided again.
var errPicked = errors.New("allocated name is taken")

func isConflictOn(err error, key string) bool {
	var c *storage.ConflictError
	return errors.As(err, &c) && c.Key == key
}

func (c *current) object(h *handle) *Object {
	o := h.framed(c.encoded, nil)
	o.decoded = c.obj
	return o
}

// commitChange writes a decision, on condition that the object is still as it was.
func (p *Pipeline) commitChange(ctx context.Context, h *handle, r *Request, cur *current, d decision) (*Result, error) {
	key := h.res.Key(r.Namespace, r.Name)
	if d.obj == nil {
		return p.commitRemoval(ctx, h, key, cur, r.DryRun)
	}
	value, err := p.encodeStored(h, d.obj)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	same, err := cur.holds(value)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if same {
		if !cur.fresh {
			return nil, errUnchangedStale
		}
		return &Result{Object: cur.object(h), Unchanged: true}, nil
	}
	if r.DryRun {
		d.obj.SetResourceVersion(strconv.FormatInt(int64(cur.rev), 10))
		return &Result{Object: h.storedObject(d.obj)}, nil
	}
	claims, err := p.claimOps(h, key, d.obj, cur.obj)
	if err != nil {
		return nil, err
	}
	ops := append([]storage.Op{{Type: storage.Put, Key: key, Value: value, If: storage.Condition(cur.rev)}}, claims...)
	if ops, err = p.companionOps(ops, d.admitted); err != nil {
		return nil, err
	}
	rev, err := p.cfg.Engine.Commit(ctx, ops...)
	if err != nil {
		return nil, p.claimError(h, d.obj, p.companionError(d.admitted, err))
	}
	return h.written(d.obj, value, rev)
}

// holds reports whether the store has exactly this value already. Of a custom object that means its own bytes, not what readers
// see of them: writing what one has read is how objects get into a new storage version.
func (c *current) holds(value []byte) (bool, error) {
	if c.stored != nil {
		return string(c.stored) == string(value), nil
	}
	same, err := frame.Splice(value, int64(c.rev))
	return err == nil && string(same.Object()) == string(c.encoded.Object()), err
}

func (p *Pipeline) commitRemoval(ctx context.Context, h *handle, key string, cur *current, dryRun bool) (*Result, error) {
	res := &Result{Object: cur.object(h), Deleted: true}
	if dryRun {
		return res, nil
	}
	claims, err := p.claimOps(h, key, nil, cur.obj)
	if err != nil {
		return nil, err
	}
	ops := append([]storage.Op{{Type: storage.Delete, Key: key, If: storage.Condition(cur.rev)}}, claims...)
	rev, err := p.cfg.Engine.Commit(ctx, ops...)
	if err != nil {
		return nil, err
	}
	f, err := cur.encoded.WithRevision(int64(rev))
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	res.Object = h.framed(f, h.decoder(f))
	return res, nil
}

// written is the result of a commit: the object with the commit's revision, encoded without encoding it again.
func (h *handle) written(obj registry.Object, value []byte, rev storage.Revision) (*Result, error) {
	f, err := frame.Splice(value, int64(rev))
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	obj.SetResourceVersion(strconv.FormatInt(int64(rev), 10))
	obj.GetObjectKind().SetGroupVersionKind(h.res.Kind)
	o := h.framed(f, nil)
	o.decoded = obj
	return &Result{Object: o}, nil
}

// attributes are what admission plugins see of a write.
func (h *handle) attributes(r *Request, op admission.Operation, obj, old registry.Object) *admission.Attributes {
	return &admission.Attributes{
		Operation: op, User: r.User, Resource: h.res, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name,
		Object: obj, Old: old, DryRun: r.DryRun, Request: admissionRequest(r),
	}
}

// admissionRequest is what of a request webhooks and policies see beside the object.
func admissionRequest(r *Request) admission.Request {
	return admission.Request{
		Verb: string(r.Verb), FieldManager: r.FieldManager, FieldValidation: validationName(r.FieldValidation), Force: r.Force,
		Delete: &r.Delete, Notes: r.Notes,
	}
}

// mutate runs the changing half of admission, checkAdmission the refusing half.
func (p *Pipeline) mutate(ctx context.Context, a *admission.Attributes) error {
	for i := range p.cfg.Plugins {
		if m := p.cfg.Plugins[i].Mutate; m != nil {
			if err := m(ctx, a); err != nil {
				return admissionError(a, err)
			}
		}
	}
	if a.NextRound() {
		return p.mutate(ctx, a)
	}
	return nil
}

func (p *Pipeline) checkAdmission(ctx context.Context, a *admission.Attributes) error {
	for i := range p.cfg.Plugins {
		if v := p.cfg.Plugins[i].Validate; v != nil {
			if err := v(ctx, a); err != nil {
				return admissionError(a, err)
			}
		}
	}
	return nil
}

func admissionError(a *admission.Attributes, err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return apierrors.NewForbidden(gr(a.Resource), a.Name, err)
}

// invalid makes the Invalid error of field errors, or nil.
func (h *handle) invalid(name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	kind := h.res.Kind
	if h.res.Stored != nil {
		kind = h.res.Stored.Kind // as Kubernetes calls it in errors, whichever version or group was asked for
	}
	return apierrors.NewInvalid(kind.GroupKind(), name, errs)
}

func forbiddenField(path, detail string) field.ErrorList {
	return field.ErrorList{field.Forbidden(field.NewPath(path), detail)}
}

// validationName is the API's name of a way to treat unknown fields.
func validationName(v codec.FieldValidation) string {
	switch v {
	case codec.Ignore:
		return "Ignore"
	case codec.Strict:
		return "Strict"
	}
	return "Warn"
}
