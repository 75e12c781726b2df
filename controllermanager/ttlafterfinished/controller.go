// Package ttlafterfinished deletes finished Jobs when spec.ttlSecondsAfterFinished is over.
package ttlafterfinished

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/job"
	"bareboat.dev/controllermanager/plan"
)

// Reconcile plans a Job's deletion, or when to look again. The deletion is conditional on the Job as it was seen, so one whose
// time was just extended stays.
func Reconcile(j *batchv1.Job, now time.Time) plan.Plan {
	var p plan.Plan
	done := job.Finished(j)
	if done == nil || j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil {
		return p
	}
	at := done.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second)
	if at.After(now) {
		p.LookAgain(now, at)
		return p
	}
	w := plan.Delete(plan.Jobs, j)
	w.Propagation = client.PropagateForeground
	p.Add(w)
	return p
}

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:    "ttl-after-finished-controller",
		Reads:   []plan.Kind{plan.Jobs},
		Deletes: []plan.Kind{plan.Jobs},
		Setup: func(s *engine.Setup) error {
			jobs := engine.Mirror(s, client.Jobs())
			loop := s.Loop(engine.LoopConfig{Name: "ttl_jobs_to_delete", Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
				j, ok := jobs.Get(s.Namespace, s.Name)
				if !ok {
					return plan.Plan{}, nil
				}
				return Reconcile(j, s.Now), nil
			}})
			jobs.OnChange(func(_, new *batchv1.Job) {
				if new != nil && new.Spec.TTLSecondsAfterFinished != nil && job.Finished(new) != nil {
					loop.Add(engine.Key(new))
				}
			})
			return nil
		},
	}
}
