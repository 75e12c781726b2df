package pipeline

import (
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/patch"
	"bareboat.dev/apiserver/registry"
)

// track records in the new object's managed fields what the request changed; old is nil for a new object. As in Kubernetes
// it comes after defaulting and before admission. An apply has recorded that already.
//
// Objects that only the cluster's own components have written carry no record: a pod that a controller made, a scheduler
// bound and a kubelet reports on is shared by parts that never touch each other's fields, and the record would take half of
// the time and a third of the memory of every such object. It begins with the first writer from outside; should that one
// apply, what was there before is owned by "before-first-apply", as Kubernetes has it for objects from before KEP-555.
func (p *Pipeline) track(h *handle, r *Request, obj, old registry.Object) error {
	if r.Verb == Patch && r.PatchType == ApplyPatch {
		return nil
	}
	if component(r.User) && len(obj.GetManagedFields()) == 0 && (old == nil || len(old.GetManagedFields()) == 0) {
		obj.SetManagedFields(nil)
		return nil
	}
	manager := patch.ManagerName(r.FieldManager, r.UserAgent)
	if old == nil && len(obj.GetManagedFields()) == 0 && h.res.Custom == nil {
		return p.trackNew(h, r, obj, manager)
	}
	if err := p.fields.Track(h.res, r.Subresource, obj, old, manager); err != nil {
		return apierrors.NewInternalError(err)
	}
	return nil
}

// component reports whether the user is a part of the cluster itself.
func component(u *authn.Identity) bool {
	switch u.Name {
	case "system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy", "system:bareboat:dns":
		return true
	}
	return strings.HasPrefix(u.Name, authn.NodeUserPrefix)
}

// trackNew is track for a new object. Objects of one shape, such as the pods of one template, have the same fields, so what
// has been worked out for one of them serves the others.
func (p *Pipeline) trackNew(h *handle, r *Request, obj registry.Object, manager string) error {
	k, err := shapeOf(h.res, obj, manager)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if fields, ok := p.shapes.get(k); ok {
		obj.SetManagedFields(stamped(fields, p.now()))
		return nil
	}
	if err := p.fields.Track(h.res, "", obj, nil, manager); err != nil {
		return apierrors.NewInternalError(err)
	}
	p.shapes.put(k, obj.GetManagedFields())
	return nil
}

// stamped returns a record with another time. The field sets are shared; nobody changes them.
func stamped(fields []metav1.ManagedFieldsEntry, now time.Time) []metav1.ManagedFieldsEntry {
	out := make([]metav1.ManagedFieldsEntry, len(fields))
	copy(out, fields)
	at := metav1.NewTime(now.Truncate(time.Second))
	for i := range out {
		out[i].Time = &at
	}
	return out
}

// shape is the hash of everything that a new object's field set depends on.
type shape [sha256.Size]byte

// shapeOf hashes the object without its name, which is no managed field.
func shapeOf(res *registry.Resource, obj registry.Object, manager string) (shape, error) {
	name := obj.GetName()
	obj.SetName("")
	raw, err := obj.Marshal()
	obj.SetName(name)
	if err != nil {
		return shape{}, err
	}
	sum := sha256.New()
	sum.Write([]byte(res.Kind.String()))
	sum.Write([]byte{0})
	sum.Write([]byte(manager))
	sum.Write([]byte{0})
	sum.Write(raw)
	return shape(sum.Sum(nil)), nil
}

// maxShapes bounds the cache of shapes: a record is about a KiB, so 4 MiB in all. A cluster has about one shape in use for
// each workload that is being rolled out.
const maxShapes = 4096

// shapeCache keeps records by shape. When it is full it starts anew: the shapes in use come back at once.
type shapeCache struct {
	mu     sync.Mutex
	fields map[shape][]metav1.ManagedFieldsEntry
}

func (c *shapeCache) get(k shape) ([]metav1.ManagedFieldsEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.fields[k]
	return f, ok
}

func (c *shapeCache) put(k shape, fields []metav1.ManagedFieldsEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fields == nil || len(c.fields) >= maxShapes {
		c.fields = map[shape][]metav1.ManagedFieldsEntry{}
	}
	c.fields[k] = fields
}

// checkManager holds a request's field manager to Kubernetes' rules.
func checkManager(r *Request) error {
	var errs field.ErrorList
	if r.PatchType == ApplyPatch && r.FieldManager == "" {
		errs = append(errs, field.Required(field.NewPath("fieldManager"), "is required for apply patch"))
	}
	if r.PatchType != ApplyPatch && r.Force {
		errs = append(errs, field.Forbidden(field.NewPath("force"), "may not be specified for non-apply patch"))
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}, "", errs)
}
