package job

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// workers is how many Jobs, and how many orphans, are worked on at a time.
const workers = 5

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "job-controller",
		Reads: []plan.Kind{plan.Jobs, plan.Pods},
		Writes: []engine.Claim{
			{Kind: plan.Jobs, Field: "status"},
			{Kind: plan.Pods, Field: "metadata.finalizers[" + batchv1.JobTrackingFinalizer + "]"},
			{Kind: plan.Pods, Field: "metadata.ownerReferences[Job]"},
		},
		Creates: []plan.Kind{plan.Pods},
		Deletes: []plan.Kind{plan.Pods},
		Setup:   setup,
	}
}

type controller struct {
	client *client.Client
	jobs   *engine.View[*batchv1.Job]
	pods   *engine.View[*corev1.Pod]
	recent *pods.Recent
}

func setup(s *engine.Setup) error {
	c := &controller{
		client: s.Client(), jobs: engine.Mirror(s, client.Jobs()), recent: pods.NewRecent(),
		pods: engine.Mirror(s, client.Pods(), engine.ByController[*corev1.Pod]()),
	}
	loop := c.jobs.Loop(s, engine.LoopConfig{Name: "job", Workers: workers}, c.step)
	orphans := s.Loop(engine.LoopConfig{Name: "job_orphan_pod", Workers: workers, Step: c.orphan})
	c.pods.OnChange(c.recent.Note)
	c.pods.Enqueue(loop, engine.Claimants[*batchv1.Job, *corev1.Pod](c.jobs, plan.Jobs, func(j *batchv1.Job) (labels.Selector, error) {
		return metav1.LabelSelectorAsSelector(j.Spec.Selector)
	}))
	c.pods.OnChange(func(_, new *corev1.Pod) {
		if new != nil && tracked(new) && c.jobless(new) {
			orphans.Add(engine.Key(new))
		}
	})
	c.jobs.OnChange(func(old, new *batchv1.Job) {
		if new != nil {
			return
		}
		for _, pod := range c.pods.ByIndex("controller", string(old.UID)) {
			orphans.Add(engine.Key(pod))
		}
	})
	return nil
}

func (c *controller) step(_ context.Context, job *batchv1.Job, s engine.Step) (plan.Plan, error) {
	in := Input{Job: job, Pods: engine.Owned(c.pods, job), Taken: c.recent.Taken(c.pods, job.Namespace)}
	if we := engine.Refused(s.Last, plan.Pods, plan.VerbCreate); we != nil {
		in.Failure = we.Err.Error()
	}
	return Reconcile(in, s.Now), nil
}

// jobless reports whether the mirror does not hold the Job that a tracked pod should be counted by.
func (c *controller) jobless(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != plan.Jobs.Kind {
		return true
	}
	job, ok := c.jobs.Get(pod.Namespace, owner.Name)
	return !ok || job.UID != owner.UID
}

// orphan lets a pod go whose Job is gone and will never count it; that it is gone is asked of the API first.
func (c *controller) orphan(ctx context.Context, s engine.Step) (plan.Plan, error) {
	var p plan.Plan
	pod, ok := c.pods.Get(s.Namespace, s.Name)
	if !ok || !tracked(pod) || !c.jobless(pod) {
		return p, nil
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && owner.Kind == plan.Jobs.Kind {
		meta, err := engine.GetMeta(ctx, c.client, plan.Jobs, pod.Namespace, owner.Name)
		switch {
		case err == nil && meta.UID == owner.UID:
			return p, nil
		case err != nil && !apierrors.IsNotFound(err):
			return p, err
		}
	}
	p.Add(Untrack(pod))
	return p, nil
}
