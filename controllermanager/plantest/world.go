// Package plantest is a small model of the API's store for tests of pure controller cores, and the properties that every
// core must have: it converges, from any prefix of any of its plans, and a decision from a stale view can only fail.
//
// A World is plain data that can be copied, so a test can crash a controller after every single write and see what becomes
// of each crash. It knows revisions, preconditions, generations, status and spec apart, finalizers, graceful deletion of
// bound pods, and merge patches; nothing else happens in it unless a test's environment does it.
package plantest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/controllermanager/plan"
)

// What a write fails with.
var (
	ErrConflict = errors.New("conflict")
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
)

type key struct {
	kind            plan.Kind
	namespace, name string
}

// World is a store.
type World struct {
	objects  map[key]plan.Object
	revision int64
	uids     int
	// Now is the time of creations and deletions.
	Now time.Time
}

// New returns an empty world at a fixed time.
func New() *World {
	return &World{objects: map[key]plan.Object{}, Now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
}

// Clone returns a copy. Objects are never changed in place, so they are shared.
func (w *World) Clone() *World {
	next := *w
	next.objects = maps.Clone(w.objects)
	return &next
}

// Advance moves the clock.
func (w *World) Advance(d time.Duration) { w.Now = w.Now.Add(d) }

// Revision counts the writes.
func (w *World) Revision() int64 { return w.revision }

func keyOf(k plan.Kind, obj plan.Object) key { return key{k, obj.GetNamespace(), obj.GetName()} }

func clone(obj plan.Object) plan.Object { return obj.DeepCopyObject().(plan.Object) }

// Put creates or replaces an object without any check, as a test's setup or as another writer would, and returns it as
// stored.
func Put[T plan.Object](w *World, k plan.Kind, obj T) T {
	id := keyOf(k, obj)
	stored := clone(obj)
	if have := w.objects[id]; have != nil {
		stored.SetUID(have.GetUID())
		stored.SetCreationTimestamp(have.GetCreationTimestamp())
		stored.SetGeneration(have.GetGeneration())
		if !sameSpec(have, stored) {
			stored.SetGeneration(have.GetGeneration() + 1)
		}
	} else {
		w.born(stored)
	}
	w.store(id, stored)
	return Get[T](w, k, obj.GetNamespace(), obj.GetName())
}

func (w *World) born(obj plan.Object) {
	w.uids++
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(fmt.Sprintf("uid-%04d", w.uids)))
	}
	if obj.GetCreationTimestamp().Time.IsZero() {
		obj.SetCreationTimestamp(metav1.NewTime(w.Now))
	}
	obj.SetGeneration(1)
}

func (w *World) store(id key, obj plan.Object) {
	w.revision++
	obj.SetResourceVersion(strconv.FormatInt(w.revision, 10))
	w.objects[id] = obj
}

// Get returns an object; the zero value if it does not exist.
func Get[T plan.Object](w *World, k plan.Kind, namespace, name string) T {
	obj, _ := w.objects[key{k, namespace, name}].(T)
	return obj
}

// List returns the objects of a kind, sorted. They are shared: copy before changing.
func List[T plan.Object](w *World, k plan.Kind) []T {
	var out []T
	for id, obj := range w.objects {
		if id.kind == k {
			out = append(out, obj.(T))
		}
	}
	slices.SortFunc(out, func(a, b T) int {
		return strings.Compare(a.GetNamespace()+"/"+a.GetName(), b.GetNamespace()+"/"+b.GetName())
	})
	return out
}

// Exists reports whether there is such an object.
func (w *World) Exists(k plan.Kind, namespace, name string) bool {
	return w.objects[key{k, namespace, name}] != nil
}

// Remove takes an object out at once, as its last finalizer or a kubelet would.
func (w *World) Remove(k plan.Kind, namespace, name string) {
	w.revision++
	delete(w.objects, key{k, namespace, name})
}

// Apply carries out one write as the API would.
func (w *World) Apply(x plan.Write) error {
	id := keyOf(x.Kind, x.Object)
	have := w.objects[id]
	if x.Verb == plan.VerbCreate {
		if have != nil {
			return ErrExists
		}
		obj := clone(x.Object)
		w.born(obj)
		w.store(id, obj)
		return nil
	}
	if have == nil || have.GetUID() != x.Object.GetUID() {
		return ErrNotFound
	}
	if have.GetResourceVersion() != x.Object.GetResourceVersion() && !x.AnyVersion {
		return ErrConflict
	}
	if x.Guard != nil {
		owner := w.objects[key{x.Guard.Kind, x.Guard.Namespace, x.Guard.Name}]
		if owner == nil || string(owner.GetUID()) != x.Guard.UID || owner.GetDeletionTimestamp() != nil {
			return ErrNotFound
		}
	}
	switch x.Verb {
	case plan.VerbUpdate:
		return w.update(id, have, clone(x.Object), x.Subresource)
	case plan.VerbMergePatch:
		next, err := patched(have, x.Patch)
		if err != nil {
			return err
		}
		return w.update(id, have, next, x.Subresource)
	default:
		w.delete(id, have, x)
		return nil
	}
}

// update stores next; the part that the request is not about stays as it was.
func (w *World) update(id key, have, next plan.Object, subresource string) error {
	mine, other := fields(next), fields(have)
	if subresource == "status" {
		status := mine["status"]
		mine = fields(have)
		mine["status"] = status
	} else if s, ok := other["status"]; ok {
		mine["status"] = s
	} else {
		delete(mine, "status")
	}
	obj, err := build(next, mine)
	if err != nil {
		return err
	}
	obj.SetUID(have.GetUID())
	obj.SetResourceVersion(have.GetResourceVersion())
	obj.SetGeneration(have.GetGeneration())
	if !sameSpec(have, obj) {
		obj.SetGeneration(have.GetGeneration() + 1)
	}
	if reflect.DeepEqual(fields(obj), fields(have)) {
		return nil
	}
	if obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 && id.kind != plan.Pods {
		w.Remove(id.kind, id.namespace, id.name)
		return nil
	}
	w.store(id, obj)
	return nil
}

// delete removes an object, or marks it if it has finalizers or is a pod that a kubelet must stop.
func (w *World) delete(id key, have plan.Object, x plan.Write) {
	now := x.Grace != nil && *x.Grace == 0
	pod, isPod := have.(*corev1.Pod)
	running := isPod && pod.Spec.NodeName != "" && !now
	if len(have.GetFinalizers()) == 0 && !running {
		w.Remove(id.kind, id.namespace, id.name)
		return
	}
	if have.GetDeletionTimestamp() != nil {
		return
	}
	next := clone(have)
	at := metav1.NewTime(w.Now)
	next.SetDeletionTimestamp(&at)
	w.store(id, next)
}

func fields(obj plan.Object) map[string]any {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		panic(err)
	}
	return m
}

func sameSpec(a, b plan.Object) bool {
	return reflect.DeepEqual(fields(a)["spec"], fields(b)["spec"])
}

// build makes an object of like's type.
func build(like plan.Object, m map[string]any) (plan.Object, error) {
	obj := reflect.New(reflect.TypeOf(like).Elem()).Interface().(plan.Object)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, obj); err != nil {
		return nil, err
	}
	return obj, nil
}

func patched(have plan.Object, patch []byte) (plan.Object, error) {
	raw, err := json.Marshal(have)
	if err != nil {
		return nil, err
	}
	var doc, p map[string]any
	if err := errors.Join(json.Unmarshal(raw, &doc), json.Unmarshal(patch, &p)); err != nil {
		return nil, err
	}
	merge(doc, p)
	merged, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	obj := reflect.New(reflect.TypeOf(have).Elem()).Interface().(plan.Object)
	return obj, json.Unmarshal(merged, obj)
}

// merge is RFC 7396.
func merge(doc, patch map[string]any) {
	for k, v := range patch {
		sub, isMap := v.(map[string]any)
		switch {
		case v == nil:
			delete(doc, k)
		case isMap:
			inner, ok := doc[k].(map[string]any)
			if !ok {
				inner = map[string]any{}
			}
			merge(inner, sub)
			doc[k] = inner
		default:
			doc[k] = v
		}
	}
}

// Dump prints everything but uids, revisions, generations and times, sorted, one object a line: what two runs of the same story must
// agree in.
func (w *World) Dump() string {
	var lines []string
	for id, obj := range w.objects {
		m := fields(obj)
		meta, _ := m["metadata"].(map[string]any)
		for _, f := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields"} {
			delete(meta, f)
		}
		scrub(m)
		text, err := json.Marshal(m)
		if err != nil {
			panic(err)
		}
		lines = append(lines, fmt.Sprintf("%s %s/%s %s", id.kind, id.namespace, id.name, text))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// scrub removes times, generations and uids at any depth.
func scrub(v any) {
	switch x := v.(type) {
	case map[string]any:
		for k, inner := range x {
			if k == "uid" || k == "generation" || k == "observedGeneration" || strings.HasSuffix(k, "edAt") || strings.HasSuffix(k, "Time") || strings.HasSuffix(k, "Timestamp") {
				delete(x, k)
				continue
			}
			scrub(inner)
		}
	case []any:
		for _, inner := range x {
			scrub(inner)
		}
	}
}
