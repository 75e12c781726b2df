// Package deployment rolls a Deployment's pod template out through ReplicaSets, one per template.
//
// Reconcile is the whole controller: a pure function from a Deployment, the ReplicaSets of its namespace and what is known of
// its pods to the next writes. A rollout is many steps; each changes what the view allows now, and the next one is
// planned when that can be seen. How far a step may go (maxSurge, maxUnavailable and their rounding), proportional
// scaling, revisions, conditions and their reasons are as the API documents them.
package deployment

import (
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

// Input is what a decision is made from.
type Input struct {
	Deployment *appsv1.Deployment
	// ReplicaSets are those of the namespace that the Deployment controls or that have no controller.
	ReplicaSets []*appsv1.ReplicaSet
	// NameTaken returns the ReplicaSet of that name in the namespace, nil if there is none.
	NameTaken func(name string) *appsv1.ReplicaSet
	// OldPodsRunning reports whether a pod of the given ReplicaSets has not finished yet; only Recreate asks.
	OldPodsRunning func(old []*appsv1.ReplicaSet) bool
	// Failure is why the last creation of a ReplicaSet failed; empty if it did not.
	Failure string
}

// rollout is one decision in the making.
type rollout struct {
	Input
	now time.Time
	// current is the ReplicaSet of the Deployment's template, nil if there is none yet; old are the others, oldest first.
	current *appsv1.ReplicaSet
	old     []*appsv1.ReplicaSet
	// next holds the changed copies of ReplicaSets that this step writes.
	next map[*appsv1.ReplicaSet]*appsv1.ReplicaSet
	// progressing is set if this step has a reason of its own for the Progressing condition.
	progressing *appsv1.DeploymentCondition
	collision   bool
	plan        plan.Plan
}

// Reconcile plans the next step of a Deployment.
func Reconcile(in Input, now time.Time) plan.Plan {
	r := &rollout{Input: in, now: now, next: map[*appsv1.ReplicaSet]*appsv1.ReplicaSet{}}
	d := in.Deployment
	sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || sel.Empty() {
		r.plan.Event(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		return r.plan
	}
	claims := owner.Claim(plan.Deployments, d, sel, plan.ReplicaSets, in.ReplicaSets)
	r.plan.Add(claims.Writes...)
	if len(claims.Writes) > 0 {
		return r.plan // Which ReplicaSet is whose decides everything else; look again when that is settled.
	}
	r.sort(claims.Owned)
	if d.DeletionTimestamp == nil {
		r.step()
	}
	r.flush()
	r.status()
	return r.plan
}

// sort tells the current ReplicaSet from the old ones. Of several with the same template the oldest is current, so that every
// view agrees.
func (r *rollout) sort(sets []*appsv1.ReplicaSet) {
	sets = slices.Clone(sets)
	slices.SortFunc(sets, byCreation)
	for _, rs := range sets {
		if r.current == nil && sameTemplate(&rs.Spec.Template, &r.Deployment.Spec.Template) {
			r.current = rs
		} else {
			r.old = append(r.old, rs)
		}
	}
}

func byCreation(a, b *appsv1.ReplicaSet) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

func (r *rollout) step() {
	d := r.Deployment
	if r.current != nil {
		r.syncCurrent()
	}
	if d.Spec.Paused {
		r.scale()
		r.cleanUp()
		return
	}
	if r.scalingEvent() {
		r.scale()
		return
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		r.recreate()
	} else {
		r.rollingUpdate()
	}
	if complete(d, r.observed()) {
		r.cleanUp()
	}
}

// all returns every ReplicaSet, the old ones first.
func (r *rollout) all() []*appsv1.ReplicaSet {
	if r.current == nil {
		return r.old
	}
	return append(slices.Clone(r.old), r.current)
}

// change returns the copy of rs that this step writes.
func (r *rollout) change(rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	if r.next[rs] == nil {
		r.next[rs] = rs.DeepCopy()
	}
	return r.next[rs]
}

// resize sets a ReplicaSet's size and the annotations that tell the next scaling event what the Deployment's size was.
func (r *rollout) resize(rs *appsv1.ReplicaSet, size int32) {
	d := r.Deployment
	if size == *rs.Spec.Replicas && !sizeAnnotationsDiffer(rs, d) {
		return
	}
	next := r.change(rs)
	if size != *rs.Spec.Replicas {
		direction := "up"
		if size < *rs.Spec.Replicas {
			direction = "down"
		}
		r.plan.EventOf(next, d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, rs.Name, *rs.Spec.Replicas, size)
	}
	*next.Spec.Replicas = size
	setSizeAnnotations(next, d)
}

// flush turns the changed ReplicaSets into writes.
func (r *rollout) flush() {
	for _, rs := range r.all() {
		if next := r.next[rs]; next != nil {
			r.plan.Add(plan.Update(plan.ReplicaSets, next))
		}
	}
}

// recreate takes every old pod down before it makes a new one.
func (r *rollout) recreate() {
	down := false
	for _, rs := range r.old {
		if *rs.Spec.Replicas != 0 {
			r.resize(rs, 0)
			down = true
		}
	}
	if down || r.OldPodsRunning(r.old) {
		return
	}
	if r.current == nil {
		r.create(*r.Deployment.Spec.Replicas)
		return
	}
	r.resize(r.current, *r.Deployment.Spec.Replicas)
}
