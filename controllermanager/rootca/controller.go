package rootca

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// ControllerName is upstream's name of the controller.
const ControllerName = "root-ca-certificate-publisher-controller"

// Controller returns the controller's declaration. pem holds the certificates to publish.
func Controller(pem string) engine.Controller {
	return engine.Controller{
		Name:    ControllerName,
		Reads:   []plan.Kind{plan.Namespaces, plan.ConfigMaps},
		Writes:  []engine.Claim{{Kind: plan.ConfigMaps, Field: "data[" + Name + "]"}},
		Creates: []plan.Kind{plan.ConfigMaps},
		Setup:   func(s *engine.Setup) error { return setup(s, pem) },
	}
}

func setup(s *engine.Setup, pem string) error {
	namespaces := engine.Mirror(s, client.Namespaces())
	published := engine.MirrorScope(s, client.ConfigMaps(), engine.Scope{Name: Name})
	loop := s.Loop(engine.LoopConfig{Name: "root_ca_cert_publisher", Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
		ns, ok := namespaces.Get("", s.Key)
		if !ok {
			return plan.Plan{}, nil
		}
		have, _ := published.Get(s.Key, Name)
		return Reconcile(ns, have, pem), nil
	}})
	namespaces.OnChange(func(_, new *corev1.Namespace) {
		if new != nil {
			loop.Add(new.Name)
		}
	})
	published.Enqueue(loop, func(m *corev1.ConfigMap) []string { return []string{m.Namespace} })
	return nil
}
