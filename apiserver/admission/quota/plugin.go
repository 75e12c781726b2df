package quota

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
)

// Plugin enforces ResourceQuotas. It must be the last of the plugins: what it charges is committed with the write.
func Plugin(reader admission.Reader, now func() time.Time) admission.Plugin {
	e := &enforcer{reader: reader, now: now, rooms: map[string]*room{}}
	if all, ok := reader.Collection("", "resourcequotas"); ok {
		e.all = all
	}
	return admission.Plugin{
		Name:     "ResourceQuota",
		Obeys:    []schema.GroupResource{{Resource: "resourcequotas"}},
		Validate: e.validate,
	}
}

type enforcer struct {
	reader admission.Reader
	all    admission.Collection // nil if there are no quotas
	now    func() time.Time

	mu    sync.Mutex
	rooms map[string]*room
}

// room is a namespace with quotas. Its writers take turns from reading the quotas until they have committed, since of several that began
// from one state of a quota all but one would have to start again.
type room struct {
	turn    chan struct{}
	waiting int
	// latest are the quotas as this server has last committed them, which the cache may not show yet.
	latest map[string]*corev1.ResourceQuota
	// behind: somebody else has changed a quota and the cache did not show it.
	behind bool
}

func (e *enforcer) validate(ctx context.Context, a *admission.Attributes) error {
	if a.Namespace == "" || a.Operation == admission.Delete || a.Object == nil {
		return nil
	}
	if e.all == nil || e.all.Empty() {
		return nil
	}
	gr := schema.GroupResource{Group: a.Resource.Kind.Group, Resource: a.Resource.Plural}
	w := &Write{Resource: gr, Subresource: a.Subresource, Object: a.Object, Old: a.Old}
	if a.Operation == admission.Create {
		w.Old = nil
	}
	if gr.Group == "" && gr.Resource == "namespaces" || !w.Counts() {
		return nil
	}
	quotas, err := e.reader.Objects(ctx, "", "resourcequotas", a.Namespace)
	if err != nil || len(quotas) == 0 {
		return err
	}
	return e.enter(ctx, a, w)
}

// enter waits for the namespace's turn and judges the write. The turn is held until the write has settled.
func (e *enforcer) enter(ctx context.Context, a *admission.Attributes, w *Write) error {
	r := e.room(a.Namespace)
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		e.leave(a.Namespace, r)
		return ctx.Err()
	}
	charged, err := e.decide(ctx, a, w, r)
	if err != nil || len(charged) == 0 || a.DryRun {
		<-r.turn
		e.leave(a.Namespace, r)
		return err
	}
	for _, q := range charged {
		a.Together(admission.Companion{Plural: "resourcequotas", Object: q})
	}
	a.OnSettled(func(version string, err error) {
		r.settle(charged, version, err)
		<-r.turn
		e.leave(a.Namespace, r)
	})
	return nil
}

func (e *enforcer) decide(ctx context.Context, a *admission.Attributes, w *Write, r *room) ([]*corev1.ResourceQuota, error) {
	cached, err := e.reader.Objects(ctx, "", "resourcequotas", a.Namespace)
	if err != nil {
		return nil, err
	}
	quotas, err := e.newest(ctx, r, cached)
	if err != nil {
		return nil, err
	}
	charged, err := Check(quotas, w, e.now())
	if err != nil {
		return nil, apierrors.NewForbidden(w.Resource, a.ObjectName(), err)
	}
	return charged, nil
}

// newest returns the quotas as they are now, as far as this server can know: whoever else has changed one makes the commit fail.
func (e *enforcer) newest(ctx context.Context, r *room, cached []registry.Object) ([]*corev1.ResourceQuota, error) {
	behind := r.behind
	r.behind = false
	var quotas []*corev1.ResourceQuota
	for _, obj := range cached {
		q := obj.(*corev1.ResourceQuota)
		switch mine := r.latest[q.Name]; {
		case behind:
			fresh, ok, err := e.reader.Object(ctx, "", "resourcequotas", q.Namespace, q.Name, true)
			if err != nil {
				r.behind = true
				return nil, err
			}
			if !ok {
				continue
			}
			q = fresh.(*corev1.ResourceQuota)
			delete(r.latest, q.Name)
		case mine != nil && mine.UID == q.UID && later(mine.ResourceVersion, q.ResourceVersion):
			q = mine
		case mine != nil:
			delete(r.latest, q.Name)
		}
		quotas = append(quotas, q)
	}
	return quotas, nil
}

// later compares resource versions, which are numbers without leading zeros.
func later(a, b string) bool { return len(a) > len(b) || len(a) == len(b) && a > b }

// settle remembers what was committed, or that the quotas must be read again.
func (r *room) settle(charged []*corev1.ResourceQuota, version string, err error) {
	if err != nil || version == "" {
		r.behind = r.behind || err != nil
		return
	}
	for _, q := range charged {
		q.ResourceVersion = version
		r.latest[q.Name] = q
	}
}

func (e *enforcer) room(namespace string) *room {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.rooms[namespace]
	if r == nil {
		r = &room{turn: make(chan struct{}, 1), latest: map[string]*corev1.ResourceQuota{}}
		e.rooms[namespace] = r
	}
	r.waiting++
	return r
}

// maxRooms bounds the namespaces that are remembered while nobody writes to them: some KiB each. What is forgotten costs its next writer a
// second try at most.
const maxRooms = 1024

func (e *enforcer) leave(namespace string, r *room) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.waiting--; r.waiting == 0 && len(e.rooms) > maxRooms {
		delete(e.rooms, namespace)
	}
}
