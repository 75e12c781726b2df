package serviceaccount

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
		Name:    "serviceaccount-controller",
		Reads:   []plan.Kind{plan.Namespaces, plan.ServiceAccounts},
		Creates: []plan.Kind{plan.ServiceAccounts},
		Setup:   setup,
	}
}

func setup(s *engine.Setup) error {
	namespaces := engine.Mirror(s, client.Namespaces())
	accounts := engine.MirrorScope(s, client.ServiceAccounts(), engine.Scope{Name: Name})
	loop := s.Loop(engine.LoopConfig{Name: "serviceaccount", Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
		ns, ok := namespaces.Get("", s.Key)
		if !ok {
			return plan.Plan{}, nil
		}
		_, exists := accounts.Get(s.Key, Name)
		return Reconcile(ns, exists), nil
	}})
	namespaces.OnChange(func(_, new *corev1.Namespace) {
		if new != nil {
			loop.Add(new.Name)
		}
	})
	accounts.Enqueue(loop, func(a *corev1.ServiceAccount) []string { return []string{a.Namespace} })
	return nil
}
