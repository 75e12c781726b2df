// Package history keeps the past templates of StatefulSets and DaemonSets as ControllerRevisions, in the form that kubectl's
// rollout history and undo read. It is pure.
package history

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

// HashLabel carries a revision's hash.
const HashLabel = "controller.kubernetes.io/hash"

// maxBase leaves room for "-" and a hash of ten letters in a name.
const maxBase = 253 - 11

// Of is whose history it is.
type Of struct {
	Kind  plan.Kind
	Owner metav1.Object
	// Template in use now.
	Template *corev1.PodTemplateSpec
	// Labels of new revisions, by which the owner's selector finds them.
	Labels map[string]string
	// PodLabel is the label in which pods carry the hash of their revision, and the revision too; empty if they carry its name.
	PodLabel string
	// Collisions is status.collisionCount.
	Collisions *int32
}

// Result of Sync.
type Result struct {
	// Update is the revision of the template in use; nil if it must be created first.
	Update *appsv1.ControllerRevision
	// Sorted are all revisions, oldest first.
	Sorted []*appsv1.ControllerRevision
	// Write, if not nil, creates the revision or makes it the newest; decide on, once it can be seen.
	Write *plan.Write
	// Collision is set if the name that the revision would have is taken by something else.
	Collision bool
}

// data is the form of a revision: a strategic merge patch that replaces the template.
func data(t *corev1.PodTemplateSpec) []byte {
	raw, err := json.Marshal(t)
	if err != nil {
		panic("history: a pod template is plain data: " + err.Error())
	}
	var template map[string]any
	if err := json.Unmarshal(raw, &template); err != nil {
		panic("history: " + err.Error())
	}
	template["$patch"] = "replace"
	out, err := json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
	if err != nil {
		panic("history: " + err.Error())
	}
	return out
}

// Template returns the template that a revision holds.
func Template(rev *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var doc struct {
		Spec struct {
			Template *corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(rev.Data.Raw, &doc); err != nil {
		return nil, fmt.Errorf("revision %s: %w", rev.Name, err)
	}
	if doc.Spec.Template == nil {
		return nil, fmt.Errorf("revision %s holds no template", rev.Name)
	}
	return doc.Spec.Template, nil
}

func holds(rev *appsv1.ControllerRevision, t *corev1.PodTemplateSpec) bool {
	have, err := Template(rev)
	return err == nil && apiequality.Semantic.DeepEqual(have, t)
}

// Sync finds the revision of the template in use. taken reports names of revisions that are not the owner's.
func Sync(of Of, revisions []*appsv1.ControllerRevision, taken func(name string) bool) Result {
	sorted := slices.Clone(revisions)
	slices.SortFunc(sorted, func(a, b *appsv1.ControllerRevision) int {
		if a.Revision != b.Revision {
			return int(a.Revision - b.Revision)
		}
		return strings.Compare(a.Name, b.Name)
	})
	r := Result{Sorted: sorted}
	newest := int64(0)
	for _, rev := range sorted {
		newest = max(newest, rev.Revision)
		if holds(rev, of.Template) {
			r.Update = rev
		}
	}
	switch {
	case r.Update == nil:
		r.create(of, newest+1, taken)
	case r.Update.Revision < newest:
		next := r.Update.DeepCopy()
		next.Revision = newest + 1
		w := plan.Update(plan.ControllerRevision, next)
		r.Write = &w
	}
	return r
}

func (r *Result) create(of Of, number int64, taken func(string) bool) {
	raw := data(of.Template)
	var salt []byte
	if of.Collisions != nil {
		salt = strconv.AppendInt(nil, int64(*of.Collisions), 10)
	}
	hash := owner.Hash(raw, salt)
	base := of.Owner.GetName()
	if len(base) > maxBase {
		base = base[:maxBase]
	}
	name := base + "-" + hash
	if taken(name) || slices.ContainsFunc(r.Sorted, func(rev *appsv1.ControllerRevision) bool { return rev.Name == name }) {
		r.Collision = true
		return
	}
	labels := maps.Clone(of.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[HashLabel] = hash
	if of.PodLabel != "" {
		labels[of.PodLabel] = hash
	}
	w := plan.Create(plan.ControllerRevision, &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: of.Owner.GetNamespace(), Name: name, Labels: labels, Annotations: maps.Clone(of.Owner.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{owner.Ref(of.Kind, of.Owner)},
		},
		Data: runtime.RawExtension{Raw: raw}, Revision: number,
	})
	r.Write = &w
}

// Surplus returns deletions of the oldest revisions beyond limit that nothing uses.
func Surplus(sorted []*appsv1.ControllerRevision, limit *int32, used func(name string) bool) []plan.Write {
	var idle []*appsv1.ControllerRevision
	for _, rev := range sorted {
		if !used(rev.Name) {
			idle = append(idle, rev)
		}
	}
	keep := 10
	if limit != nil {
		keep = int(*limit)
	}
	var out []plan.Write
	for _, rev := range idle[:max(0, len(idle)-keep)] {
		out = append(out, plan.Delete(plan.ControllerRevision, rev))
	}
	return out
}

// Next returns the collision count after a collision.
func Next(collisions *int32) *int32 {
	n := int32(1)
	if collisions != nil {
		n += *collisions
	}
	return &n
}
