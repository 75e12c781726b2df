// Package cronjob makes Jobs at given times.
//
// Reconcile is pure: from a CronJob, its Jobs and the time it plans the Job that is due, the removal of old ones, and when to
// look again. A Job's name contains the minute it is for, so it is made once, and what was made is read from the Jobs as well as
// from the status, so a crash between the two loses nothing.
package cronjob

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/job"
	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

const (
	// manyMissed is when missed times are worth a warning, as upstream.
	manyMissed = 100
	// maxMissed bounds the walk over missed times; after 100,000 (ten weeks of minutes) the walk goes on from a later start.
	maxMissed = 100_000
	// maxJobBase leaves room for "-" and ten digits in 63 characters.
	maxJobBase = 63 - 11
)

// Reconcile plans the next step of a CronJob. jobs are those that it controls.
func Reconcile(cj *batchv1.CronJob, jobs []*batchv1.Job, now time.Time) plan.Plan {
	s := &step{cj: cj, now: now, status: *cj.Status.DeepCopy(), jobs: slices.SortedFunc(slices.Values(jobs), func(a, b *batchv1.Job) int { return scheduledAt(a).Compare(scheduledAt(b)) })}
	if cj.DeletionTimestamp != nil {
		return s.plan
	}
	s.observe()
	s.cleanUp()
	s.schedule()
	s.write()
	return s.plan
}

type step struct {
	cj     *batchv1.CronJob
	jobs   []*batchv1.Job
	now    time.Time
	status batchv1.CronJobStatus
	plan   plan.Plan
	active []*batchv1.Job
}

// scheduledAt is the time that a Job was made for; a Job made by hand (kubectl create job --from) counts as of its creation.
func scheduledAt(j *batchv1.Job) time.Time {
	if at, ok := slot(j); ok {
		return at
	}
	return j.CreationTimestamp.Time
}

// slot is the time of the schedule that a Job serves, false if it serves none.
func slot(j *batchv1.Job) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339, j.Annotations[batchv1.CronJobScheduledTimestampAnnotation])
	return at, err == nil
}

// observe reads the status from the Jobs.
func (s *step) observe() {
	s.status.Active = nil
	for _, j := range s.jobs {
		if at, ok := slot(j); ok && (s.status.LastScheduleTime == nil || s.status.LastScheduleTime.Time.Before(at)) {
			s.status.LastScheduleTime = &metav1.Time{Time: at}
		}
		done := job.Finished(j)
		if done == nil {
			s.active = append(s.active, j)
			// Without a resource version, which would make every change of a Job a change of the CronJob.
			s.status.Active = append(s.status.Active, corev1.ObjectReference{
				Kind: "Job", APIVersion: "batch/v1", Namespace: j.Namespace, Name: j.Name, UID: j.UID,
			})
			continue
		}
		if done.Type == batchv1.JobComplete && j.Status.CompletionTime != nil && (s.status.LastSuccessfulTime == nil || s.status.LastSuccessfulTime.Before(j.Status.CompletionTime)) {
			s.status.LastSuccessfulTime = j.Status.CompletionTime
		}
	}
}

// cleanUp deletes the oldest finished Jobs beyond the history limits.
func (s *step) cleanUp() {
	s.trim(batchv1.JobComplete, s.cj.Spec.SuccessfulJobsHistoryLimit, 3)
	s.trim(batchv1.JobFailed, s.cj.Spec.FailedJobsHistoryLimit, 1)
}

func (s *step) trim(how batchv1.JobConditionType, limit *int32, otherwise int32) {
	if limit == nil {
		limit = &otherwise
	}
	var done []*batchv1.Job
	for _, j := range s.jobs {
		if c := job.Finished(j); c != nil && c.Type == how && j.DeletionTimestamp == nil {
			done = append(done, j)
		}
	}
	for _, j := range done[:max(0, len(done)-int(*limit))] {
		s.delete(j)
	}
}

func (s *step) delete(j *batchv1.Job) {
	w := plan.Delete(plan.Jobs, j)
	w.Propagation = client.PropagateBackground
	s.plan.Add(w)
	s.plan.EventOf(j, s.cj, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", j.Name)
}

// schedule makes the Job that is due and looks again at the next time.
func (s *step) schedule() {
	cj := s.cj
	if cj.Spec.Suspend != nil && *cj.Spec.Suspend {
		return
	}
	loc := s.now.Location() // as documented: that of the controller manager
	if cj.Spec.TimeZone != nil {
		var err error
		if loc, err = time.LoadLocation(*cj.Spec.TimeZone); err != nil {
			s.plan.Event(cj, corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %v", *cj.Spec.TimeZone, err)
			return
		}
	}
	when, err := Parse(cj.Spec.Schedule)
	if err != nil {
		s.plan.Event(cj, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %s : %v", cj.Spec.Schedule, err)
		return
	}
	due, missed, next := s.times(when, loc)
	if !next.IsZero() {
		s.plan.LookAgain(s.now, next)
	}
	if missed > manyMissed {
		s.plan.Event(cj, corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	if due.IsZero() {
		return
	}
	if d := cj.Spec.StartingDeadlineSeconds; d != nil && due.Add(time.Duration(*d)*time.Second).Before(s.now) {
		s.plan.Event(cj, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", due.UTC().Format(time.RFC1123Z))
		return
	}
	s.start(due)
}

// times returns the newest time that is due and not served, how many are, and the first that is not due yet.
func (s *step) times(when *Schedule, loc *time.Location) (due time.Time, missed int, next time.Time) {
	from := s.cj.CreationTimestamp.Time
	if s.status.LastScheduleTime != nil {
		from = s.status.LastScheduleTime.Time
	}
	if d := s.cj.Spec.StartingDeadlineSeconds; d != nil {
		if earliest := s.now.Add(-time.Duration(*d) * time.Second); earliest.After(from) {
			from = earliest
		}
	}
	for at := when.Next(from.In(loc)); ; at = when.Next(at) {
		if at.IsZero() || at.After(s.now) {
			return due, missed, at
		}
		due = at
		if missed++; missed == maxMissed {
			// So far behind only the newest matters: go on a day before now.
			at = s.now.Add(-24 * time.Hour).In(loc)
			if at.Before(due) {
				at = due
			}
		}
	}
}

func (s *step) start(due time.Time) {
	switch s.cj.Spec.ConcurrencyPolicy {
	case batchv1.ForbidConcurrent:
		if len(s.active) > 0 {
			s.plan.Event(s.cj, corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			return
		}
	case batchv1.ReplaceConcurrent:
		if len(s.active) > 0 {
			for _, j := range s.active {
				if j.DeletionTimestamp == nil {
					s.delete(j)
				}
			}
			return // The new one is made once these can be seen to be gone.
		}
	}
	j := newJob(s.cj, due)
	if slices.ContainsFunc(s.jobs, func(have *batchv1.Job) bool { return have.Name == j.Name }) {
		return
	}
	s.plan.Add(plan.Create(plan.Jobs, j))
	s.plan.EventOf(j, s.cj, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", j.Name)
}

func newJob(cj *batchv1.CronJob, at time.Time) *batchv1.Job {
	template := cj.Spec.JobTemplate.DeepCopy()
	annotations := maps.Clone(template.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.Format(time.RFC3339)
	base := cj.Name
	if len(base) > maxJobBase {
		base = base[:maxJobBase]
	}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cj.Namespace, Name: base + "-" + strconv.FormatInt(at.Unix()/60, 10), Labels: template.Labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{owner.Ref(plan.CronJobs, cj)},
		},
		Spec: template.Spec,
	}
}

func (s *step) write() {
	slices.SortFunc(s.status.Active, func(a, b corev1.ObjectReference) int { return strings.Compare(a.Name, b.Name) })
	if apiequality.Semantic.DeepEqual(s.status, s.cj.Status) {
		return
	}
	next := s.cj.DeepCopy()
	next.Status = s.status
	s.plan.Add(plan.UpdateStatus(plan.CronJobs, next))
	s.tellMissing(next)
}

// tellMissing says, with the status that lists them no more, which Jobs have gone before their end. A Job that is replaced goes by
// this controller's hand.
func (s *step) tellMissing(next *batchv1.CronJob) {
	if s.cj.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		return
	}
	for _, ref := range s.cj.Status.Active {
		if !slices.ContainsFunc(s.jobs, func(j *batchv1.Job) bool { return j.UID == ref.UID }) {
			s.plan.EventOf(next, s.cj, corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", ref.Name)
		}
	}
}
