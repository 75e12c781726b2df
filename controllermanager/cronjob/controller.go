package cronjob

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// workers is how many CronJobs are worked on at a time.
const workers = 5

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:    "cronjob-controller",
		Reads:   []plan.Kind{plan.CronJobs, plan.Jobs},
		Writes:  []engine.Claim{{Kind: plan.CronJobs, Field: "status"}},
		Creates: []plan.Kind{plan.Jobs},
		Deletes: []plan.Kind{plan.Jobs},
		Setup: func(s *engine.Setup) error {
			crons := engine.Mirror(s, client.CronJobs())
			jobs := engine.Mirror(s, client.Jobs(), engine.ByController[*batchv1.Job]())
			loop := s.Loop(engine.LoopConfig{Name: "cronjob", Workers: workers, Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
				cj, ok := crons.Get(s.Namespace, s.Name)
				if !ok {
					return plan.Plan{}, nil
				}
				p := Reconcile(cj, jobs.ByIndex("controller", string(cj.UID)), s.Now)
				if we := engine.Refused(s.Last, plan.Jobs, plan.VerbCreate); we != nil {
					p.Event(cj, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", we.Err)
				}
				return p, nil
			}})
			crons.Enqueue(loop, engine.Self[*batchv1.CronJob])
			jobs.Enqueue(loop, func(j *batchv1.Job) []string { return engine.ControllerKey(j, plan.CronJobs) })
			return nil
		},
	}
}
