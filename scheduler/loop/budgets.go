package loop

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/scheduler/plan"
)

// listenBudgets keeps the PodDisruptionBudgets that preemption respects.
func (s *Scheduler) listenBudgets(ctx context.Context) {
	s.disruption.OnChange(func(ch client.Change[*policyv1.PodDisruptionBudget]) {
		s.send(ctx, func() {
			key := client.KeyOf(ch.Object())
			delete(s.budgets, key)
			if ch.New == nil {
				return
			}
			// One that cannot be parsed protects nothing, as in kube-scheduler.
			if selector, err := metav1.LabelSelectorAsSelector(ch.New.Spec.Selector); err == nil {
				s.budgets[key] = plan.Budget{Namespace: ch.New.Namespace, Selector: selector, Allowed: ch.New.Status.DisruptionsAllowed}
			}
		})
	})
}

func (s *Scheduler) budgetList() []plan.Budget {
	out := make([]plan.Budget, 0, len(s.budgets))
	for _, b := range s.budgets {
		out = append(out, b)
	}
	return out
}
