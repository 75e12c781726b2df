package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"bareboat.dev/client"
	"bareboat.dev/proxy/plan"
)

// Retry limits of a failing apply: the first failure is often another program's lock or a race and passes at once; after
// six doublings the delay stays at 6.4 s, short against the minutes in which a broken firewall is noticed.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 64 * retryMin
)

// repairPeriod is how often it is checked whether somebody else removed our rules. The check is a few rule lookups; half
// a minute is the period by which kube-proxy repairs.
const repairPeriod = 30 * time.Second

// sliceIndex finds a service's endpoint slices.
const sliceIndex = "service"

// Applier makes the kernel match a plan.
type Applier interface {
	// Apply makes the kernel match set; changed as in package plan, nil meaning everything.
	Apply(ctx context.Context, set *plan.Set, changed []string) error
	// Intact says cheaply whether the rules still seem to be there.
	Intact() bool
	// Forget makes the next Apply look at the kernel again.
	Forget()
}

// Family is an IP family that this node serves.
type Family struct {
	Family  plan.Family
	Applier Applier
}

// Config is what the agent does not learn from the API.
type Config struct {
	NodeName string
	Families []Family // at least one
	// Mode is iptables or nftables; kube-proxy names a metric after it.
	Mode             string
	AllowExternalIPs bool
	// Sweep removes stale tracked flows of a set and returns how many; nil: nothing does.
	Sweep func(*plan.Set) (int, error)
	// Listen opens a health-check node port; nil: none are served.
	Listen   ListenFunc
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Ready is called when the first apply has succeeded.
	Ready func()
}

// Agent is one node's service proxy.
type Agent struct {
	cfg     Config
	metrics *metrics
	health  *Health
	checks  *checkPorts

	services *client.Mirror[*corev1.Service]
	slices   *client.Mirror[*discoveryv1.EndpointSlice]
	nodes    *client.Mirror[*corev1.Node]

	mu      sync.Mutex
	pending pending
	wake    chan struct{} // capacity 1: a token means that pending is not empty

	families []*family // owned by the loop
}

// pending is what changed since the last apply.
type pending struct {
	services map[string]bool
	all      bool      // the node changed: every service is to be planned again
	since    time.Time // when the oldest change was learnt
	triggers []time.Time
}

// restore puts the times of changes that could not be applied before those that came meanwhile.
func (p *pending) restore(failed pending) {
	p.triggers = append(failed.triggers, p.triggers...)
	p.triggers = p.triggers[:min(len(p.triggers), maxTriggers)]
	if !failed.since.IsZero() {
		p.since = failed.since
	}
}

// family is one family's rules and what the kernel has not got of them yet.
type family struct {
	Family
	set     *plan.Set
	unsaved map[string]bool // changed since the last successful apply
	fresh   bool            // never applied, or to be applied in full
}

// New makes an agent; it does nothing until Run.
func New(c *client.Client, cfg Config) *Agent {
	a := &Agent{
		cfg: cfg, metrics: newMetrics(cfg.Registry, cfg.Mode), health: newHealth(time.Now), wake: make(chan struct{}, 1),
		checks: newCheckPorts(cfg.Listen, cfg.Log), pending: pending{services: map[string]bool{}, all: true},
	}
	a.services = client.NewMirror(c, client.Services(), client.MirrorOptions[*corev1.Service]{Log: cfg.Log})
	a.slices = client.NewMirror(c, client.EndpointSlices(), client.MirrorOptions[*discoveryv1.EndpointSlice]{
		Log:     cfg.Log,
		Indexes: map[string]func(*discoveryv1.EndpointSlice) []string{sliceIndex: sliceService},
	})
	a.nodes = client.NewMirror(c, client.Nodes(), client.MirrorOptions[*corev1.Node]{
		Log: cfg.Log, FieldSelector: "metadata.name=" + cfg.NodeName,
	})
	for _, f := range cfg.Families {
		a.families = append(a.families, &family{Family: f, set: plan.NewSet(f.Family), unsaved: map[string]bool{}, fresh: true})
	}
	a.services.OnChange(func(c client.Change[*corev1.Service]) {
		a.metrics.serviceChanges.Inc()
		o := c.Object()
		a.mark(o.Namespace+"/"+o.Name, nil)
	})
	a.slices.OnChange(func(c client.Change[*discoveryv1.EndpointSlice]) {
		a.metrics.endpointChanges.Inc()
		if c.Type != client.Added { // the slice may have belonged to another service before
			for _, key := range sliceService(c.Old) {
				a.mark(key, nil)
			}
		}
		if c.Type != client.Deleted {
			for _, key := range sliceService(c.New) {
				a.mark(key, c.New)
			}
		}
	})
	a.nodes.OnChange(a.nodeChanged)
	return a
}

// Health answers for the daemon as a whole.
func (a *Agent) Health() *Health { return a.health }

func sliceService(s *discoveryv1.EndpointSlice) []string {
	if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
		return []string{s.Namespace + "/" + name}
	}
	return nil
}

func (a *Agent) nodeChanged(c client.Change[*corev1.Node]) {
	eligible := c.Type != client.Deleted && c.New.DeletionTimestamp == nil
	a.health.setEligible(eligible)
	zone := func(n *corev1.Node) string {
		if n == nil {
			return ""
		}
		return n.Labels[corev1.LabelTopologyZone]
	}
	if zone(c.Old) != zone(c.New) {
		a.mu.Lock()
		a.pending.all = true
		a.mu.Unlock()
		a.signal()
	}
}

// mark notes that a service's rules may have to change; slice, if not nil, carries the time of its cause.
func (a *Agent) mark(key string, slice *discoveryv1.EndpointSlice) {
	now := time.Now()
	a.mu.Lock()
	if a.pending.since.IsZero() {
		a.pending.since = now
	}
	a.pending.services[key] = true
	if t, ok := trigger(slice); ok && len(a.pending.triggers) < maxTriggers {
		a.pending.triggers = append(a.pending.triggers, t)
	}
	a.mu.Unlock()
	a.health.queued(now)
	a.signal()
}

func (a *Agent) signal() {
	select {
	case a.wake <- struct{}{}:
	default: // a token is there already
	}
}

func (a *Agent) take() pending {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.pending
	a.pending = pending{services: map[string]bool{}}
	return p
}

// Run mirrors and applies until ctx ends, and then returns nil.
func (a *Agent) Run(ctx context.Context) error {
	defer a.checks.close()
	return client.RunAll(ctx, a.services.Run, a.slices.Run, a.nodes.Run, a.loop)
}

func (a *Agent) loop(ctx context.Context) error {
	for _, wait := range []func(context.Context) error{a.services.WaitSynced, a.slices.WaitSynced, a.nodes.WaitSynced} {
		if err := wait(ctx); err != nil {
			return nil // only ctx ends a wait
		}
	}
	a.signal()
	repair := time.NewTicker(repairPeriod)
	defer repair.Stop()
	var retry <-chan time.Time
	delay := retryMin
	ready := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-retry:
		case <-repair.C:
			if !a.repair() {
				continue
			}
		}
		err := a.sync(ctx)
		if ctx.Err() != nil {
			return nil
		}
		retry = nil
		if err != nil {
			a.cfg.Log.Error("rules not applied; will try again", "error", err, "after", delay)
			retry, delay = time.After(delay), min(2*delay, retryMax)
			continue
		}
		delay = retryMin
		if !ready {
			ready = true
			if a.cfg.Ready != nil {
				a.cfg.Ready()
			}
		}
	}
}

// repair reports whether rules are missing, and has the next apply look for what.
func (a *Agent) repair() (needed bool) {
	for _, f := range a.families {
		if !f.fresh && !f.Applier.Intact() {
			a.cfg.Log.Warn("rules were removed by somebody else; writing them again", "family", f.Family.Family)
			f.Applier.Forget()
			f.fresh, needed = true, true
		}
	}
	return needed
}

// sync plans what is pending and applies it to every family. What could not be applied is kept for the next call.
func (a *Agent) sync(ctx context.Context) error {
	start := time.Now()
	p := a.take()
	node := a.node()
	keys := slices.Collect(maps.Keys(p.services))
	if p.all {
		keys = a.everyKey()
	}
	var failed error
	for _, f := range a.families {
		udp := a.plan(f, keys, node)
		changed := slices.Sorted(maps.Keys(f.unsaved))
		if f.fresh {
			changed = nil
		} else if len(changed) == 0 {
			continue
		}
		err := f.Applier.Apply(ctx, f.set, changed)
		a.metrics.applied(f.Family.Family, f.fresh, time.Since(start), err)
		if err != nil {
			failed = fmt.Errorf("%s: %w", f.Family.Family, err)
			continue
		}
		if (udp || f.fresh) && a.cfg.Sweep != nil {
			if n, err := a.cfg.Sweep(f.set); err != nil {
				a.cfg.Log.Warn("stale tracked flows not removed", "family", f.Family.Family, "error", err)
			} else if n > 0 {
				a.cfg.Log.Debug("stale tracked flows removed", "family", f.Family.Family, "flows", n)
			}
		}
		clear(f.unsaved)
		f.fresh = false
	}
	a.checks.set(a.healthChecks())
	if failed == nil {
		a.health.updated(time.Now(), a.waiting())
		a.metrics.programmed(p)
	} else {
		a.putBack(p)
	}
	return failed
}

// waiting is when the oldest change that is not being applied was learnt.
func (a *Agent) waiting() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending.since
}

// putBack keeps the start times of changes that were not applied; the keys themselves are in the families' unsaved sets.
func (a *Agent) putBack(p pending) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending.restore(p)
}

// plan brings one family's set up to date for the keys and reports whether UDP rules are among the unsaved changes.
func (a *Agent) plan(f *family, keys []string, node plan.Node) (udp bool) {
	for _, key := range keys {
		before := f.udpOf([]string{key})
		svc := plan.Service{Key: key}
		ns, name, _ := cutKey(key)
		if o, ok := a.services.Get(ns, name); ok {
			svc = plan.ForService(o, a.slices.ByIndex(sliceIndex, key), node, f.Family.Family)
		}
		changed := f.set.Put(svc)
		for _, k := range changed {
			f.unsaved[k] = true
		}
		udp = udp || len(changed) > 0 && (before || f.udpOf(changed))
	}
	return udp
}

func (f *family) udpOf(keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { s, _ := f.set.Service(k); return s.HasUDP() })
}

func (a *Agent) node() plan.Node {
	n := plan.Node{Name: a.cfg.NodeName, AllowExternalIPs: a.cfg.AllowExternalIPs}
	if o, ok := a.nodes.Get("", a.cfg.NodeName); ok {
		n.Zone = o.Labels[corev1.LabelTopologyZone]
	}
	return n
}

// everyKey is every service there is, and every one that there are rules for.
func (a *Agent) everyKey() []string {
	keys := map[string]bool{}
	for _, s := range a.services.List() {
		keys[s.Namespace+"/"+s.Name] = true
	}
	for _, f := range a.families {
		for _, k := range f.set.Keys() {
			keys[k] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// healthChecks adds up the families' answers for load balancers.
func (a *Agent) healthChecks() map[uint16]check {
	out := map[uint16]check{}
	for _, f := range a.families {
		for key, h := range f.set.HealthChecks() {
			c := out[h.Port]
			out[h.Port] = check{service: key, endpoints: c.endpoints + h.Endpoints}
		}
	}
	return out
}
