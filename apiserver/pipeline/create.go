package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
)

func gr(res *registry.Resource) schema.GroupResource {
	return schema.GroupResource{Group: res.Kind.Group, Resource: res.Plural}
}

// decode reads a request's body as the wanted kind.
func (p *Pipeline) decode(r *Request, want schema.GroupVersionKind, into runtime.Object) (warnings []string, err error) {
	if r.Body.ContentType != Raw {
		return p.codec.DecodeBody(r.Body.ContentType, r.Body.Data, want, r.FieldValidation, into)
	}
	if r.Body.Kind != want {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s", r.Body.Kind.Kind, r.Body.Kind.Version, want.Kind))
	}
	return nil, p.codec.DecodeRaw(want, r.Body.Data, into)
}

func (p *Pipeline) create(ctx context.Context, h *handle, r *Request) (*Result, error) {
	obj := h.res.New()
	warnings, err := p.decode(r, h.res.Kind, obj)
	if err != nil {
		return nil, err
	}
	if r.Name != "" && obj.GetName() == "" {
		obj.SetName(r.Name)
	}
	return p.createObject(ctx, h, r, obj, warnings)
}

// createObject runs the chain for a new, decoded object.
func (p *Pipeline) createObject(ctx context.Context, h *handle, r *Request, obj registry.Object, warnings []string) (*Result, error) {
	if err := matchNamespace(h, r, obj); err != nil {
		return nil, err
	}
	if r.Name != "" && obj.GetName() != r.Name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), r.Name))
	}
	if h.res.Custom != nil && h.res.Custom.Terminating {
		return nil, apierrors.NewForbidden(h.gr(), obj.GetName(), errTerminating)
	}
	warnings, err := p.admitNew(ctx, h, r, obj, warnings)
	if err != nil {
		return nil, err
	}
	generate := obj.GetName() == "" && obj.GetGenerateName() != ""
	lost, redefined := map[string]bool{}, false
	for try := 0; ; try++ {
		if generate {
			obj.SetName(p.generateName(obj.GetGenerateName()))
		}
		res, err := p.tryCreate(ctx, h, r, obj, lost, redefined)
		var taken *takenError
		switch {
		case err == nil:
			res.Created, res.Warnings = true, append(warnings, res.Warnings...)
			return res, nil
		case errors.Is(err, errPicked) && try < maxPicks, errors.Is(err, errOvertaken) && try < maxAttempts:
			continue
		case errors.Is(err, errRedefined) && try < maxAttempts:
			redefined = true
			continue
		case errors.As(err, &taken):
			return nil, h.invalid(obj.GetName(), field.ErrorList{taken.field()})
		case isConflictOn(err, h.res.Key(r.Namespace, obj.GetName())):
			if generate && try < maxNames {
				continue
			}
			return nil, alreadyExists(h, obj, generate)
		}
		return nil, storeError(h.gr(), obj.GetName(), err)
	}
}

func alreadyExists(h *handle, obj registry.Object, generated bool) error {
	if generated {
		return apierrors.NewGenerateNameConflict(h.gr(), obj.GetName(), 1)
	}
	return apierrors.NewAlreadyExists(h.gr(), obj.GetName())
}

// admitNew defaults the object, sets up its metadata and lets the plugins change it.
func (p *Pipeline) admitNew(ctx context.Context, h *handle, r *Request, obj registry.Object, warnings []string) ([]string, error) {
	s := &h.res.Strategy
	if s.Default != nil {
		s.Default(obj)
	}
	// What a client may not set is no field of his.
	h.clearMeta(obj)
	if err := p.track(h, r, obj, nil); err != nil {
		return nil, err
	}
	a := h.attributesOfNew(r, obj)
	if err := p.mutate(ctx, a); err != nil {
		return nil, err
	}
	if s.Default != nil && len(p.cfg.Plugins) > 0 {
		s.Default(obj)
	}
	obj.SetUID(types.UID(p.newUID()))
	obj.SetCreationTimestamp(p.timestamp())
	if s.PrepareCreate != nil {
		s.PrepareCreate(obj)
	}
	if s.SetCreator != nil {
		s.SetCreator(obj, registry.Creator{Name: r.User.Name, UID: r.User.UID, Groups: r.User.Groups, Extra: r.User.Extra})
	}
	if s.SpecChanged != nil {
		obj.SetGeneration(1)
	}
	if s.Warnings != nil {
		warnings = append(warnings, s.Warnings(obj)...)
	}
	return append(warnings, a.Warnings()...), nil
}

// attributesOfNew are the attributes of a creation: the name is the object's, which the request need not have.
func (h *handle) attributesOfNew(r *Request, obj registry.Object) *admission.Attributes {
	a := h.attributes(r, admission.Create, obj, nil)
	a.Name = obj.GetName()
	return a
}

// clearMeta takes out of a new object's metadata what the system owns.
func (h *handle) clearMeta(obj registry.Object) {
	obj.SetUID("")
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	if !h.res.Namespaced {
		obj.SetNamespace("")
	}
}

// tryCreate allocates, validates and commits once. Redefined says that the definition of the kind is another than the cache had it.
func (p *Pipeline) tryCreate(ctx context.Context, h *handle, r *Request, admitted registry.Object, lost map[string]bool, redefined bool) (*Result, error) {
	s := &h.res.Strategy
	obj := admitted
	if s.Named != nil || s.Allocate != nil {
		obj = admitted.DeepCopyObject().(registry.Object)
	}
	if s.Named != nil {
		s.Named(obj)
	}
	if s.Allocate != nil {
		pick := p.picker(ctx, lost)
		errs := s.Allocate(obj, nil, pick)
		if pick.err != nil {
			return nil, pick.err
		}
		if err := h.invalid(obj.GetName(), errs); err != nil {
			return nil, err
		}
	}
	errs := h.res.CheckMeta(obj)
	if s.Validate != nil {
		errs = append(errs, s.Validate(obj)...)
	}
	if err := h.invalid(obj.GetName(), errs); err != nil {
		return nil, err
	}
	a := h.attributesOfNew(r, obj)
	if err := p.checkAdmission(ctx, a); err != nil {
		return nil, err
	}
	res, err := p.commitNew(ctx, h, r, obj, a, redefined)
	a.Settle(obj.GetResourceVersion(), err)
	if err == nil {
		res.Warnings = a.Warnings()
	}
	var taken *takenError
	if errors.As(err, &taken) && !slices.ContainsFunc(h.claims(admitted), func(c registry.Claim) bool { return c.Key == taken.claim.Key }) {
		lost[taken.claim.Key] = true
		return nil, errPicked
	}
	return res, err
}

func (p *Pipeline) commitNew(ctx context.Context, h *handle, r *Request, obj registry.Object, a *admission.Attributes, redefined bool) (*Result, error) {
	// Said last, as Kubernetes' store does: who may not create it anyway is told that.
	if obj.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	key := h.res.Key(r.Namespace, obj.GetName())
	value, err := p.encodeStored(h, obj)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	put := storage.Op{Type: storage.Put, Key: key, Value: value, If: storage.Absent}
	if r.DryRun {
		if _, _, err := p.cfg.Engine.Get(ctx, key, storage.Latest); err == nil {
			return nil, &storage.ConflictError{Key: key}
		} else if !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		return &Result{Object: h.storedObject(obj)}, nil
	}
	claims, err := p.claimOps(h, key, obj, nil)
	if err != nil {
		return nil, err
	}
	defined, err := p.whileDefined(ctx, h, redefined)
	if err != nil {
		return nil, err
	}
	ops := slices.Concat([]storage.Op{put}, defined, claims)
	if ops, err = p.companionOps(ops, a); err != nil {
		return nil, err
	}
	rev, err := p.cfg.Engine.Commit(ctx, ops...)
	if err != nil {
		return nil, p.claimError(h, obj, p.definitionError(h, p.companionError(a, err)))
	}
	return h.written(obj, value, rev)
}

// matchNamespace makes the object's namespace the request's, or refuses one that differs.
func matchNamespace(h *handle, r *Request, obj metav1.Object) error {
	if !h.res.Namespaced {
		if obj.GetNamespace() != "" {
			obj.SetNamespace("")
		}
		return nil
	}
	switch obj.GetNamespace() {
	case "":
		obj.SetNamespace(r.Namespace)
	case r.Namespace:
	default:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}
