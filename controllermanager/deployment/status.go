package deployment

import (
	"fmt"
	"math"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

// status writes the revision annotation or the status, whichever differs; the annotation first, since both are the same
// object.
func (r *rollout) status() {
	d := r.Deployment
	if r.current != nil {
		if rev := revision(r.current); rev > 0 && d.Annotations[RevisionAnnotation] != strconv.FormatInt(rev, 10) && d.DeletionTimestamp == nil {
			patch := owner.MetaPatch(d, map[string]any{"annotations": map[string]string{RevisionAnnotation: strconv.FormatInt(rev, 10)}})
			r.plan.Add(plan.MergePatch(plan.Deployments, d, patch))
			return
		}
	}
	want := r.observed()
	want.Conditions = r.conditions(want)
	if apiequality.Semantic.DeepEqual(want, d.Status) {
		return
	}
	next := d.DeepCopy()
	next.Status = want
	r.plan.Add(plan.UpdateStatus(plan.Deployments, next))
}

// observed is the status without its conditions.
func (r *rollout) observed() appsv1.DeploymentStatus {
	d := r.Deployment
	s := appsv1.DeploymentStatus{ObservedGeneration: d.Generation, CollisionCount: d.Status.CollisionCount}
	if r.collision {
		n := int32(1)
		if s.CollisionCount != nil {
			n += *s.CollisionCount
		}
		s.CollisionCount = &n
	}
	if r.current != nil {
		s.UpdatedReplicas = r.current.Status.Replicas
	}
	terminating := int32(0)
	for _, rs := range r.all() {
		s.Replicas += rs.Status.Replicas
		s.ReadyReplicas += rs.Status.ReadyReplicas
		s.AvailableReplicas += rs.Status.AvailableReplicas
		if rs.Status.TerminatingReplicas != nil {
			terminating += *rs.Status.TerminatingReplicas
		}
	}
	s.TerminatingReplicas = &terminating
	s.UnavailableReplicas = max(0, sizes(r.all())-s.AvailableReplicas)
	return s
}

// complete reports whether a rollout is over: every pod is of the new template, and all of them are available.
func complete(d *appsv1.Deployment, s appsv1.DeploymentStatus) bool {
	want := *d.Spec.Replicas
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= d.Generation
}

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func (r *rollout) because(status corev1.ConditionStatus, reason, message string) {
	r.progressing = r.condition(appsv1.DeploymentProgressing, status, reason, message)
}

func (r *rollout) condition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) *appsv1.DeploymentCondition {
	now := metav1.NewTime(r.now.Truncate(time.Second))
	return &appsv1.DeploymentCondition{Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now}
}

func find(conditions []appsv1.DeploymentCondition, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range conditions {
		if conditions[i].Type == t {
			return &conditions[i]
		}
	}
	return nil
}

// set replaces the condition of c's type. Nothing changes if it says the same already, unless refresh is set, which moves
// the time of the last update, from which the deadline counts.
func set(conditions []appsv1.DeploymentCondition, c *appsv1.DeploymentCondition, refresh bool) []appsv1.DeploymentCondition {
	have := find(conditions, c.Type)
	if have == nil {
		return append(conditions, *c)
	}
	if have.Status == c.Status && have.Reason == c.Reason && have.Message == c.Message && !refresh {
		return conditions
	}
	if have.Status == c.Status {
		c.LastTransitionTime = have.LastTransitionTime
	}
	*have = *c
	return conditions
}

func without(conditions []appsv1.DeploymentCondition, t appsv1.DeploymentConditionType) []appsv1.DeploymentCondition {
	var out []appsv1.DeploymentCondition
	for _, c := range conditions {
		if c.Type != t {
			out = append(out, c)
		}
	}
	return out
}

// conditions returns Available, Progressing and ReplicaFailure for the status s.
func (r *rollout) conditions(s appsv1.DeploymentStatus) []appsv1.DeploymentCondition {
	d := r.Deployment
	out := append([]appsv1.DeploymentCondition(nil), d.Status.Conditions...)
	if s.AvailableReplicas >= *d.Spec.Replicas-MaxUnavailable(d) {
		out = set(out, r.condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability."), false)
	} else {
		out = set(out, r.condition(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability."), false)
	}
	if hasDeadline(d) {
		out = r.progress(out, s)
	} else {
		out = without(out, appsv1.DeploymentProgressing)
	}
	if failure := r.replicaFailure(); failure != nil {
		return set(out, failure, false)
	}
	return without(out, appsv1.DeploymentReplicaFailure)
}

// progress keeps the Progressing condition. From its last update the deadline counts, so it is refreshed by every sign of
// progress and by nothing else.
func (r *rollout) progress(out []appsv1.DeploymentCondition, s appsv1.DeploymentStatus) []appsv1.DeploymentCondition {
	d := r.Deployment
	if paused, ok := r.pausedCondition(find(out, appsv1.DeploymentProgressing)); ok {
		if paused != nil {
			out = set(out, paused, false)
		}
		if d.Spec.Paused {
			return out
		}
	}
	if r.progressing != nil {
		out = set(out, r.progressing, false)
	} else if c := find(out, appsv1.DeploymentProgressing); r.current != nil && (c == nil || c.LastUpdateTime.Before(&r.current.CreationTimestamp)) {
		out = set(out, r.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", r.current.Name)), true)
	}
	have := find(out, appsv1.DeploymentProgressing)
	done := r.subject() + " has successfully progressed."
	if s.Replicas == s.UpdatedReplicas && have != nil && have.Reason == "NewReplicaSetAvailable" && have.Message == done {
		return out // The rollout has been completed; losing a pod later is not a rollout that is stuck.
	}
	switch {
	case complete(d, s):
		out = set(out, r.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "NewReplicaSetAvailable", done), false)
	case progressed(d.Status, s):
		out = set(out, r.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", r.subject()+" is progressing."), true)
	default:
		out = r.deadline(out, have)
	}
	return out
}

func (r *rollout) subject() string {
	if r.current != nil {
		return fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	return fmt.Sprintf("Deployment %q", r.Deployment.Name)
}

// deadline marks a rollout that made no progress for too long, or asks for another look when it will have been.
func (r *rollout) deadline(out []appsv1.DeploymentCondition, have *appsv1.DeploymentCondition) []appsv1.DeploymentCondition {
	d := r.Deployment
	if have == nil || have.Reason == "NewReplicaSetAvailable" || have.Reason == "ProgressDeadlineExceeded" || d.Spec.Paused {
		return out
	}
	// Times in objects are whole seconds, so the deadline is over one second after its last one began.
	at := have.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds)*time.Second + time.Second)
	if r.now.Before(at) {
		r.plan.LookAgain(r.now, at)
		return out
	}
	return set(out, r.condition(appsv1.DeploymentProgressing, corev1.ConditionFalse, "ProgressDeadlineExceeded", r.subject()+" has timed out progressing."), false)
}

// pausedCondition returns the condition that pausing or resuming brings; ok is false if neither happened or a rollout that
// timed out is to stay visible.
func (r *rollout) pausedCondition(have *appsv1.DeploymentCondition) (*appsv1.DeploymentCondition, bool) {
	if have != nil && have.Reason == "ProgressDeadlineExceeded" {
		return nil, r.Deployment.Spec.Paused
	}
	pausedBefore := have != nil && have.Reason == "DeploymentPaused"
	switch {
	case r.Deployment.Spec.Paused && !pausedBefore:
		return r.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentPaused", "Deployment is paused"), true
	case !r.Deployment.Spec.Paused && pausedBefore:
		return r.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentResumed", "Deployment is resumed"), true
	}
	return nil, r.Deployment.Spec.Paused
}

// progressed reports whether the new status shows pods that are new, gone, ready or available since the old one.
func progressed(old, s appsv1.DeploymentStatus) bool {
	return s.UpdatedReplicas > old.UpdatedReplicas ||
		s.Replicas-s.UpdatedReplicas < old.Replicas-old.UpdatedReplicas ||
		s.ReadyReplicas > old.ReadyReplicas || s.AvailableReplicas > old.AvailableReplicas
}

// replicaFailure passes a ReplicaSet's failure on: the current one's, or else any.
func (r *rollout) replicaFailure() *appsv1.DeploymentCondition {
	sets := r.old
	if r.current != nil {
		sets = append([]*appsv1.ReplicaSet{r.current}, r.old...)
	}
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				return &appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime,
				}
			}
		}
	}
	return nil
}
