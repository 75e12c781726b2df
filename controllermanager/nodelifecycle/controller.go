package nodelifecycle

import (
	"context"
	"maps"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

const (
	// leaseNamespace holds the kubelets' leases.
	leaseNamespace = "kube-node-lease"
	// monitorPeriod is how often health is looked at if nothing changes, as upstream.
	monitorPeriod = 5 * time.Second
	// stopped is the gap between two looks that means this process was stopped (a suspended machine, a debugger): three
	// periods, longer than a busy machine delays a timer.
	stopped = 3 * monitorPeriod
	// evictors is how many nodes' pods are worked on at a time.
	evictors = 4
	everyone = "nodes"
)

// Controllers returns the declarations: node health, and the eviction that its taints cause.
func Controllers(cfg Config) []engine.Controller {
	return []engine.Controller{{
		Name:  "node-lifecycle-controller",
		Reads: []plan.Kind{plan.Nodes, plan.Leases, plan.Pods},
		Writes: []engine.Claim{
			{Kind: plan.Nodes, Field: "status.conditions"},
			{Kind: plan.Nodes, Field: "spec.taints"},
			{Kind: plan.Pods, Field: "status.conditions[Ready]"},
		},
		Setup: func(s *engine.Setup) error { return setupHealth(s, cfg) },
	}, {
		Name:    "taint-eviction-controller",
		Reads:   []plan.Kind{plan.Nodes, plan.Pods},
		Writes:  []engine.Claim{{Kind: plan.Pods, Field: "status.conditions[DisruptionTarget/DeletionByTaintManager]"}},
		Deletes: []plan.Kind{plan.Pods},
		Setup:   setupEviction,
	}}
}

type health struct {
	cfg     Config
	nodes   *engine.View[*corev1.Node]
	pods    *engine.View[*corev1.Pod]
	budgets Budgets
	known   map[string]*corev1.Node
	last    time.Time

	mu   sync.Mutex
	seen map[string]time.Time
}

func setupHealth(s *engine.Setup, cfg Config) error {
	h := &health{cfg: cfg, nodes: engine.Mirror(s, client.Nodes()), pods: engine.Mirror(s, client.Pods(), engine.PodsByNode), seen: map[string]time.Time{}}
	loop := s.Loop(engine.LoopConfig{Name: "node_lifecycle_controller", Step: h.step, Every: monitorPeriod, EveryKey: everyone})
	unready := s.Loop(engine.LoopConfig{Name: "node_lifecycle_controller_pods", Workers: evictors, Step: h.unready})
	engine.MirrorScope(s, client.Leases(), engine.Scope{Namespace: leaseNamespace}).OnChange(func(old, new *coordinationv1.Lease) {
		if new != nil && (old == nil || !new.Spec.RenewTime.Equal(old.Spec.RenewTime)) {
			h.saw(new.Name)
		}
	})
	h.nodes.OnChange(func(old, new *corev1.Node) {
		if new == nil {
			h.forget(old.Name)
			return
		}
		if old == nil || heartbeat(old) != heartbeat(new) {
			h.saw(new.Name)
		}
		if old == nil || matters(old, new) {
			loop.Add(everyone)
			unready.Add(new.Name)
		}
	})
	h.pods.OnChange(func(_, new *corev1.Pod) {
		if new != nil && h.silent(new.Spec.NodeName) {
			unready.Add(new.Spec.NodeName)
		}
	})
	return nil
}

func (h *health) silent(node string) bool {
	n, ok := h.nodes.Get("", node)
	if !ok {
		return false
	}
	c := condition(n, corev1.NodeReady)
	return c != nil && c.Status == corev1.ConditionUnknown
}

// matters reports whether a change of a node can change its taints. Most changes are heartbeats and lists of images, and a
// look goes over all nodes.
func matters(old, new *corev1.Node) bool {
	if old.UID != new.UID || old.Spec.Unschedulable != new.Spec.Unschedulable || !sameTaints(old.Spec.Taints, new.Spec.Taints) ||
		zoneOf(old) != zoneOf(new) || len(old.Status.Conditions) != len(new.Status.Conditions) {
		return true
	}
	for i := range new.Status.Conditions {
		a, b := old.Status.Conditions[i], new.Status.Conditions[i]
		if a.Type != b.Type || a.Status != b.Status {
			return true
		}
	}
	return false
}

func heartbeat(n *corev1.Node) time.Time {
	if c := condition(n, corev1.NodeReady); c != nil {
		return c.LastHeartbeatTime.Time
	}
	return time.Time{}
}

func (h *health) saw(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[name] = time.Now()
}

func (h *health) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.seen, name)
}

// sightings returns a copy of what was seen. If this process was stopped, nothing that was seen before counts: nodes may have
// renewed their leases meanwhile and the mirror not have been told yet.
func (h *health) sightings(now time.Time) map[string]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.last.IsZero() && now.Sub(h.last) > stopped {
		for name := range h.seen {
			h.seen[name] = now
		}
	}
	h.last = now
	return maps.Clone(h.seen)
}

func (h *health) step(_ context.Context, s engine.Step) (plan.Plan, error) {
	nodes := h.nodes.List()
	p, budgets := Health(HealthInput{Config: h.cfg, Nodes: nodes, Known: h.known, Seen: h.sightings(s.Now), Budgets: h.budgets}, s.Now)
	h.budgets = budgets
	h.known = make(map[string]*corev1.Node, len(nodes))
	for _, n := range nodes {
		h.known[n.Name] = n
	}
	return p, nil
}

func (h *health) unready(_ context.Context, s engine.Step) (plan.Plan, error) {
	node, ok := h.nodes.Get("", s.Key)
	if !ok {
		return plan.Plan{}, nil
	}
	return Unready(node, h.pods.ByIndex(engine.PodsByNode.Name, s.Key), s.Now), nil
}

type eviction struct {
	nodes *engine.View[*corev1.Node]
	pods  *engine.View[*corev1.Pod]

	mu    sync.Mutex
	since map[taintID]time.Time
}

type taintID struct{ node, key, value string }

func setupEviction(s *engine.Setup) error {
	e := &eviction{nodes: engine.Mirror(s, client.Nodes()), pods: engine.Mirror(s, client.Pods(), engine.PodsByNode), since: map[taintID]time.Time{}}
	loop := s.Loop(engine.LoopConfig{Name: "taint_eviction_controller", Workers: evictors, Step: e.step})
	e.nodes.OnChange(func(_, new *corev1.Node) {
		if new != nil {
			loop.Add(new.Name)
		}
	})
	e.nodes.OnChange(e.note)
	e.pods.OnChange(func(_, new *corev1.Pod) {
		if new != nil && new.DeletionTimestamp == nil && e.tainted(new.Spec.NodeName) {
			loop.Add(new.Spec.NodeName)
		}
	})
	return nil
}

func (e *eviction) tainted(node string) bool {
	if node == "" {
		return false
	}
	n, ok := e.nodes.Get("", node)
	if !ok {
		return false
	}
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			return true
		}
	}
	return false
}

// note remembers when taints that carry no time were first seen.
func (e *eviction) note(old, new *corev1.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	keep := map[taintID]bool{}
	if new != nil {
		for _, t := range new.Spec.Taints {
			id := taintID{new.Name, t.Key, t.Value}
			keep[id] = true
			if _, ok := e.since[id]; !ok && t.Effect == corev1.TaintEffectNoExecute && t.TimeAdded == nil {
				e.since[id] = time.Now()
			}
		}
	}
	if old != nil {
		for _, t := range old.Spec.Taints {
			if id := (taintID{old.Name, t.Key, t.Value}); !keep[id] {
				delete(e.since, id)
			}
		}
	}
}

func (e *eviction) step(_ context.Context, s engine.Step) (plan.Plan, error) {
	node, ok := e.nodes.Get("", s.Key)
	if !ok {
		return plan.Plan{}, nil
	}
	since := func(t corev1.Taint) time.Time {
		e.mu.Lock()
		defer e.mu.Unlock()
		if at, ok := e.since[taintID{node.Name, t.Key, t.Value}]; ok {
			return at
		}
		return s.Now
	}
	return Evict(node, e.pods.ByIndex(engine.PodsByNode.Name, s.Key), since, s.Now), nil
}
