package job

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/pods"
)

func work(parallelism, completions int32, f func(*batchv1.Job)) *batchv1.Job {
	labels := map[string]string{"job": "work"}
	limit := int32(6)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "work"},
		Spec: batchv1.JobSpec{
			Parallelism: &parallelism, Completions: &completions, BackoffLimit: &limit, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c"}}}},
		},
	}
	if f != nil {
		f(job)
	}
	return job
}

func indexedJob(j *batchv1.Job) {
	mode := batchv1.IndexedCompletion
	j.Spec.CompletionMode = &mode
}

func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	for _, j := range plantest.List[*batchv1.Job](w, plan.Jobs) {
		out[j.Name] = Reconcile(Input{Job: j, Pods: plantest.List[*corev1.Pod](w, plan.Pods), Taken: func(name string) bool { return w.Exists(plan.Pods, "ns", name) }}, w.Now)
	}
	return out
}

// kubelet ends pods one at a time, as exit says; time passes, so that back-off does too.
func kubelet(exit func(*corev1.Pod) int32) func(*plantest.World) {
	return func(w *plantest.World) {
		for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
			if pod.DeletionTimestamp != nil && len(pod.Finalizers) == 0 {
				w.Remove(plan.Pods, pod.Namespace, pod.Name)
				return
			}
			if pods.Finished(pod) {
				continue
			}
			code := exit(pod)
			if pod.DeletionTimestamp == nil && code < 0 {
				continue
			}
			next := pod.DeepCopy()
			next.Spec.NodeName, next.Status.Phase = "node", corev1.PodSucceeded
			if code != 0 {
				next.Status.Phase = corev1.PodFailed
			}
			next.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(w.Now)}}}}
			w.Advance(time.Second)
			plantest.Put(w, plan.Pods, next)
			return
		}
		if p := plans(w)["work"]; p.After > 0 && len(p.Writes) == 0 && p.After < 7*time.Minute {
			w.Advance(p.After)
			plantest.Put(w, plan.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "clock"}, Data: map[string]string{"now": w.Now.String()}})
		}
	}
}

func succeed(*corev1.Pod) int32 { return 0 }
func fail(*corev1.Pod) int32    { return 1 }
func never(*corev1.Pod) int32   { return -1 }

func run(t *testing.T, j *batchv1.Job, exit func(*corev1.Pod) int32) (*plantest.World, batchv1.JobStatus) {
	t.Helper()
	w := plantest.New()
	plantest.Put(w, plan.Jobs, j)
	end := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(exit)}.Run(t)
	return end, status(end)
}

func status(w *plantest.World) batchv1.JobStatus {
	return plantest.Get[*batchv1.Job](w, plan.Jobs, "ns", "work").Status
}

func end(s batchv1.JobStatus) string {
	if c := Finished(&batchv1.Job{Status: s}); c != nil {
		return string(c.Type) + " " + c.Reason
	}
	return "unfinished"
}

// Every pod's end is counted exactly once and never more than parallelism run, whatever write the controller dies after, and
// with lagging mirrors.
func TestCompletions(t *testing.T) {
	for name, mode := range map[string]func(*batchv1.Job){"NonIndexed": nil, "Indexed": indexedJob} {
		t.Run(name, func(t *testing.T) {
			w := plantest.New()
			plantest.Put(w, plan.Jobs, work(2, 5, mode))
			story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(succeed), Invariant: func(w *plantest.World) error {
				active := 0
				for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
					if pods.Active(p) {
						active++
					}
				}
				if s := status(w); active > 2 || s.Succeeded > 5 || s.Failed > 0 {
					return fmt.Errorf("%d active, %d succeeded, %d failed", active, s.Succeeded, s.Failed)
				}
				return nil
			}}
			done := story.Run(t)
			s := status(done)
			if end(s) != "Complete CompletionsReached" || s.Succeeded != 5 || s.Active != 0 || s.CompletionTime == nil || s.StartTime == nil {
				t.Errorf("status %+v", s)
			}
			if name == "Indexed" && s.CompletedIndexes != "0-4" {
				t.Errorf("completed %s", s.CompletedIndexes)
			}
			for _, p := range plantest.List[*corev1.Pod](done, plan.Pods) {
				if tracked(p) {
					t.Errorf("%s is still tracked", p.Name)
				}
			}
			story.Crash(t)
			story.Lag(t, 10)
		})
	}
}

// Failures are counted, retried with back-off, and end the Job beyond its limit.
func TestBackoffLimit(t *testing.T) {
	j := work(1, 1, func(j *batchv1.Job) { *j.Spec.BackoffLimit = 2 })
	w, s := run(t, j, fail)
	if end(s) != "Failed BackoffLimitExceeded" || s.Failed != 3 || s.Succeeded != 0 {
		t.Errorf("status %+v", s)
	}
	var created []time.Duration
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		created = append(created, p.CreationTimestamp.Sub(plantest.New().Now))
	}
	most := time.Duration(0)
	for _, d := range created {
		most = max(most, d)
	}
	if len(created) != 3 || most < 30*time.Second || most > 40*time.Second {
		t.Errorf("pods were created after %v; want the last about 30s in", created)
	}
	start := plantest.New()
	plantest.Put(start, plan.Jobs, j)
	plantest.Story{Writes: Controller().Writes, Start: start, Plans: plans, Environment: kubelet(fail)}.Lag(t, 5)
}

// A deadline ends the Job and its pods, which count as failed.
func TestDeadline(t *testing.T) {
	w := plantest.New()
	limit := int64(60)
	plantest.Put(w, plan.Jobs, work(2, 2, func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = &limit }))
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(never)}
	done := story.Run(t)
	if s := status(done); end(s) != "Failed DeadlineExceeded" || s.Active != 0 || s.Failed != 2 {
		t.Errorf("status %+v", s)
	}
}

// Suspending takes the pods away without counting them; resuming starts over.
func TestSuspend(t *testing.T) {
	w := plantest.New()
	plantest.Put(w, plan.Jobs, work(3, 3, nil))
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(never)}.Run(t)
	edit := func(suspend bool) {
		j := plantest.Get[*batchv1.Job](w, plan.Jobs, "ns", "work").DeepCopy()
		j.Spec.Suspend = &suspend
		plantest.Put(w, plan.Jobs, j)
	}
	edit(true)
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(never)}
	story.Crash(t)
	w = story.Run(t)
	if s := status(w); s.Active != 0 || s.Failed != 0 || s.StartTime != nil || condition(&s, batchv1.JobSuspended).Status != corev1.ConditionTrue {
		t.Errorf("suspended: %+v", s)
	}
	edit(false)
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(succeed)}.Run(t)
	if s := status(w); end(s) != "Complete CompletionsReached" || s.Succeeded != 3 || condition(&s, batchv1.JobSuspended).Reason != "JobResumed" {
		t.Errorf("resumed: %+v", s)
	}
}

// A smaller parallelism takes pods away without counting them.
func TestShrink(t *testing.T) {
	w := plantest.New()
	plantest.Put(w, plan.Jobs, work(4, 8, indexedJob))
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(never)}.Run(t)
	j := plantest.Get[*batchv1.Job](w, plan.Jobs, "ns", "work").DeepCopy()
	*j.Spec.Parallelism = 1
	plantest.Put(w, plan.Jobs, j)
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(never)}.Run(t)
	left := plantest.List[*corev1.Pod](w, plan.Pods)
	if s := status(w); s.Active != 1 || s.Failed != 0 || len(left) != 1 || indexOf(left[0]) != 0 {
		t.Errorf("status %+v, pods %v", s, len(left))
	}
}

// Indexes fail one by one with a limit per index; the others complete, and the Job fails in the end.
func TestBackoffLimitPerIndex(t *testing.T) {
	one := int32(1)
	w, s := run(t, work(3, 3, func(j *batchv1.Job) {
		indexedJob(j)
		j.Spec.BackoffLimitPerIndex, *j.Spec.BackoffLimit = &one, 1000
	}), func(p *corev1.Pod) int32 {
		if indexOf(p) == 1 {
			return 1
		}
		return 0
	})
	if end(s) != "Failed FailedIndexes" || s.CompletedIndexes != "0,2" || *s.FailedIndexes != "1" || s.Failed != 2 {
		t.Errorf("status %+v with %s", s, *s.FailedIndexes)
	}
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if p.Spec.Hostname != fmt.Sprintf("work-%d", indexOf(p)) || p.Spec.Containers[0].Env[0].Name != "JOB_COMPLETION_INDEX" {
			t.Errorf("pod %+v", p.Spec)
		}
	}
}

// The pod failure policy ends the Job at once, or lets failures not count.
func TestPodFailurePolicy(t *testing.T) {
	rule := func(action batchv1.PodFailurePolicyAction, code int32) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			*j.Spec.BackoffLimit = 0
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{code}},
			}}}
		}
	}
	w, s := run(t, work(1, 1, rule(batchv1.PodFailurePolicyActionFailJob, 42)), func(*corev1.Pod) int32 { return 42 })
	pod := plantest.List[*corev1.Pod](w, plan.Pods)[0]
	want := fmt.Sprintf("Container c for pod ns/%s failed with exit code 42 matching FailJob rule at index 0", pod.Name)
	if c := Finished(&batchv1.Job{Status: s}); c == nil || c.Reason != "PodFailurePolicy" || c.Message != want {
		t.Errorf("condition %+v", c)
	}
	tries := 0
	_, s = run(t, work(1, 1, rule(batchv1.PodFailurePolicyActionIgnore, 42)), func(*corev1.Pod) int32 {
		if tries++; tries < 3 {
			return 42
		}
		return 0
	})
	if end(s) != "Complete CompletionsReached" || s.Failed != 0 {
		t.Errorf("status %+v", s)
	}
}

// The success policy ends an Indexed Job as soon as its rule is met; the pods that still run go.
func TestSuccessPolicy(t *testing.T) {
	leader := "0"
	_, s := run(t, work(3, 3, func(j *batchv1.Job) {
		indexedJob(j)
		j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: &leader}}}
	}), func(p *corev1.Pod) int32 {
		if indexOf(p) == 0 {
			return 0
		}
		return -1
	})
	if end(s) != "Complete SuccessPolicy" || s.CompletedIndexes != "0" || s.Active != 0 {
		t.Errorf("status %+v", s)
	}
}

// Index sets are written and read as the API documents, whatever the order of additions.
func TestIndexes(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var x indexes
		model := map[int]bool{}
		for range 30 {
			i := random.IntN(40)
			x.add(i)
			model[i] = true
		}
		if again := parseIndexes(x.String()); again.String() != x.String() || x.total() != len(model) {
			t.Fatalf("%s becomes %s; %d members, want %d", x, again, x.total(), len(model))
		}
		for i := range 40 {
			if x.has(i) != model[i] {
				t.Fatalf("%s has %d: %v", x, i, x.has(i))
			}
		}
	}
	if got := parseIndexes("1,3-5,7").String(); got != "1,3-5,7" {
		t.Errorf("got %s", got)
	}
}

// When an Indexed Job shrinks, pods of indexes that it has no more go, completed ones do not count, and the indexes that are left
// get their pods, whatever write the controller dies after.
func TestElastic(t *testing.T) {
	w := plantest.New()
	plantest.Put(w, plan.Jobs, work(5, 5, indexedJob))
	failed := false
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(func(p *corev1.Pod) int32 {
		switch {
		case indexOf(p) == 4:
			return 0
		case indexOf(p) == 1 && !failed:
			failed = true
			return 1
		}
		return -1
	})}.Run(t)
	if s := status(w); s.CompletedIndexes != "4" || s.Failed != 1 || s.Active != 4 {
		t.Fatalf("status %+v", s)
	}
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if indexOf(p) == 1 && pods.Active(p) { // not there yet when the Job shrinks
			w.Remove(plan.Pods, "ns", p.Name)
		}
	}
	j := plantest.Get[*batchv1.Job](w, plan.Jobs, "ns", "work").DeepCopy()
	*j.Spec.Completions, *j.Spec.Parallelism = 3, 3
	plantest.Put(w, plan.Jobs, j)
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet(never)}
	end := story.Run(t)
	have := map[int]bool{}
	for _, p := range plantest.List[*corev1.Pod](end, plan.Pods) {
		if pods.Active(p) {
			have[indexOf(p)] = true
		}
	}
	if s := status(end); s.CompletedIndexes != "" || s.Succeeded != 0 || s.Active != 3 || !have[0] || !have[1] || !have[2] {
		t.Errorf("status %+v, indexes %v", s, have)
	}
	story.Crash(t)
}

// With a limit per index, an index that failed waits before it is tried again; others do not wait for it.
func TestIndexesWaitByThemselves(t *testing.T) {
	limit := int32(3)
	begin := plantest.New().Now
	w, s := run(t, work(1, 2, func(j *batchv1.Job) {
		indexedJob(j)
		j.Spec.BackoffLimitPerIndex = &limit
	}), func(p *corev1.Pod) int32 {
		if indexOf(p) == 0 && failuresBefore(p) == 0 {
			return 1
		}
		return 0
	})
	if end(s) != "Complete CompletionsReached" {
		t.Fatalf("status %+v", s)
	}
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		switch wait := p.CreationTimestamp.Sub(begin); {
		case indexOf(p) == 1 && wait >= retryFirst:
			t.Errorf("index 1 waited %v for another", wait)
		case indexOf(p) == 0 && failuresBefore(p) == 1 && wait < retryFirst:
			t.Errorf("index 0 was tried again after %v", wait)
		}
	}
}
