package endpoints

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/endpointslice"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// workers is how many services are worked on at a time, as upstream's default.
const workers = 5

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "endpoints-controller",
		Reads: []plan.Kind{plan.Services, plan.Pods, plan.Endpoints},
		Writes: []engine.Claim{
			{Kind: plan.Endpoints, Field: "subsets"},
			{Kind: plan.Endpoints, Field: "metadata.labels"},
			{Kind: plan.Endpoints, Field: "metadata.annotations[" + corev1.EndpointsOverCapacity + "]"},
		},
		Creates: []plan.Kind{plan.Endpoints},
		Deletes: []plan.Kind{plan.Endpoints},
		Setup:   setup,
	}
}

func setup(s *engine.Setup) error {
	services := engine.Mirror(s, client.Services())
	pods := engine.Mirror(s, client.Pods())
	objects := engine.Mirror(s, client.Endpoints())
	loop := s.Loop(engine.LoopConfig{Name: "endpoint", Workers: workers, Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
		service, _ := services.Get(s.Namespace, s.Name)
		have, _ := objects.Get(s.Namespace, s.Name)
		var selected []*corev1.Pod
		if service != nil {
			selected = endpointslice.Selected(pods, service)
		}
		return Reconcile(service, selected, have), nil
	}})
	services.Enqueue(loop, engine.Self[*corev1.Service])
	objects.Enqueue(loop, engine.Self[*corev1.Endpoints])
	pods.OnChange(func(old, new *corev1.Pod) {
		if old != nil && new != nil && !endpointslice.Matters(old, new) {
			return
		}
		loop.Add(endpointslice.ServicesOf(services, old, new)...)
	})
	return nil
}
