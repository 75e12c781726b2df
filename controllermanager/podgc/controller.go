package podgc

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

const (
	// period is how often to look, as upstream.
	period   = 20 * time.Second
	everyone = "pods"
)

// Controller returns the controller's declaration. threshold is --terminated-pod-gc-threshold.
func Controller(threshold int) engine.Controller {
	return engine.Controller{
		Name:  "pod-garbage-collector-controller",
		Reads: []plan.Kind{plan.Pods, plan.Nodes},
		Writes: []engine.Claim{
			{Kind: plan.Pods, Field: "status.phase"},
			{Kind: plan.Pods, Field: "status.conditions[DisruptionTarget/DeletionByPodGC]"},
		},
		Deletes: []plan.Kind{plan.Pods},
		Setup: func(s *engine.Setup) error {
			c := &controller{setup: s, threshold: threshold, missing: map[string]time.Time{}}
			c.pods = engine.Mirror(s, client.Pods(), engine.PodsByNode)
			c.nodes = engine.Mirror(s, client.Nodes())
			loop := s.Loop(engine.LoopConfig{Name: "gc_controller", Step: c.step, Every: period, EveryKey: everyone})
			c.pods.OnChange(func(_, new *corev1.Pod) {
				if new != nil && new.DeletionTimestamp != nil && new.Spec.NodeName == "" {
					loop.Add(everyone)
				}
			})
			return nil
		},
	}
}

type controller struct {
	setup     *engine.Setup
	threshold int
	pods      *engine.View[*corev1.Pod]
	nodes     *engine.View[*corev1.Node]
	missing   map[string]time.Time
}

func (c *controller) step(ctx context.Context, s engine.Step) (plan.Plan, error) {
	all := c.pods.List()
	if err := c.findMissing(ctx, all, s.Now); err != nil {
		return plan.Plan{}, err
	}
	return Reconcile(Input{
		Pods: all, Missing: c.missing, Threshold: c.threshold,
		Node: func(name string) *corev1.Node {
			n, _ := c.nodes.Get("", name)
			return n
		},
	}, s.Now), nil
}

// findMissing brings the list of missing nodes up to date. A node whose quarantine is over is asked for once more.
func (c *controller) findMissing(ctx context.Context, all []*corev1.Pod, now time.Time) error {
	absent := map[string]bool{}
	for _, pod := range all {
		if name := pod.Spec.NodeName; name != "" && !absent[name] {
			if _, ok := c.nodes.Get("", name); !ok {
				absent[name] = true
			}
		}
	}
	maps.DeleteFunc(c.missing, func(name string, _ time.Time) bool { return !absent[name] })
	for name := range absent {
		since, known := c.missing[name]
		if known && now.Sub(since) < Quarantine {
			continue
		}
		_, err := engine.GetMeta(ctx, c.setup.Client(), plan.Nodes, "", name)
		switch {
		case apierrors.IsNotFound(err):
			if !known {
				c.missing[name] = now
			}
		case err != nil:
			return err
		default:
			delete(c.missing, name)
		}
	}
	return nil
}
