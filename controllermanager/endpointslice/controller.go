package endpointslice

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// workers is how many services are worked on at a time, as upstream's default.
const workers = 5

// byService finds slices by the service they are of.
var byService = engine.Index[*discoveryv1.EndpointSlice]{Name: "service", Keys: func(s *discoveryv1.EndpointSlice) []string {
	if s.Labels[discoveryv1.LabelManagedBy] != ManagedBy {
		return nil
	}
	return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
}}

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "endpointslice-controller",
		Reads: []plan.Kind{plan.Services, plan.Pods, plan.Nodes, plan.EndpointSlices},
		Writes: []engine.Claim{
			{Kind: plan.EndpointSlices, Field: "endpoints[selected]"},
			{Kind: plan.EndpointSlices, Field: "ports[selected]"},
			{Kind: plan.EndpointSlices, Field: "metadata.labels[selected]"},
		},
		Creates: []plan.Kind{plan.EndpointSlices},
		Deletes: []plan.Kind{plan.EndpointSlices},
		Setup:   setup,
	}
}

type controller struct {
	services *engine.View[*corev1.Service]
	pods     *engine.View[*corev1.Pod]
	nodes    *engine.View[*corev1.Node]
	slices   *engine.View[*discoveryv1.EndpointSlice]
}

func setup(s *engine.Setup) error {
	c := &controller{
		services: engine.Mirror(s, client.Services()),
		pods:     engine.Mirror(s, client.Pods(), engine.PodsByNode),
		nodes:    engine.Mirror(s, client.Nodes()),
		slices:   engine.Mirror(s, client.EndpointSlices(), byService),
	}
	loop := s.Loop(engine.LoopConfig{Name: "endpoint_slice", Workers: workers, Step: c.step})
	c.services.Enqueue(loop, engine.Self[*corev1.Service])
	c.slices.Enqueue(loop, byService.Keys)
	c.pods.OnChange(func(old, new *corev1.Pod) {
		if old != nil && new != nil && !Matters(old, new) {
			return
		}
		loop.Add(ServicesOf(c.services, old, new)...)
	})
	c.nodes.OnChange(func(old, new *corev1.Node) {
		if new != nil && (old == nil || old.Labels[corev1.LabelTopologyZone] != new.Labels[corev1.LabelTopologyZone]) {
			for _, pod := range c.pods.ByIndex(engine.PodsByNode.Name, new.Name) {
				loop.Add(ServicesOf(c.services, pod)...)
			}
		}
	})
	return nil
}

// Matters reports whether the change of a pod can change an endpoint.
func Matters(old, new *corev1.Pod) bool {
	return old.Status.Phase != new.Status.Phase || old.Spec.NodeName != new.Spec.NodeName || old.UID != new.UID ||
		(old.DeletionTimestamp == nil) != (new.DeletionTimestamp == nil) ||
		old.Status.PodIP != new.Status.PodIP || !apiequality.Semantic.DeepEqual(old.Status.PodIPs, new.Status.PodIPs) ||
		!apiequality.Semantic.DeepEqual(old.Status.Conditions, new.Status.Conditions) ||
		!apiequality.Semantic.DeepEqual(old.Labels, new.Labels) ||
		old.Spec.Hostname != new.Spec.Hostname || old.Spec.Subdomain != new.Spec.Subdomain
}

// ServicesOf returns the keys of the services that select any of the given states of a pod.
func ServicesOf(services *engine.View[*corev1.Service], states ...*corev1.Pod) []string {
	var keys []string
	for _, pod := range states {
		if pod == nil {
			continue
		}
		for _, svc := range services.ByIndex("namespace", pod.Namespace) {
			if len(svc.Spec.Selector) > 0 && labels.SelectorFromValidatedSet(svc.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				keys = append(keys, engine.Key(svc))
			}
		}
	}
	return keys
}

// Selected returns the pods that a service selects.
func Selected(pods *engine.View[*corev1.Pod], svc *corev1.Service) []*corev1.Pod {
	if len(svc.Spec.Selector) == 0 {
		return nil
	}
	sel := labels.SelectorFromValidatedSet(svc.Spec.Selector)
	var out []*corev1.Pod
	for _, pod := range pods.ByIndex("namespace", svc.Namespace) {
		if sel.Matches(labels.Set(pod.Labels)) {
			out = append(out, pod)
		}
	}
	return out
}

func (c *controller) step(_ context.Context, s engine.Step) (plan.Plan, error) {
	svc, ok := c.services.Get(s.Namespace, s.Name)
	if !ok {
		return plan.Plan{}, nil
	}
	return Reconcile(Input{
		Service: svc,
		Pods:    Selected(c.pods, svc),
		Slices:  c.slices.ByIndex(byService.Name, s.Key),
		Node: func(name string) *corev1.Node {
			n, _ := c.nodes.Get("", name)
			return n
		},
		NameTaken: c.slices.Taken(svc.Namespace),
	}), nil
}
