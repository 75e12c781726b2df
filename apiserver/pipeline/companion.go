package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
)

// errOvertaken means that an object that admission changes together with a write has moved on; the write must be decided again.
var errOvertaken = errors.New("a companion of the write has moved on")

// companionOps adds what admission commits together with a write.
func (p *Pipeline) companionOps(ops []storage.Op, a *admission.Attributes) ([]storage.Op, error) {
	if a == nil {
		return ops, nil
	}
	for _, c := range a.Companions() {
		h, err := p.handleFor(c.Group, c.Plural)
		if err != nil {
			return nil, err
		}
		rev, err := strconv.ParseInt(c.Object.GetResourceVersion(), 10, 64)
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("companion %s: %w", c.Object.GetName(), err))
		}
		obj := c.Object.DeepCopyObject().(registry.Object)
		obj.SetResourceVersion("")
		value, err := p.encodeStored(h, obj)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		ops = append(ops, storage.Op{Type: storage.Put, Key: h.res.Key(obj.GetNamespace(), obj.GetName()), Value: value, If: storage.Condition(rev)})
	}
	return ops, nil
}

// companionError recognizes a conflict over a companion.
func (p *Pipeline) companionError(a *admission.Attributes, err error) error {
	if a == nil {
		return err
	}
	for _, c := range a.Companions() {
		if h, lookup := p.handleFor(c.Group, c.Plural); lookup == nil && isConflictOn(err, h.res.Key(c.Object.GetNamespace(), c.Object.GetName())) {
			return errOvertaken
		}
	}
	return err
}

// obeyWait bounds how long the answer to a write of what admission obeys waits for the cache: it is a few milliseconds behind at most,
// unless the store is in trouble, and then the write must not look as if it had failed.
const obeyWait = 3 * time.Second

// obey waits until the cache shows a write.
func (p *Pipeline) obey(ctx context.Context, r *Request, res *Result) error {
	if r.DryRun || res == nil || res.Unchanged || res.Object == nil {
		return nil
	}
	h, err := p.handleFor(r.Group, r.Resource)
	if err != nil || h.cache == nil {
		return nil
	}
	obj, err := res.Object.Decoded()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	meta, ok := obj.(metav1.Object)
	if !ok {
		return nil
	}
	rev, err := parseVersion(meta.GetResourceVersion())
	if err != nil || rev == 0 {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, obeyWait)
	defer cancel()
	if err := h.cache.WaitRevision(wait, rev); err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
		return storeError(h.gr(), r.Name, err)
	}
	return nil
}

// Collection implements admission.Reader.
func (p *Pipeline) Collection(group, plural string) (admission.Collection, bool) {
	h, err := p.handleFor(group, plural)
	if err != nil || h.cache == nil {
		return nil, false
	}
	return h.cache, true
}

// Types returns what gives a kind's objects types, by which admission merges changes into them.
func (p *Pipeline) Types(r *registry.Resource) (managedfields.TypeConverter, error) {
	return p.fields.Types(r)
}
