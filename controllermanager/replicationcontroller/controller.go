package replicationcontroller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
	"bareboat.dev/controllermanager/replicaset"
)

// workers is how many controllers are worked on at a time; they are few.
const workers = 2

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "replicationcontroller-controller",
		Reads: []plan.Kind{plan.ReplicationControllers, plan.Pods},
		Writes: []engine.Claim{
			{Kind: plan.ReplicationControllers, Field: "status"},
			{Kind: plan.Pods, Field: "metadata.ownerReferences[ReplicationController]"},
		},
		Creates: []plan.Kind{plan.Pods},
		Deletes: []plan.Kind{plan.Pods},
		Setup:   setup,
	}
}

func setup(s *engine.Setup) error {
	controllers := engine.Mirror(s, client.ReplicationControllers())
	all := engine.Mirror(s, client.Pods(), engine.ByController[*corev1.Pod]())
	recent := pods.NewRecent()
	loop := controllers.Loop(s, engine.LoopConfig{Name: "replicationmanager", Workers: workers}, func(_ context.Context, rc *corev1.ReplicationController, s engine.Step) (plan.Plan, error) {
		return Reconcile(Input{
			RC: rc, Pods: engine.Owned(all, rc), Failure: replicaset.FailureOf(s.Last),
			Taken: recent.Taken(all, rc.Namespace),
		}, s.Now), nil
	})
	all.OnChange(recent.Note)
	all.Enqueue(loop, engine.Claimants[*corev1.ReplicationController, *corev1.Pod](controllers, plan.ReplicationControllers, func(rc *corev1.ReplicationController) (labels.Selector, error) {
		return labels.SelectorFromValidatedSet(rc.Spec.Selector), nil
	}))
	return nil
}
