package ttlafterfinished

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/job"
	"bareboat.dev/controllermanager/plan"
)

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
