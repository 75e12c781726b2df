package claimprotection

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:   "persistentvolumeclaim-protection-controller",
		Reads:  []plan.Kind{plan.PVCs, plan.Pods},
		Writes: []engine.Claim{{Kind: plan.PVCs, Field: "metadata.finalizers[" + Finalizer + "]"}},
		Setup:  setup,
	}
}

func setup(s *engine.Setup) error {
	claims := engine.Mirror(s, client.PersistentVolumeClaims())
	pods := engine.Mirror(s, client.Pods(), engine.PodsByClaim)
	loop := claims.Loop(s, engine.LoopConfig{Name: "PVC_protection"}, func(ctx context.Context, c *corev1.PersistentVolumeClaim, _ engine.Step) (plan.Plan, error) {
		p := Reconcile(c, pods.ByIndex(engine.PodsByClaim.Name, engine.Key(c)))
		if p.Empty() || c.DeletionTimestamp == nil {
			return p, nil
		}
		// The last look before a claim goes is at the API itself: a pod that was just bound may not be in the mirror yet.
		all, _, err := client.Of(s.Client(), client.Pods()).List(ctx, c.Namespace, client.ListOptions{})
		if err != nil {
			return plan.Plan{}, err
		}
		var users []*corev1.Pod
		for _, pod := range all {
			for _, key := range engine.PodsByClaim.Keys(pod) {
				if key == engine.Key(c) {
					users = append(users, pod)
				}
			}
		}
		return Reconcile(c, users), nil
	})
	pods.OnChange(func(old, new *corev1.Pod) {
		// Only the end of a use can let a claim go.
		if old != nil && Uses(old) && (new == nil || !Uses(new)) {
			loop.Add(engine.PodsByClaim.Keys(old)...)
		}
	})
	return nil
}
