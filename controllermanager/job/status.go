package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// condition returns the condition of a type, nil without one. Only Suspended is ever False.
func condition(s *batchv1.JobStatus, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// Finished returns the condition with which a Job ended, nil if it has not.
func Finished(job *batchv1.Job) *batchv1.JobCondition {
	for i := range job.Status.Conditions {
		c := &job.Status.Conditions[i]
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

func finished(s *batchv1.JobStatus) bool { return Finished(&batchv1.Job{Status: *s}) != nil }

func (s *step) set(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(s.now.Truncate(time.Second))
	c := batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now}
	if have := condition(&s.status, t); have != nil {
		*have = c
		return
	}
	s.status.Conditions = append(s.status.Conditions, c)
}

// finish makes an announced end final, once no pod runs and every one that ended is counted.
func (s *step) finish() {
	failing, succeeding := condition(&s.status, batchv1.JobFailureTarget), condition(&s.status, batchv1.JobSuccessCriteriaMet)
	if failing == nil && succeeding == nil || condition(&s.Job.Status, batchv1.JobFailureTarget) == nil && condition(&s.Job.Status, batchv1.JobSuccessCriteriaMet) == nil {
		return
	}
	noted := s.status.UncountedTerminatedPods
	if len(noted.Failed)+len(noted.Succeeded) > 0 || len(s.active()) > 0 || s.terminating() > 0 {
		return
	}
	if failing != nil {
		s.set(batchv1.JobFailed, corev1.ConditionTrue, failing.Reason, failing.Message)
		s.plan.Event(s.Job, corev1.EventTypeWarning, failing.Reason, "%s", failing.Message)
		return
	}
	at := metav1.NewTime(s.now.Truncate(time.Second))
	s.status.CompletionTime = &at
	s.set(batchv1.JobComplete, corev1.ConditionTrue, succeeding.Reason, succeeding.Message)
	s.plan.Event(s.Job, corev1.EventTypeNormal, "Completed", "Job completed")
}

// write writes the status, if it differs.
func (s *step) write() {
	active := s.active()
	s.status.Active = int32(len(active))
	ready, terminating := int32(0), s.terminating()
	for _, p := range active {
		if pods.Ready(p) {
			ready++
		}
	}
	s.status.Ready, s.status.Terminating = &ready, &terminating
	if s.indexed() {
		s.status.CompletedIndexes, s.status.Succeeded = s.completed.String(), int32(s.completed.total())
		if s.Job.Spec.BackoffLimitPerIndex != nil {
			lost := s.failed.String()
			s.status.FailedIndexes = &lost
		}
	}
	if apiequality.Semantic.DeepEqual(s.status, s.Job.Status) {
		return
	}
	next := s.Job.DeepCopy()
	next.Status = s.status
	s.plan.Add(plan.UpdateStatus(plan.Jobs, next))
}
