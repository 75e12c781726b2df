package nodeipam

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// Name of the controller.
const Name = "node-ipam-controller"

// everyone is the one key: ranges are given out for all nodes together.
const everyone = "nodes"

// Controller returns the controller's declaration.
func Controller(pools []Pool) engine.Controller {
	return engine.Controller{
		Name:  Name,
		Reads: []plan.Kind{plan.Nodes},
		Writes: []engine.Claim{
			{Kind: plan.Nodes, Field: "spec.podCIDR"},
			{Kind: plan.Nodes, Field: "spec.podCIDRs"},
		},
		Setup: func(s *engine.Setup) error {
			nodes := engine.Mirror(s, client.Nodes())
			next := make([]int, len(pools))
			loop := s.Loop(engine.LoopConfig{Name: "node_ipam_controller", Step: func(context.Context, engine.Step) (plan.Plan, error) {
				p, after := Allocate(nodes.List(), pools, next)
				next = after
				if len(p.Writes) == Burst {
					p.After = 1
				}
				return p, nil
			}})
			nodes.OnChange(func(old, new *corev1.Node) {
				// A deletion frees a range that a waiting node may need.
				if new == nil || len(new.Spec.PodCIDRs) == 0 {
					loop.Add(everyone)
				}
			})
			return nil
		},
	}
}
