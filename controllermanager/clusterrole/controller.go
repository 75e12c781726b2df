package clusterrole

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"

	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	k := plan.Of(kind())
	return engine.Controller{
		Name:   "clusterrole-aggregation-controller",
		Reads:  []plan.Kind{k},
		Writes: []engine.Claim{{Kind: k, Field: "rules[aggregated]"}},
		Setup: func(s *engine.Setup) error {
			roles := engine.Mirror(s, kind())
			loop := s.Loop(engine.LoopConfig{Name: "ClusterRoleAggregator", Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
				role, ok := roles.Get("", s.Key)
				if !ok {
					return plan.Plan{}, nil
				}
				return Reconcile(role, roles.List()), nil
			}})
			roles.OnChange(func(_, _ *rbacv1.ClusterRole) {
				// Roles are few and rarely change; any of them may be part of any aggregated one.
				for _, role := range roles.List() {
					if role.AggregationRule != nil {
						loop.Add(role.Name)
					}
				}
			})
			return nil
		},
	}
}
