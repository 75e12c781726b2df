// Package owner decides which objects belong to a controller: what it keeps, adopts and releases, by label selector and
// controller reference. It is pure.
//
// The rules, the same for every controller with a selector:
//
//   - An object whose controller reference has the owner's uid belongs to it. If its labels no longer match it is released
//     (the reference removed), unless the owner is being deleted: then the collector will deal with it.
//   - An object with another controller is left alone, whatever its labels.
//   - An object without a controller is adopted if it matches and neither it nor the owner is being deleted.
package owner

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/controllermanager/plan"
)

// Ref returns the controller reference that an object of kind k gives its dependents.
func Ref(k plan.Kind, o metav1.Object) metav1.OwnerReference {
	yes := true
	return metav1.OwnerReference{
		APIVersion: k.APIVersion(), Kind: k.Kind, Name: o.GetName(), UID: o.GetUID(), Controller: &yes, BlockOwnerDeletion: &yes,
	}
}

// UID returns the uid of an object's controller, empty without one.
func UID(o metav1.Object) types.UID {
	if c := metav1.GetControllerOfNoCopy(o); c != nil {
		return c.UID
	}
	return ""
}

// Claims is what Claim decided.
type Claims[T plan.Object] struct {
	// Owned are the objects that belong to the owner already and still match.
	Owned []T
	// Writes adopt and release.
	Writes []plan.Write
}

// Claim sorts candidates, objects of kind k in the owner's namespace, into what belongs to the owner. Adopted objects
// count as owned once the adoption can be seen, not before.
func Claim[T plan.Object](ownerKind plan.Kind, o metav1.Object, sel labels.Selector, k plan.Kind, candidates []T) Claims[T] {
	var c Claims[T]
	deleting := o.GetDeletionTimestamp() != nil
	for _, obj := range candidates {
		matches := sel.Matches(labels.Set(obj.GetLabels()))
		switch uid := UID(obj); {
		case uid == o.GetUID() && matches:
			c.Owned = append(c.Owned, obj)
		case uid == o.GetUID() && deleting:
			// Left for the collector.
		case uid == o.GetUID():
			c.Writes = append(c.Writes, release(k, obj, o.GetUID()))
		case uid == "" && matches && !deleting && obj.GetDeletionTimestamp() == nil:
			c.Writes = append(c.Writes, adopt(ownerKind, o, k, obj))
		}
	}
	return c
}

func adopt(ownerKind plan.Kind, o metav1.Object, k plan.Kind, obj plan.Object) plan.Write {
	refs := append(append([]metav1.OwnerReference(nil), obj.GetOwnerReferences()...), Ref(ownerKind, o))
	w := plan.MergePatch(k, obj, RefsPatch(obj, refs))
	w.Guard = &plan.Guard{Kind: ownerKind, Namespace: o.GetNamespace(), Name: o.GetName(), UID: string(o.GetUID())}
	return w
}

func release(k plan.Kind, obj plan.Object, uid types.UID) plan.Write {
	var refs []metav1.OwnerReference
	for _, r := range obj.GetOwnerReferences() {
		if r.UID != uid {
			refs = append(refs, r)
		}
	}
	return plan.MergePatch(k, obj, RefsPatch(obj, refs))
}

// RefsPatch returns the merge patch that gives obj, as it was seen, these owner references and no others.
func RefsPatch(obj metav1.Object, refs []metav1.OwnerReference) []byte {
	return MetaPatch(obj, map[string]any{"ownerReferences": refs})
}

// MetaPatch returns the merge patch that sets the given fields of obj's metadata on the condition that obj is as it was
// seen. Values must be plain data; a nil slice removes the field.
func MetaPatch(obj metav1.Object, fields map[string]any) []byte {
	meta := map[string]any{"uid": obj.GetUID(), "resourceVersion": obj.GetResourceVersion()}
	for k, v := range fields {
		meta[k] = v
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		panic("owner: metadata that is not plain data: " + err.Error())
	}
	return patch
}
