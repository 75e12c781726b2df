package garbagecollector

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/controllermanager/plan"
)

// Item is what the graph knows of an object.
type Item struct {
	Kind            plan.Kind
	Namespace, Name string
	UID             types.UID
	ResourceVersion string
	Owners          []metav1.OwnerReference
	Finalizers      []string
	// Deleting is set once the object has a deletion timestamp.
	Deleting bool
}

// newItem takes from an object's metadata what matters here.
func newItem(k plan.Kind, m metav1.Object) *Item {
	return &Item{
		Kind: k, Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUID(), ResourceVersion: m.GetResourceVersion(),
		Owners: m.GetOwnerReferences(), Finalizers: m.GetFinalizers(), Deleting: m.GetDeletionTimestamp() != nil,
	}
}

// Object returns the item's metadata as an object to write about.
func (it *Item) Object() plan.Object {
	return &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: it.Kind.APIVersion(), Kind: it.Kind.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: it.Namespace, Name: it.Name, UID: it.UID, ResourceVersion: it.ResourceVersion,
			OwnerReferences: it.Owners, Finalizers: it.Finalizers,
		},
	}
}

func (it *Item) has(finalizer string) bool { return slices.Contains(it.Finalizers, finalizer) }

// waitsForDependents reports whether the object is being deleted in the foreground, and orphans whether its dependents are
// to be orphaned first.
func (it *Item) waitsForDependents() bool {
	return it.Deleting && it.has(metav1.FinalizerDeleteDependents)
}
func (it *Item) orphans() bool { return it.Deleting && it.has(metav1.FinalizerOrphanDependents) }

// owner returns the item's reference to an owner, nil if it has none.
func (it *Item) owner(uid types.UID) *metav1.OwnerReference {
	for i := range it.Owners {
		if it.Owners[i].UID == uid {
			return &it.Owners[i]
		}
	}
	return nil
}

// Graph holds all objects and who owns whom. It is a plain data structure: each change returns the uids of the objects
// whose fate it may have changed.
type Graph struct {
	items      map[types.UID]*Item
	dependents map[types.UID]map[types.UID]*Item
	byKind     map[plan.Kind]map[types.UID]*Item
}

// NewGraph returns an empty graph.
func NewGraph() *Graph {
	return &Graph{items: map[types.UID]*Item{}, dependents: map[types.UID]map[types.UID]*Item{}, byKind: map[plan.Kind]map[types.UID]*Item{}}
}

// Get returns an object, nil if the graph does not hold it.
func (g *Graph) Get(uid types.UID) *Item { return g.items[uid] }

// Dependents returns the objects that name uid as an owner, by uid so that the order is always the same.
func (g *Graph) Dependents(uid types.UID) []*Item {
	out := make([]*Item, 0, len(g.dependents[uid]))
	for _, it := range g.dependents[uid] {
		out = append(out, it)
	}
	slices.SortFunc(out, func(a, b *Item) int {
		switch {
		case a.UID < b.UID:
			return -1
		case a.UID > b.UID:
			return 1
		}
		return 0
	})
	return out
}

// Put adds or replaces an object.
func (g *Graph) Put(it *Item) (dirty []types.UID) {
	old := g.items[it.UID]
	if old != nil {
		dirty = g.unlink(old)
	}
	g.items[it.UID] = it
	if g.byKind[it.Kind] == nil {
		g.byKind[it.Kind] = map[types.UID]*Item{}
	}
	g.byKind[it.Kind][it.UID] = it
	for _, ref := range it.Owners {
		if g.dependents[ref.UID] == nil {
			g.dependents[ref.UID] = map[types.UID]*Item{}
		}
		g.dependents[ref.UID][it.UID] = it
		// An owner that is being deleted must learn of a dependent that came late.
		if o := g.items[ref.UID]; o != nil && o.Deleting {
			dirty = append(dirty, ref.UID)
		}
	}
	if len(it.Owners) > 0 || it.Deleting {
		dirty = append(dirty, it.UID)
	}
	if it.Deleting && (old == nil || !old.Deleting || it.waitsForDependents() != old.waitsForDependents()) {
		dirty = append(dirty, g.dependentUIDs(it.UID)...)
	}
	return dirty
}

// Remove takes an object out. Its dependents have lost an owner; its owners may have lost what they waited for.
func (g *Graph) Remove(uid types.UID) (dirty []types.UID) {
	it := g.items[uid]
	if it == nil {
		return nil
	}
	dirty = append(g.unlink(it), g.dependentUIDs(uid)...)
	delete(g.items, uid)
	delete(g.byKind[it.Kind], uid)
	return dirty
}

// Replace makes the given objects the only ones of their kind, as a new snapshot says.
func (g *Graph) Replace(k plan.Kind, items []*Item) (dirty []types.UID) {
	keep := make(map[types.UID]bool, len(items))
	for _, it := range items {
		keep[it.UID] = true
		dirty = append(dirty, g.Put(it)...)
	}
	for uid := range g.byKind[k] {
		if !keep[uid] {
			dirty = append(dirty, g.Remove(uid)...)
		}
	}
	return dirty
}

func (g *Graph) dependentUIDs(uid types.UID) []types.UID {
	var out []types.UID
	for _, it := range g.Dependents(uid) {
		out = append(out, it.UID)
	}
	return out
}

// unlink removes an object's edges to its owners and returns the owners that are being deleted.
func (g *Graph) unlink(it *Item) (dirty []types.UID) {
	for _, ref := range it.Owners {
		delete(g.dependents[ref.UID], it.UID)
		if len(g.dependents[ref.UID]) == 0 {
			delete(g.dependents, ref.UID)
		}
		if o := g.items[ref.UID]; o != nil && o.Deleting {
			dirty = append(dirty, ref.UID)
		}
	}
	return dirty
}
