package endpointslicemirroring

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// workers is how many objects are worked on at a time, as upstream's default.
const workers = 5

// mirroredOf finds this controller's slices by the service they are of.
var mirroredOf = engine.Index[*discoveryv1.EndpointSlice]{Name: "mirrored", Keys: func(s *discoveryv1.EndpointSlice) []string {
	if s.Labels[discoveryv1.LabelManagedBy] != ManagedBy {
		return nil
	}
	return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
}}

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "endpointslice-mirroring-controller",
		Reads: []plan.Kind{plan.Endpoints, plan.Services, plan.EndpointSlices},
		Writes: []engine.Claim{
			{Kind: plan.EndpointSlices, Field: "endpoints[mirrored]"},
			{Kind: plan.EndpointSlices, Field: "ports[mirrored]"},
			{Kind: plan.EndpointSlices, Field: "metadata.labels[mirrored]"},
			{Kind: plan.EndpointSlices, Field: "metadata.annotations"},
		},
		Creates: []plan.Kind{plan.EndpointSlices},
		Deletes: []plan.Kind{plan.EndpointSlices},
		Setup:   setup,
	}
}

func setup(s *engine.Setup) error {
	endpoints := engine.Mirror(s, client.Endpoints())
	services := engine.Mirror(s, client.Services())
	all := engine.Mirror(s, client.EndpointSlices(), mirroredOf)
	loop := s.Loop(engine.LoopConfig{Name: "endpoint_slice_mirroring", Workers: workers, Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
		in := Input{Slices: all.ByIndex(mirroredOf.Name, s.Key), NameTaken: all.Taken(s.Namespace)}
		in.Endpoints, _ = endpoints.Get(s.Namespace, s.Name)
		in.Service, _ = services.Get(s.Namespace, s.Name)
		return Reconcile(in), nil
	}})
	endpoints.Enqueue(loop, engine.Self[*corev1.Endpoints])
	services.Enqueue(loop, engine.Self[*corev1.Service])
	all.Enqueue(loop, mirroredOf.Keys)
	return nil
}
