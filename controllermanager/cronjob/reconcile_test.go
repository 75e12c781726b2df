package cronjob

import (
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// The next times of schedules, among them those at which clocks change, are those of cron.
func TestNext(t *testing.T) {
	for _, c := range []struct{ schedule, zone, from, want string }{
		{"*/15 * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"},
		{"*/15 * * * *", "UTC", "2026-01-01T00:14:59Z", "2026-01-01T00:15:00Z"},
		{"0 0 1 1 *", "UTC", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"0 12 * * MON-FRI", "UTC", "2026-01-02T13:00:00Z", "2026-01-05T12:00:00Z"},
		{"0 0 * * 7", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"},
		{"0 0 13 * FRI", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"},
		{"0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"5,10-12/2 3 * jan,MAR *", "UTC", "2026-01-31T03:12:00Z", "2026-03-01T03:05:00Z"},
		{"@hourly", "UTC", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z"},
		{"@every 90s", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"},
		{"0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-30T02:30:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00-03:00", "2018-11-05T00:00:00-02:00"},
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		from, _ := time.Parse(time.RFC3339, c.from)
		want, _ := time.Parse(time.RFC3339, c.want)
		s, err := Parse(c.schedule)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(from.In(loc)); !got.Equal(want) {
			t.Errorf("%s in %s after %s: %s, want %s", c.schedule, c.zone, c.from, got, want)
		}
	}
}

// What is no schedule is refused.
func TestParseErrors(t *testing.T) {
	for _, text := range []string{"", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "x * * * *", "@every x", "@never", "* * * * * *"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func backup(f func(*batchv1.CronJob)) *batchv1.CronJob {
	cj := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "backup"}, Spec: batchv1.CronJobSpec{Schedule: "*/10 * * * *", ConcurrencyPolicy: batchv1.AllowConcurrent}}
	if f != nil {
		f(cj)
	}
	return cj
}

func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	for _, cj := range plantest.List[*batchv1.CronJob](w, plan.CronJobs) {
		out[cj.Name] = Reconcile(cj, plantest.List[*batchv1.Job](w, plan.Jobs), w.Now)
	}
	return out
}

func world(f func(*batchv1.CronJob)) *plantest.World {
	w := plantest.New()
	plantest.Put(w, plan.CronJobs, backup(f))
	return w
}

func after(t *testing.T, w *plantest.World, d time.Duration) *plantest.World {
	t.Helper()
	w = w.Clone()
	w.Advance(d)
	return plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}.Run(t)
}

func finish(w *plantest.World, how batchv1.JobConditionType) {
	for _, j := range plantest.List[*batchv1.Job](w, plan.Jobs) {
		next := j.DeepCopy()
		at := metav1.NewTime(w.Now)
		next.Status = batchv1.JobStatus{CompletionTime: &at, Conditions: []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue}}}
		plantest.Put(w, plan.Jobs, next)
	}
}

func jobs(w *plantest.World) int { return len(plantest.List[*batchv1.Job](w, plan.Jobs)) }

// One Job is made for the newest time that is due, exactly one whatever write the controller dies after, and the next look is
// at the next time.
func TestSchedule(t *testing.T) {
	w := world(nil)
	if p := plans(w)["backup"]; !p.Empty() || p.After != 10*time.Minute {
		t.Errorf("before its time: %d writes, looks again after %v", len(p.Writes), p.After)
	}
	late := w.Clone()
	late.Advance(35 * time.Minute)
	story := plantest.Story{Writes: Controller().Writes, Start: late, Plans: plans}
	end := story.Run(t)
	all := plantest.List[*batchv1.Job](end, plan.Jobs)
	due := w.Now.Add(30 * time.Minute)
	if len(all) != 1 || all[0].Name != fmt.Sprintf("backup-%d", due.Unix()/60) || all[0].Annotations[batchv1.CronJobScheduledTimestampAnnotation] != due.Format(time.RFC3339) {
		t.Fatalf("jobs:\n%s", end.Dump())
	}
	s := plantest.Get[*batchv1.CronJob](end, plan.CronJobs, "ns", "backup").Status
	if !s.LastScheduleTime.Time.Equal(due) || len(s.Active) != 1 || plans(end)["backup"].After != 5*time.Minute {
		t.Errorf("status %+v, looks again after %v", s, plans(end)["backup"].After)
	}
	story.Crash(t)
	story.Stale(t, 1, 2)
}

// The concurrency policies.
func TestConcurrency(t *testing.T) {
	for policy, want := range map[batchv1.ConcurrencyPolicy]string{batchv1.AllowConcurrent: "2 jobs", batchv1.ForbidConcurrent: "1 jobs", batchv1.ReplaceConcurrent: "1 jobs, new"} {
		w := after(t, world(func(cj *batchv1.CronJob) { cj.Spec.ConcurrencyPolicy = policy }), 10*time.Minute)
		first := plantest.List[*batchv1.Job](w, plan.Jobs)[0].Name
		w = after(t, w, 10*time.Minute)
		got := fmt.Sprintf("%d jobs", jobs(w))
		if !w.Exists(plan.Jobs, "ns", first) {
			got += ", new"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", policy, got, want)
		}
	}
}

// Suspension, deadlines, history limits and unusable schedules.
func TestLimits(t *testing.T) {
	yes, deadline, zone := true, int64(60), "Nowhere/Land"
	if w := after(t, world(func(cj *batchv1.CronJob) { cj.Spec.Suspend = &yes }), time.Hour); jobs(w) != 0 {
		t.Error("a suspended CronJob made a Job")
	}
	if w := after(t, world(func(cj *batchv1.CronJob) { cj.Spec.StartingDeadlineSeconds = &deadline }), 15*time.Minute); jobs(w) != 0 {
		t.Error("a Job was made after its deadline")
	}
	w := world(nil)
	for range 6 {
		w = after(t, w, 10*time.Minute)
		finish(w, batchv1.JobComplete)
	}
	w = after(t, w, time.Second)
	if jobs(w) != 3 || plantest.Get[*batchv1.CronJob](w, plan.CronJobs, "ns", "backup").Status.LastSuccessfulTime == nil {
		t.Errorf("%d finished Jobs are kept, want 3", jobs(w))
	}
	finish(w, batchv1.JobFailed)
	if w = after(t, w, time.Second); jobs(w) != 1 {
		t.Errorf("%d failed Jobs are kept, want 1", jobs(w))
	}
	for reason, f := range map[string]func(*batchv1.CronJob){
		"UnparseableSchedule": func(cj *batchv1.CronJob) { cj.Spec.Schedule = "never" },
		"UnknownTimeZone":     func(cj *batchv1.CronJob) { cj.Spec.TimeZone = &zone },
		"TooManyMissedTimes":  nil,
	} {
		w := world(f)
		w.Advance(100 * 24 * time.Hour)
		if e := plans(w)["backup"].Events; len(e) == 0 || e[0].Reason != reason {
			t.Errorf("events %v, want %s", e, reason)
		}
	}
}

// A Job that somebody deletes while it runs is told of once, and leaves the status; one that is replaced is not worth a word.
func TestMissingJob(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC)
	for policy, want := range map[batchv1.ConcurrencyPolicy]int{batchv1.AllowConcurrent: 1, batchv1.ReplaceConcurrent: 0} {
		cj := backup(func(cj *batchv1.CronJob) {
			cj.CreationTimestamp = metav1.NewTime(now)
			cj.Spec.ConcurrencyPolicy = policy
			cj.Status.Active = []corev1.ObjectReference{{Name: "backup-1", UID: "gone"}}
		})
		p := Reconcile(cj, nil, now)
		if len(p.Writes) != 1 || len(p.Events) != want || want == 1 && (p.Events[0].Reason != "MissingJob" || p.Events[0].Message != "Active job went missing: backup-1") {
			t.Errorf("%s: %d writes, events %+v", policy, len(p.Writes), p.Events)
			continue
		}
		if again := Reconcile(p.Writes[0].Object.(*batchv1.CronJob), nil, now); len(again.Writes)+len(again.Events) != 0 {
			t.Errorf("%s: it is told again: %+v", policy, again.Events)
		}
	}
}
