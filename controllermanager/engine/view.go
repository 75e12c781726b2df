package engine

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

// View is a controller's handle on the mirror of one kind, which all controllers share. It may be read once Run has
// started the controller's loops. Objects are shared: never modify one.
type View[T client.Object] struct {
	client  *client.Client
	kind    client.Kind[T]
	scope   Scope
	indexes map[string]func(T) []string
	changes []func(client.Change[T])
	mirror  *client.Mirror[T]
}

// Index finds objects of a mirror by keys computed from them. The same name always means the same function.
type Index[T client.Object] struct {
	Name string
	Keys func(T) []string
}

// Scope restricts a mirror, where a controller needs few of many objects. Empty fields do not restrict.
type Scope struct {
	Namespace, Name string
}

func (s Scope) holds(namespace, name string) bool {
	return (s.Namespace == "" || s.Namespace == namespace) && (s.Name == "" || s.Name == name)
}

func (s Scope) fieldSelector() string {
	if s.Name == "" {
		return ""
	}
	return "metadata.name=" + s.Name
}

// viewID identifies a shared mirror.
type viewID struct {
	kind  plan.Kind
	scope Scope
}

// Mirror returns the view of a kind, with these indexes among others. It may be called from Setup only.
func Mirror[T client.Object](s *Setup, k client.Kind[T], indexes ...Index[T]) *View[T] {
	return MirrorScope(s, k, Scope{}, indexes...)
}

// MirrorScope is Mirror for some of a kind's objects.
func MirrorScope[T client.Object](s *Setup, k client.Kind[T], scope Scope, indexes ...Index[T]) *View[T] {
	id := viewID{plan.Of(k), scope}
	v, ok := s.engine.views[id].(*View[T])
	if !ok {
		v = &View[T]{kind: k, scope: scope, indexes: map[string]func(T) []string{}}
		s.engine.views[id] = v
	}
	for _, ix := range indexes {
		v.indexes[ix.Name] = ix.Keys
	}
	return v
}

// OnChange calls f for every difference. f must be quick: it is for adding keys to loops.
func (v *View[T]) OnChange(f func(old, new T)) {
	v.changes = append(v.changes, func(c client.Change[T]) { f(c.Old, c.New) })
}

// Enqueue adds the keys that f finds in the state before and after every change to a loop.
func (v *View[T]) Enqueue(l *Loop, f func(obj T) []string) {
	v.changes = append(v.changes, func(c client.Change[T]) {
		if c.Type != client.Added {
			l.Add(f(c.Old)...)
		}
		if c.Type != client.Deleted {
			l.Add(f(c.New)...)
		}
	})
}

// Get returns an object.
func (v *View[T]) Get(namespace, name string) (T, bool) { return v.mirror.Get(namespace, name) }

// List returns all objects, in no particular order.
func (v *View[T]) List() []T { return v.mirror.List() }

// ByIndex returns the objects under a key of an index, in no particular order. An index "namespace" always exists.
func (v *View[T]) ByIndex(index, key string) []T { return v.mirror.ByIndex(index, key) }

// Since returns the objects of a namespace as they were at a revision or later, for what must not be counted from an older
// state than that of something else. The mirror has them if it has got so far; it may not have, even if nothing of its kind
// has changed since, and then the API is asked.
func (v *View[T]) Since(ctx context.Context, namespace string, rev client.Revision) ([]T, error) {
	if v.mirror.Revision() >= rev {
		return v.ByIndex("namespace", namespace), nil
	}
	list, _, err := client.Of(v.client, v.kind).List(ctx, namespace, client.ListOptions{})
	return list, err
}

// anyView is what the engine needs of a view whatever its type.
type anyView interface {
	build(e *Engine)
	run(ctx context.Context) error
	waitSynced(ctx context.Context) error
	// await returns when the mirror shows the outcome of a write.
	await(ctx context.Context, w outcome) error
}

// outcome is what a mirror must show before the writer's key is looked at again.
type outcome struct {
	namespace, name string
	// revision of the write; 0 if it is not known.
	revision client.Revision
	// gone is the uid of a deleted object that must be absent or marked as being deleted; empty after other writes.
	gone types.UID
}

func (v *View[T]) build(e *Engine) {
	v.client = e.opts.Client
	v.mirror = client.NewMirror(e.opts.Client, v.kind, client.MirrorOptions[T]{
		Namespace: v.scope.Namespace, FieldSelector: v.scope.fieldSelector(), Indexes: v.indexes, Log: e.opts.Log,
	})
	for _, f := range v.changes {
		v.mirror.OnChange(f)
	}
}

func (v *View[T]) run(ctx context.Context) error        { return v.mirror.Run(ctx) }
func (v *View[T]) waitSynced(ctx context.Context) error { return v.mirror.WaitSynced(ctx) }

func (v *View[T]) await(ctx context.Context, w outcome) error {
	if w.revision > 0 {
		if err := v.mirror.WaitRevision(ctx, w.revision); err != nil {
			return err
		}
	}
	if w.gone == "" {
		return nil
	}
	for {
		rev := v.mirror.Revision()
		obj, ok := v.mirror.Get(w.namespace, w.name)
		if !ok || obj.GetUID() != w.gone || obj.GetDeletionTimestamp() != nil {
			return nil
		}
		if err := v.mirror.WaitRevision(ctx, rev+1); err != nil {
			return fmt.Errorf("deletion of %s/%s: %w", w.namespace, w.name, err)
		}
	}
}

// PodsByNode finds pods by the node they are bound to.
var PodsByNode = Index[*corev1.Pod]{"node", func(p *corev1.Pod) []string {
	if p.Spec.NodeName == "" {
		return nil
	}
	return []string{p.Spec.NodeName}
}}

// ByController finds objects by their controller's uid, and those that have none by Orphans of their namespace.
func ByController[T client.Object]() Index[T] {
	return Index[T]{"controller", func(obj T) []string {
		if c := metav1.GetControllerOfNoCopy(obj); c != nil {
			return []string{string(c.UID)}
		}
		return []string{Orphans(obj.GetNamespace())}
	}}
}

// Orphans is the key of ByController for the objects of a namespace without a controller. No uid contains a slash.
func Orphans(namespace string) string { return "orphans/" + namespace }

// Owned returns the objects that o controls and those of its namespace that have no controller: the candidates of
// owner.Claim.
func Owned[T client.Object](v *View[T], o metav1.Object) []T {
	return append(v.ByIndex("controller", string(o.GetUID())), v.ByIndex("controller", Orphans(o.GetNamespace()))...)
}

// ControllerKey returns the key, namespace/name, of an object's controller if that is of the given kind.
func ControllerKey(obj metav1.Object, k plan.Kind) []string {
	c := metav1.GetControllerOfNoCopy(obj)
	if c == nil || c.Kind != k.Kind || c.APIVersion != k.APIVersion() {
		return nil
	}
	return []string{obj.GetNamespace() + "/" + c.Name}
}

// Key is namespace/name, or only the name of a cluster-scoped object.
func Key(obj metav1.Object) string {
	if obj.GetNamespace() == "" {
		return obj.GetName()
	}
	return obj.GetNamespace() + "/" + obj.GetName()
}

// Self enqueues an object under its own key.
func Self[T client.Object](obj T) []string { return []string{Key(obj)} }
