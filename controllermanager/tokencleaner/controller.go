// Package tokencleaner deletes bootstrap tokens when their time is over. A token that a machine joins with is a Secret of type
// bootstrap.kubernetes.io/token in kube-system; its "expiration" is an RFC 3339 time.
package tokencleaner

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

const (
	namespace     = "kube-system"
	expirationKey = "expiration"
)

// Reconcile plans the deletion of a token, or when to look again. A time that cannot be read counts as over: a token must not
// live for ever by a typing error.
func Reconcile(s *corev1.Secret, now time.Time) plan.Plan {
	var p plan.Plan
	value, ok := s.Data[expirationKey]
	if s.Type != corev1.SecretTypeBootstrapToken || !ok || len(value) == 0 || s.DeletionTimestamp != nil {
		return p
	}
	if at, err := time.Parse(time.RFC3339, string(value)); err == nil && at.After(now) {
		p.LookAgain(now, at)
		return p
	}
	p.Add(plan.Delete(plan.Secrets, s))
	return p
}

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
