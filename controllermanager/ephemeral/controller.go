package ephemeral

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
		Name:    "ephemeral-volume-controller",
		Reads:   []plan.Kind{plan.Pods, plan.PVCs},
		Creates: []plan.Kind{plan.PVCs},
		Setup:   setup,
	}
}

func setup(s *engine.Setup) error {
	pods := engine.Mirror(s, client.Pods(), engine.PodsByClaim)
	claims := engine.Mirror(s, client.PersistentVolumeClaims())
	loop := s.Loop(engine.LoopConfig{Name: "ephemeral_volume", Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
		pod, ok := pods.Get(s.Namespace, s.Name)
		if !ok {
			return plan.Plan{}, nil
		}
		return Reconcile(pod, func(name string) *corev1.PersistentVolumeClaim {
			c, _ := claims.Get(pod.Namespace, name)
			return c
		}), nil
	}})
	concern := func(pod *corev1.Pod) {
		for i := range pod.Spec.Volumes {
			if pod.Spec.Volumes[i].Ephemeral != nil {
				loop.Add(engine.Key(pod))
				return
			}
		}
	}
	pods.OnChange(func(old, new *corev1.Pod) {
		if old == nil {
			concern(new)
		}
	})
	claims.Enqueue(loop, func(c *corev1.PersistentVolumeClaim) []string { return engine.ControllerKey(c, plan.Pods) })
	return nil
}
