// Package garbagecollector deletes objects whose owners are gone, as their metadata.ownerReferences say, for every kind that
// the server serves, custom ones too.
//
// Graph holds the metadata of all objects; Decide is the pure decision about one of them. The rules:
//
//   - An object none of whose owners exists is deleted. If at least one exists, it stays and loses its references to the
//     others.
//   - An owner is the object with the reference's uid. That it is gone is believed only after a quorum read, by kind and
//     name in the dependent's namespace: another object under that name, or one in another namespace, is not the owner.
//   - Foreground deletion: an owner with the foregroundDeletion finalizer waits until no dependent with blockOwnerDeletion is
//     left; its dependents are deleted meanwhile, in the foreground if they have dependents themselves.
//   - Orphaning: an owner with the orphan finalizer waits until every dependent has lost its reference to it.
//   - That such an owner has no dependents left is believed only after quorum reads: kinds are followed each at its own pace,
//     so that the graph may know of an owner's deletion before it knows of a dependent.
//
// Every write carries the resource version of the object that was judged.
package garbagecollector

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

// State is what is known of an owner.
type State uint8

// The states of an owner.
const (
	// Present: it exists, or it is not certain that it does not.
	Present State = iota
	// Absent: a quorum read did not find it.
	Absent
	// Waiting: it is being deleted in the foreground and waits for its dependents.
	Waiting
)

// Input is what a decision is made from.
type Input struct {
	Item *Item
	// Dependents are the objects that name Item as an owner. Complete is false while the graph may lack some.
	Dependents []*Item
	Complete   bool
	// Owners are the states of Item.Owners, in their order.
	Owners []State
}

// Decide plans what to do about one object.
func Decide(in Input) plan.Plan {
	var p plan.Plan
	switch it := in.Item; {
	case it.orphans():
		orphan(&p, in)
	case it.waitsForDependents():
		if lonely(in) {
			p.Add(withoutFinalizer(it, metav1.FinalizerDeleteDependents))
		}
	case it.Deleting:
		// On its way already.
	case len(it.Owners) > 0:
		judge(&p, in)
	}
	return p
}

// orphan takes the references away from the dependents; once that can be seen, the finalizer goes.
func orphan(p *plan.Plan, in Input) {
	for _, d := range in.Dependents {
		if !d.Deleting || len(d.Finalizers) > 0 {
			p.Add(withoutOwners(d, func(ref metav1.OwnerReference) bool { return ref.UID == in.Item.UID }))
		}
	}
	if lonely(in) {
		p.Add(withoutFinalizer(in.Item, metav1.FinalizerOrphanDependents))
	}
}

// lonely reports whether nothing is left of what a deleted owner waits for.
func lonely(in Input) bool {
	switch it := in.Item; {
	case !in.Complete:
		return false
	case it.orphans():
		return len(in.Dependents) == 0
	default:
		return it.waitsForDependents() && !blocked(in)
	}
}

// blocked reports whether a dependent still holds its owner back.
func blocked(in Input) bool {
	return slices.ContainsFunc(in.Dependents, func(d *Item) bool {
		ref := d.owner(in.Item.UID)
		return ref != nil && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
	})
}

// judge decides about an object by its owners.
func judge(p *plan.Plan, in Input) {
	it := in.Item
	present := slices.Contains(in.Owners, Present)
	gone := func(ref metav1.OwnerReference) bool {
		i := slices.IndexFunc(it.Owners, func(o metav1.OwnerReference) bool { return o.UID == ref.UID })
		return in.Owners[i] != Present
	}
	if present {
		if slices.ContainsFunc(it.Owners, gone) {
			p.Add(withoutOwners(it, gone))
		}
		return
	}
	if slices.Contains(in.Owners, Waiting) && len(in.Dependents) > 0 {
		if cyclic(in) {
			// A dependent of this object is itself waiting for its dependents; blocking on each other they would wait for ever.
			if w, ok := unblocking(it); ok {
				p.Add(w)
				return
			}
		}
		p.Add(deletion(it, client.PropagateForeground))
		return
	}
	switch {
	case it.has(metav1.FinalizerOrphanDependents):
		p.Add(deletion(it, client.PropagateOrphan))
	case it.has(metav1.FinalizerDeleteDependents):
		p.Add(deletion(it, client.PropagateForeground))
	default:
		p.Add(deletion(it, client.PropagateBackground))
	}
}

func cyclic(in Input) bool {
	return slices.ContainsFunc(in.Dependents, (*Item).waitsForDependents)
}

// unblocking takes blockOwnerDeletion from all of an object's references.
func unblocking(it *Item) (plan.Write, bool) {
	refs := slices.Clone(it.Owners)
	changed := false
	no := false
	for i := range refs {
		if refs[i].BlockOwnerDeletion != nil && *refs[i].BlockOwnerDeletion {
			refs[i].BlockOwnerDeletion = &no
			changed = true
		}
	}
	obj := it.Object()
	return plan.MergePatch(it.Kind, obj, owner.RefsPatch(obj, refs)), changed
}

func deletion(it *Item, how client.Propagation) plan.Write {
	w := plan.Delete(it.Kind, it.Object())
	w.Propagation = how
	return w
}

func withoutOwners(it *Item, drop func(metav1.OwnerReference) bool) plan.Write {
	var keep []metav1.OwnerReference
	for _, ref := range it.Owners {
		if !drop(ref) {
			keep = append(keep, ref)
		}
	}
	obj := it.Object()
	return plan.MergePatch(it.Kind, obj, owner.RefsPatch(obj, keep))
}

func withoutFinalizer(it *Item, finalizer string) plan.Write {
	obj := it.Object()
	var keep []string
	for _, f := range it.Finalizers {
		if f != finalizer {
			keep = append(keep, f)
		}
	}
	return plan.MergePatch(it.Kind, obj, owner.MetaPatch(obj, map[string]any{"finalizers": keep}))
}
