// Package serviceaccount keeps a ServiceAccount "default" in every namespace, so that a pod that names none has one.
package serviceaccount

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// Name of the account.
const Name = "default"

// Reconcile plans the account of one namespace. exists tells whether it is there.
func Reconcile(ns *corev1.Namespace, exists bool) plan.Plan {
	var p plan.Plan
	if exists || ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
		return p
	}
	p.Add(plan.Create(plan.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: Name}}))
	return p
}

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
