package tokencleaner

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
		Name:    "token-cleaner-controller",
		Reads:   []plan.Kind{plan.Secrets},
		Deletes: []plan.Kind{plan.Secrets},
		Setup: func(s *engine.Setup) error {
			secrets := engine.MirrorScope(s, client.Secrets(), engine.Scope{Namespace: namespace})
			loop := s.Loop(engine.LoopConfig{Name: "token_cleaner", Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
				secret, ok := secrets.Get(s.Namespace, s.Name)
				if !ok {
					return plan.Plan{}, nil
				}
				return Reconcile(secret, s.Now), nil
			}})
			secrets.OnChange(func(_, new *corev1.Secret) {
				if new != nil && new.Type == corev1.SecretTypeBootstrapToken {
					loop.Add(engine.Key(new))
				}
			})
			return nil
		},
	}
}
