package pipeline

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
)

// A definition of custom resources is deleted in three steps, by whichever server: it is marked, its objects are deleted until there are
// none, and then it goes. A server that has not seen the mark yet must not create an object behind that: nobody would delete it, and
// the next definition of that name would find it. So a creation is committed on condition that the definition is still as this server
// knows it, not marked; whatever is created is thereby created before the mark, and is among what is deleted.

// errRedefined means that the definition of an object's kind has moved on; the creation must be decided again.
var errRedefined = errors.New("the definition of the object's kind has moved on")

// definitions returns the handle of the resource whose objects define custom resources; nil if there is none.
func definitions(handles []*handle) *handle {
	for _, h := range handles {
		if h.res.Defines && h.cache != nil {
			return h
		}
	}
	return nil
}

// definitionOf is the name of the definition of a custom resource.
func definitionOf(res *registry.Resource) string { return res.Plural + "." + res.Kind.Group }

// whileDefined is the condition on which an object of a custom resource may be created; none for other objects. It is that of the cache's
// definition, which may be behind, or that of the store's. It fails if the definition is being deleted or is gone.
func (p *Pipeline) whileDefined(ctx context.Context, h *handle, fresh bool) ([]storage.Op, error) {
	d := p.definitions
	if h.res.Custom == nil || d == nil {
		return nil, nil
	}
	it, _, err := d.cache.Get(ctx, "", definitionOf(h.res), watchcache.ReadOptions{AnyRevision: !fresh})
	switch {
	case errors.Is(err, watchcache.ErrNotFound) && !fresh:
		return p.whileDefined(ctx, h, true)
	case errors.Is(err, watchcache.ErrNotFound):
		return nil, notServed()
	case err != nil:
		return nil, err
	}
	if h.open.Load() != int64(it.Revision) {
		obj, err := d.object(it)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		if obj.GetDeletionTimestamp() != nil {
			return nil, apierrors.NewForbidden(h.gr(), "", errTerminating)
		}
		h.open.Store(int64(it.Revision))
	}
	return []storage.Op{{Type: storage.Check, Key: it.Key, If: storage.Condition(it.Revision)}}, nil
}

// definitionError recognizes a conflict over the definition of the object's kind.
func (p *Pipeline) definitionError(h *handle, err error) error {
	if h.res.Custom != nil && p.definitions != nil && isConflictOn(err, p.definitions.res.Key("", definitionOf(h.res))) {
		return errRedefined
	}
	return err
}
