package volumeprotection

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
		Name:   "persistentvolume-protection-controller",
		Reads:  []plan.Kind{plan.PVs},
		Writes: []engine.Claim{{Kind: plan.PVs, Field: "metadata.finalizers[" + Finalizer + "]"}},
		Setup: func(s *engine.Setup) error {
			engine.Mirror(s, client.PersistentVolumes()).Loop(s, engine.LoopConfig{Name: "PV_protection"},
				func(_ context.Context, v *corev1.PersistentVolume, _ engine.Step) (plan.Plan, error) {
					return Reconcile(v), nil
				})
			return nil
		},
	}
}
