// Package replicaset keeps spec.replicas pods of a template running, for ReplicaSets and, through package
// replicationcontroller, for the ReplicationControllers that came before them.
//
// Reconcile is the whole controller: a pure function from a ReplicaSet and the pods of its namespace to the pods to create
// and delete and the status to write. There are no expectations to keep: the engine lets a ReplicaSet be looked at again
// only when the mirrors show what was written for it before, names of new pods depend only on the view (so a repeated
// creation collides instead of doubling), and a deletion carries the version of the pod that was ranked.
package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// Burst is the most pods created or deleted in one step, as upstream: half a batch request, so that one huge ReplicaSet
// cannot keep a worker for long.
const Burst = 500

// Input is what a decision is made from.
type Input struct {
	// Kind of the object that RS stands for.
	Kind plan.Kind
	RS   *appsv1.ReplicaSet
	// Pods are the pods of the namespace that the ReplicaSet controls or that have no controller.
	Pods []*corev1.Pod
	// Taken reports whether a pod name is in use or was until recently.
	Taken func(name string) bool
	// Related counts, per node, the active pods of all ReplicaSets with the same controller. It is asked only to choose whom
	// to delete; nil stands for no such pods.
	Related func() map[string]int
	// Failure is what went wrong with the writes of the step before, nil if they went through.
	Failure *Failure
}

// Failure is a failed creation or deletion.
type Failure struct {
	// Reason is "FailedCreate" or "FailedDelete".
	Reason  string
	Message string
}

// Reconcile plans the next step of a ReplicaSet.
func Reconcile(in Input, now time.Time) plan.Plan {
	var p plan.Plan
	rs := in.RS
	sel, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil || sel.Empty() {
		return p // Validation does not let such an object in; one that is there anyway selects nothing.
	}
	claims := owner.Claim(in.Kind, rs, sel, plan.Pods, in.Pods)
	p.Add(claims.Writes...)
	var active []*corev1.Pod
	terminating := int32(0)
	for _, pod := range claims.Owned {
		if pods.Active(pod) {
			active = append(active, pod)
		} else if pod.DeletionTimestamp != nil && !pods.Finished(pod) {
			terminating++
		}
	}
	adopting := 0
	for _, w := range claims.Writes {
		if w.Guard != nil && pods.Active(w.Object.(*corev1.Pod)) {
			adopting++
		}
	}
	if rs.DeletionTimestamp == nil {
		scale(&p, in, active, adopting, now)
	}
	status(&p, in, active, terminating, now)
	if f := in.Failure; f != nil {
		p.Event(rs, corev1.EventTypeWarning, f.Reason, "%s", f.eventMessage())
	}
	return p
}

func (f Failure) eventMessage() string {
	if f.Reason == "FailedDelete" {
		return "Error deleting: " + f.Message
	}
	return "Error creating: " + f.Message
}

// scale creates what is missing and deletes what is too much. Pods being adopted count as there, so that none is created in
// their place.
func scale(p *plan.Plan, in Input, active []*corev1.Pod, adopting int, now time.Time) {
	rs, want := in.RS, int(replicas(in.RS))
	switch have := len(active) + adopting; {
	case have < want:
		names := owner.NewNames(rs.Name+"-", rs.UID, "", in.Taken)
		for range min(want-have, Burst) {
			pod := pods.FromTemplate(&rs.Spec.Template, in.Kind, rs, names.Next())
			pod.GenerateName = rs.Name + "-"
			p.Add(plan.Create(plan.Pods, pod))
			p.EventOf(pod, rs, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", pod.Name)
		}
	case len(active) > want:
		var related map[string]int
		if in.Related != nil {
			related = in.Related()
		}
		for _, pod := range pods.RankForDeletion(active, related, now)[:min(len(active)-want, Burst)] {
			p.Add(plan.Delete(plan.Pods, pod))
			p.EventOf(pod, rs, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
		}
	}
}

func replicas(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}

// status writes what was seen, if it differs from what is written.
func status(p *plan.Plan, in Input, active []*corev1.Pod, terminating int32, now time.Time) {
	rs := in.RS
	want := appsv1.ReplicaSetStatus{
		Replicas: int32(len(active)), TerminatingReplicas: &terminating,
		ObservedGeneration: rs.Generation, Conditions: conditions(in, now),
	}
	template := labels.Set(rs.Spec.Template.Labels).AsSelectorPreValidated()
	for _, pod := range active {
		if template.Matches(labels.Set(pod.Labels)) {
			want.FullyLabeledReplicas++
		}
		if pods.Ready(pod) {
			want.ReadyReplicas++
		}
		switch available, at := pods.Available(pod, rs.Spec.MinReadySeconds, now); {
		case available:
			want.AvailableReplicas++
		case !at.IsZero():
			p.LookAgain(now, at)
		}
	}
	if apiequality.Semantic.DeepEqual(rs.Status, want) {
		return
	}
	next := rs.DeepCopy()
	next.Status = want
	p.Add(plan.UpdateStatus(plan.ReplicaSets, next))
}

// conditions returns the status conditions: ReplicaFailure while writes fail, and whatever others put there.
func conditions(in Input, now time.Time) []appsv1.ReplicaSetCondition {
	var out []appsv1.ReplicaSetCondition
	since := metav1.NewTime(now)
	for _, c := range in.RS.Status.Conditions {
		if c.Type != appsv1.ReplicaSetReplicaFailure {
			out = append(out, c)
		} else if c.Status == corev1.ConditionTrue {
			since = c.LastTransitionTime
		}
	}
	if in.Failure != nil {
		out = append(out, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: since,
			Reason: in.Failure.Reason, Message: in.Failure.Message,
		})
	}
	return out
}
