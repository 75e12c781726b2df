package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// statusCheck checks a change of a job's status, which a controller outside the cluster may write (spec.managedBy). A rule holds
// for what the change touches: what is wrong already may stay, so that a status can be repaired piece by piece (KEP-4368).
type statusCheck struct {
	*check.Errors
	job, old *batchv1.Job
	at       *field.Path
}

func checkJobStatus(e *check.Errors, j, old *batchv1.Job) {
	c := statusCheck{e, j, old, field.NewPath("status")}
	c.numbers()
	c.uncounted()
	c.conditions()
	c.times()
	c.finished()
	c.indexes()
	c.ready()
	c.kept()
}

// changed reports whether the condition of a type is true in one of the two statuses only.
func (c *statusCheck) changed(t batchv1.JobConditionType) bool {
	return hasJobCondition(c.job, t) != hasJobCondition(c.old, t)
}

func finished(j *batchv1.Job) bool {
	return hasJobCondition(j, batchv1.JobComplete) || hasJobCondition(j, batchv1.JobFailed)
}

func (c *statusCheck) numbers() {
	s := &c.job.Status
	c.NonNegative(c.at.Child("active"), int64(s.Active))
	c.NonNegative(c.at.Child("succeeded"), int64(s.Succeeded))
	c.NonNegative(c.at.Child("failed"), int64(s.Failed))
	if s.Ready != nil {
		c.NonNegative(c.at.Child("ready"), int64(*s.Ready))
	}
	if s.Terminating != nil {
		c.NonNegative(c.at.Child("terminating"), int64(*s.Terminating))
	}
}

// uncounted checks that each pod that has ended and is not counted yet is listed once.
func (c *statusCheck) uncounted() {
	u := c.job.Status.UncountedTerminatedPods
	if u == nil {
		return
	}
	seen := map[types.UID]bool{}
	each := func(name string, pods []types.UID) {
		for i, uid := range pods {
			at := c.at.Child("uncountedTerminatedPods", name).Index(i)
			switch {
			case uid == "":
				c.Invalid(at, uid, "must not be empty")
			case seen[uid]:
				c.Duplicate(at, uid)
			}
			seen[uid] = true
		}
	}
	each("succeeded", u.Succeeded)
	each("failed", u.Failed)
}

// conditions checks which of the conditions that end a job may be true together, and in which order they become so.
func (c *statusCheck) conditions() {
	has := func(t batchv1.JobConditionType) bool { return hasJobCondition(c.job, t) }
	refuse := func(detail string) { c.Invalid(c.at.Child("conditions"), field.OmitValueType{}, detail) }
	complete, failed := has(batchv1.JobComplete), has(batchv1.JobFailed)
	met, failing := has(batchv1.JobSuccessCriteriaMet), has(batchv1.JobFailureTarget)
	completeChanged := c.changed(batchv1.JobComplete)
	if complete && failed && (completeChanged || c.changed(batchv1.JobFailed)) {
		refuse("cannot set Complete=True and Failed=true conditions")
	}
	if complete && failing && (completeChanged || c.changed(batchv1.JobFailureTarget)) {
		refuse("cannot set Complete=True and FailureTarget=true conditions")
	}
	if failed && !failing && (c.changed(batchv1.JobFailed) || c.failedIndexesChanged()) {
		refuse("cannot set Failed=True condition without the FailureTarget=true condition")
	}
	if complete && !met && (completeChanged || c.changed(batchv1.JobSuccessCriteriaMet)) {
		refuse("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	}
	if met && failed {
		refuse("cannot set SuccessCriteriaMet=True and Failed=true conditions")
	}
	if met && failing {
		refuse("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
	}
	if c.job.Spec.SuccessPolicy != nil && complete && !met {
		refuse("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
	}
}

func (c *statusCheck) startChanged() bool {
	return !c.job.Status.StartTime.Equal(c.old.Status.StartTime)
}

func (c *statusCheck) completionChanged() bool {
	return !c.job.Status.CompletionTime.Equal(c.old.Status.CompletionTime)
}

func (c *statusCheck) times() {
	s, at := &c.job.Status, c.at.Child("completionTime")
	complete := hasJobCondition(c.job, batchv1.JobComplete)
	if c.changed(batchv1.JobComplete) || c.completionChanged() {
		if s.CompletionTime != nil && !complete {
			c.Invalid(at, s.CompletionTime, "cannot set completionTime when there is no Complete=True condition")
		}
		if s.CompletionTime == nil && complete {
			c.Required(at, "completionTime is required for Complete jobs")
		}
	}
	if s.StartTime != nil && s.CompletionTime != nil && s.CompletionTime.Before(s.StartTime) && (c.startChanged() || c.completionChanged()) {
		c.Invalid(at, s.CompletionTime, "must be equal to or after `startTime`")
	}
}

// finished checks that a job that has ended has no pods left.
func (c *statusCheck) finished() {
	if !finished(c.job) {
		return
	}
	s, was, ended := &c.job.Status, &c.old.Status, !finished(c.old)
	if s.Active > 0 && (ended || s.Active != was.Active) {
		c.Invalid(c.at.Child("active"), s.Active, "active>0 is invalid for finished job")
	}
	never := c.job.Spec.Suspend != nil && *c.job.Spec.Suspend && c.job.Spec.Completions != nil && *c.job.Spec.Completions == 0
	if s.StartTime == nil && (ended || c.startChanged()) && !never {
		c.Required(c.at.Child("startTime"), "startTime is required for finished job")
	}
	if u := s.UncountedTerminatedPods; u != nil && len(u.Failed)+len(u.Succeeded) > 0 && (ended || !equality.Semantic.DeepEqual(u, was.UncountedTerminatedPods)) {
		c.Invalid(c.at.Child("uncountedTerminatedPods"), u, "must be empty for finished job")
	}
	if s.Terminating != nil && *s.Terminating > 0 && (ended || !equality.Semantic.DeepEqual(s.Terminating, was.Terminating)) {
		c.Invalid(c.at.Child("terminating"), s.Terminating, "terminating>0 is invalid for finished job")
	}
}

func (c *statusCheck) ready() {
	s, was := &c.job.Status, &c.old.Status
	changed := s.Active != was.Active || !equality.Semantic.DeepEqual(s.Ready, was.Ready)
	if s.Ready != nil && *s.Ready > s.Active && changed {
		c.Invalid(c.at.Child("ready"), *s.Ready, "cannot set more ready pods than active")
	}
}

func (c *statusCheck) failedIndexesChanged() bool {
	return !equality.Semantic.DeepEqual(c.job.Status.FailedIndexes, c.old.Status.FailedIndexes)
}

// indexes checks the lists of an indexed job's indexes that have ended.
func (c *statusCheck) indexes() {
	spec, s := &c.job.Spec, &c.job.Status
	completedAt, failedAt := c.at.Child("completedIndexes"), c.at.Child("failedIndexes")
	completedChanged, failedChanged := s.CompletedIndexes != c.old.Status.CompletedIndexes, c.failedIndexesChanged() && s.FailedIndexes != nil
	if completedChanged && spec.Completions != nil {
		if _, err := countIndexes(s.CompletedIndexes, *spec.Completions); err != nil {
			c.Invalid(completedAt, s.CompletedIndexes, fmt.Sprintf("error parsing completedIndexes: %v", err))
		}
	}
	if failedChanged && spec.Completions != nil && spec.BackoffLimitPerIndex != nil {
		if _, err := countIndexes(*s.FailedIndexes, *spec.Completions); err != nil {
			c.Invalid(failedAt, *s.FailedIndexes, fmt.Sprintf("error parsing failedIndexes: %v", err))
		}
	}
	if completedChanged && s.CompletedIndexes != "" && !indexed(spec) {
		c.Invalid(completedAt, s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode")
	}
	if failedChanged && spec.BackoffLimitPerIndex == nil {
		c.Invalid(failedAt, *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
	}
	if (completedChanged || failedChanged) && spec.Completions != nil && s.FailedIndexes != nil {
		if i, both := overlap(s.CompletedIndexes, *s.FailedIndexes, *spec.Completions); both {
			c.Invalid(failedAt, *s.FailedIndexes, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", i))
		}
	}
}

// kept checks that what has been said of a job is not taken back.
func (c *statusCheck) kept() {
	s, was := &c.job.Status, &c.old.Status
	conditions := c.at.Child("conditions")
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		if hasJobCondition(c.old, t) && !hasJobCondition(c.job, t) {
			c.Invalid(conditions, field.OmitValueType{}, fmt.Sprintf("cannot disable the terminal %s=True condition", t))
		}
	}
	if s.Failed < was.Failed {
		c.Invalid(c.at.Child("failed"), s.Failed, "cannot decrease the failed counter")
	}
	// An indexed job whose indexes all run at once may shrink.
	elastic := indexed(&c.job.Spec) && equality.Semantic.DeepEqual(c.job.Spec.Completions, c.job.Spec.Parallelism)
	if s.Succeeded < was.Succeeded && !elastic {
		c.Invalid(c.at.Child("succeeded"), s.Succeeded, "cannot decrease the succeeded counter")
	}
	if s.CompletionTime != nil && was.CompletionTime != nil && c.completionChanged() {
		c.Invalid(c.at.Child("completionTime"), s.CompletionTime, "field is immutable")
	}
	suspended := c.job.Spec.Suspend != nil && *c.job.Spec.Suspend
	if was.StartTime != nil && c.startChanged() && !suspended && !c.resumes() {
		c.Invalid(c.at.Child("startTime"), s.StartTime, "field is immutable for unsuspended job once set")
	}
	met, wasMet := hasJobCondition(c.job, batchv1.JobSuccessCriteriaMet), hasJobCondition(c.old, batchv1.JobSuccessCriteriaMet)
	if wasMet && !met {
		c.Invalid(conditions, field.OmitValueType{}, "cannot disable the SuccessCriteriaMet=True condition")
	}
	if hasJobCondition(c.old, batchv1.JobComplete) && !wasMet && met {
		c.Invalid(conditions, field.OmitValueType{}, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
	}
}

// resumes reports whether the change says that a suspended job goes on.
func (c *statusCheck) resumes() bool {
	if !hasJobCondition(c.old, batchv1.JobSuspended) {
		return false
	}
	for _, condition := range c.job.Status.Conditions {
		if condition.Type == batchv1.JobSuspended {
			return condition.Status == corev1.ConditionFalse
		}
	}
	return false
}
