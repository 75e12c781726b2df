// Package replicationcontroller keeps spec.replicas pods of a template running, for ReplicationControllers.
//
// A ReplicationController is an older ReplicaSet, with a plain map for a selector, so Reconcile lets package replicaset
// decide and translates: the object before, the status after.
package replicationcontroller

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/replicaset"
)

// Input is what a decision is made from; see replicaset.Input.
type Input struct {
	RC      *corev1.ReplicationController
	Pods    []*corev1.Pod
	Taken   func(name string) bool
	Failure *replicaset.Failure
}

// Reconcile plans the next step of a ReplicationController.
func Reconcile(in Input, now time.Time) plan.Plan {
	if in.RC.Spec.Template == nil {
		return plan.Plan{} // Validation does not let such an object in.
	}
	set := asSet(in.RC)
	decided := replicaset.Reconcile(replicaset.Input{
		Kind: plan.ReplicationControllers, RS: set, Pods: in.Pods, Taken: in.Taken, Failure: in.Failure,
	}, now)
	p := plan.Plan{After: decided.After}
	for _, w := range decided.Writes {
		if w.Kind == plan.ReplicaSets {
			p.Add(status(in.RC, w.Object.(*appsv1.ReplicaSet).Status)...)
			continue
		}
		p.Add(w)
	}
	for _, ev := range decided.Events {
		if ev.About == plan.Object(set) {
			ev.About = in.RC
		}
		p.Events = append(p.Events, ev)
	}
	return p
}

// asSet returns the ReplicaSet that a ReplicationController would be.
func asSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	s := &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds, Template: *rc.Spec.Template,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector},
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas, ReadyReplicas: rc.Status.ReadyReplicas,
			AvailableReplicas: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	for _, c := range rc.Status.Conditions {
		s.Status.Conditions = append(s.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return s
}

// status writes the status that was decided for the ReplicaSet, if it is news: what only ReplicaSets have is no news.
func status(rc *corev1.ReplicationController, s appsv1.ReplicaSetStatus) []plan.Write {
	next := rc.DeepCopy()
	next.Status = corev1.ReplicationControllerStatus{
		Replicas: s.Replicas, FullyLabeledReplicas: s.FullyLabeledReplicas, ReadyReplicas: s.ReadyReplicas,
		AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration,
	}
	for _, c := range s.Conditions {
		next.Status.Conditions = append(next.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	if apiequality.Semantic.DeepEqual(next.Status, rc.Status) {
		return nil
	}
	return []plan.Write{plan.UpdateStatus(plan.ReplicationControllers, next)}
}
