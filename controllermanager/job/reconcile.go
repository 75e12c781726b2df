// Package job runs pods to completion and counts how they end, each exactly once.
//
// Reconcile is pure: one step of a Job from its status and its pods. Counting survives a crash at any point because a pod
// carries a finalizer until it is counted (KEP-2307): its end is first noted in status.uncountedTerminatedPods (or, for Indexed
// Jobs, in completedIndexes and failedIndexes), then the finalizer is removed, then the note becomes a number. Each of the
// three is decided from what the one before left in the API, so repeating any is harmless.
package job

import (
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

const (
	// Burst is the most pods created, deleted or newly noted in one step: one batch of writes, and a status of at most 20 KiB
	// of noted uids.
	Burst = 500
	// retryFirst and retryMost bound the back-off after failures, as documented: 10 s doubling to 6 min.
	retryFirst = 10 * time.Second
	retryMost  = 6 * time.Minute
)

// Input is what a decision is made from.
type Input struct {
	Job *batchv1.Job
	// Pods of the namespace that the Job controls or that have no controller.
	Pods []*corev1.Pod
	// Taken reports pod names in use.
	Taken func(name string) bool
	// Failure is why a pod could not be created in the step before; empty if none failed.
	Failure string
}

type step struct {
	Input
	now  time.Time
	plan plan.Plan
	// status is the one in the making.
	status batchv1.JobStatus
	// pods are the Job's, oldest first.
	pods []*corev1.Pod
	// completed and failed are the indexes of an Indexed Job that ended.
	completed, failed indexes
}

// Reconcile plans the next step of a Job.
func Reconcile(in Input, now time.Time) plan.Plan {
	job := in.Job
	s := &step{Input: in, now: now, status: *job.Status.DeepCopy()}
	if job.Spec.ManagedBy != nil && *job.Spec.ManagedBy != batchv1.JobControllerName {
		return s.plan
	}
	if in.Failure != "" {
		s.plan.Event(job, corev1.EventTypeWarning, "FailedCreate", "Error creating: %s", in.Failure)
	}
	sel, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil || sel.Empty() {
		return s.plan
	}
	claims := owner.Claim(plan.Jobs, job, sel, plan.Pods, in.Pods)
	if len(claims.Writes) > 0 {
		s.plan.Add(claims.Writes...)
		return s.plan
	}
	s.pods = slices.SortedFunc(slices.Values(claims.Owned), func(a, b *corev1.Pod) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	s.completed, s.failed = parseIndexes(job.Status.CompletedIndexes), parseIndexes(deref(job.Status.FailedIndexes))
	if s.indexed() && job.Spec.Completions != nil {
		// Completions of an Indexed Job may change with its parallelism (KEP-3715); indexes beyond them are none of it any more.
		s.completed, s.failed = s.completed.below(int(*job.Spec.Completions)), s.failed.below(int(*job.Spec.Completions))
	}
	if finished(&job.Status) {
		s.untrackAll()
		return s.plan
	}
	s.begin()
	s.count()
	s.judge()
	s.act()
	s.finish()
	s.write()
	return s.plan
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (s *step) indexed() bool {
	return s.Job.Spec.CompletionMode != nil && *s.Job.Spec.CompletionMode == batchv1.IndexedCompletion
}

func (s *step) suspended() bool { return s.Job.Spec.Suspend != nil && *s.Job.Spec.Suspend }

func (s *step) parallelism() int32 {
	if s.Job.Spec.Parallelism == nil {
		return 1
	}
	return *s.Job.Spec.Parallelism
}

// begin keeps the start time and the Suspended condition.
func (s *step) begin() {
	was := condition(&s.status, batchv1.JobSuspended)
	switch {
	case s.suspended():
		if was == nil || was.Status != corev1.ConditionTrue {
			s.set(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended")
			s.plan.Event(s.Job, corev1.EventTypeNormal, "Suspended", "Job suspended")
			s.status.StartTime = nil
		}
		return
	case was != nil && was.Status == corev1.ConditionTrue:
		s.set(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		s.plan.Event(s.Job, corev1.EventTypeNormal, "Resumed", "Job resumed")
		s.status.StartTime = nil
	}
	if s.status.StartTime == nil {
		at := metav1.NewTime(s.now.Truncate(time.Second))
		s.status.StartTime = &at
	}
}

// active are the pods that may still succeed.
func (s *step) active() []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range s.pods {
		if pods.Active(p) {
			out = append(out, p)
		}
	}
	return out
}

func (s *step) terminating() int32 {
	n := int32(0)
	for _, p := range s.pods {
		if p.DeletionTimestamp != nil && !pods.Finished(p) {
			n++
		}
	}
	return n
}

// replacesOnlyFailed reports whether a pod is replaced only once it has ended, not when it begins to (KEP-3939).
func (s *step) replacesOnlyFailed() bool {
	return s.Job.Spec.PodReplacementPolicy != nil && *s.Job.Spec.PodReplacementPolicy == batchv1.Failed
}

// act creates what is missing and deletes what is too much.
func (s *step) act() {
	active := s.active()
	switch {
	case condition(&s.status, batchv1.JobFailureTarget) != nil || condition(&s.status, batchv1.JobSuccessCriteriaMet) != nil:
		s.remove(active)
		return
	case s.suspended():
		s.withdraw(active)
		return
	}
	if s.Job.DeletionTimestamp != nil {
		return
	}
	if surplus := s.surplus(active); len(surplus) > 0 {
		s.withdraw(surplus)
		return
	}
	want := s.wanted(int32(len(active)))
	if extra := len(active) - int(want); extra > 0 {
		s.withdraw(s.leastUseful(active)[:extra])
		return
	}
	have := int32(len(active))
	if s.replacesOnlyFailed() {
		have += s.terminating()
	}
	if missing := min(want-have, Burst); missing > 0 {
		// Where indexes fail by themselves, they also wait by themselves.
		if at := s.retryAt(); at.After(s.now) && !s.perIndex() {
			s.plan.LookAgain(s.now, at)
			return
		}
		s.create(int(missing), active)
	}
}

func (s *step) perIndex() bool { return s.indexed() && s.Job.Spec.BackoffLimitPerIndex != nil }

// surplus returns the active pods of an Indexed Job that do no good: without an index, or for one that is not (any more) the Job's,
// is settled, or has an older pod.
func (s *step) surplus(active []*corev1.Pod) []*corev1.Pod {
	if !s.indexed() || s.Job.Spec.Completions == nil {
		return nil
	}
	busy := map[int]bool{}
	var out []*corev1.Pod
	for _, p := range active {
		i := indexOf(p)
		if i < 0 || i >= int(*s.Job.Spec.Completions) || busy[i] || s.completed.has(i) || s.failed.has(i) {
			out = append(out, p)
		}
		busy[i] = true
	}
	return out
}

// wanted is how many pods should run.
func (s *step) wanted(active int32) int32 {
	if s.Job.Spec.Completions == nil {
		// A work queue: once one pod succeeded the rest finish what is there, and none is added.
		if s.succeeded() > 0 {
			return active
		}
		return s.parallelism()
	}
	left := *s.Job.Spec.Completions - s.succeeded()
	if s.indexed() {
		left -= int32(s.failed.total())
	}
	return max(0, min(s.parallelism(), left))
}

// leastUseful orders pods so that those come first that a smaller Job can best do without.
func (s *step) leastUseful(active []*corev1.Pod) []*corev1.Pod {
	ranked := pods.RankForDeletion(active, nil, s.now)
	if s.indexed() {
		slices.SortStableFunc(ranked, func(a, b *corev1.Pod) int { return indexOf(b) - indexOf(a) })
	}
	// Those whose withdrawal has begun come first.
	slices.SortStableFunc(ranked, func(a, b *corev1.Pod) int { return rank(tracked(a)) - rank(tracked(b)) })
	return ranked
}

func rank(late bool) int {
	if late {
		return 1
	}
	return 0
}

// withdraw takes pods away that are no longer wanted though nothing is wrong with them. So that they do not count as failed
// they are untracked first, and deleted once that can be seen.
func (s *step) withdraw(victims []*corev1.Pod) {
	var free []*corev1.Pod
	for _, p := range victims[:min(len(victims), Burst)] {
		if tracked(p) {
			s.plan.Add(Untrack(p))
		} else {
			free = append(free, p)
		}
	}
	s.remove(free)
}

func (s *step) remove(victims []*corev1.Pod) {
	for _, p := range victims[:min(len(victims), Burst)] {
		s.plan.Add(plan.Delete(plan.Pods, p))
		s.plan.EventOf(p, s.Job, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", p.Name)
	}
}

// retryAt is when the next pod may start: failures since the last success double the wait.
func (s *step) retryAt() time.Time {
	var success, last time.Time
	for _, p := range s.pods {
		if p.Status.Phase == corev1.PodSucceeded && ended(p).After(success) {
			success = ended(p)
		}
	}
	failures := 0
	for _, p := range s.pods {
		if p.Status.Phase == corev1.PodFailed && ended(p).After(success) && !s.ignored(p) {
			failures++
			if ended(p).After(last) {
				last = ended(p)
			}
		}
	}
	if failures == 0 {
		return time.Time{}
	}
	return last.Add(pause(failures))
}

// indexRetryAt is retryAt for one index, whose pods carry how often it failed before them.
func (s *step) indexRetryAt(index int) (at time.Time) {
	for _, p := range s.pods {
		if indexOf(p) == index && p.Status.Phase == corev1.PodFailed && !s.ignored(p) {
			if t := ended(p).Add(pause(failuresBefore(p) + 1)); t.After(at) {
				at = t
			}
		}
	}
	return at
}

// pause is how long to wait after failures in a row.
func pause(failures int) time.Duration {
	if failures > 6 { // 10 s doubled six times is beyond the most
		return retryMost
	}
	return min(retryMost, retryFirst<<(failures-1))
}

// ended is when a pod's last container ended, or if that is not known, when the pod changed last.
func ended(p *corev1.Pod) time.Time {
	var at time.Time
	for _, c := range p.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.FinishedAt.After(at) {
			at = t.FinishedAt.Time
		}
	}
	if at.IsZero() {
		if c := pods.Condition(p, corev1.PodReady); c != nil {
			at = c.LastTransitionTime.Time
		}
	}
	if at.IsZero() && p.DeletionTimestamp != nil {
		at = p.DeletionTimestamp.Time
	}
	if at.IsZero() {
		at = p.CreationTimestamp.Time
	}
	return at
}
