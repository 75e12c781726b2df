package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/proxy/plan"
	"bareboat.dev/proxy/policy"
)

// askAgain is how often an API that does not know NetworkPolicies is asked whether it does by now: after an upgrade of the
// servers they take effect within this time.
const askAgain = time.Minute

// reportAfter is how many failures in a row are told: five are about six seconds, longer than a server takes to start.
const reportAfter = 5

// Policer makes the kernel enforce policies.
type Policer interface {
	// Hold stops new connections of pods until the first Apply, unless rules are in force already.
	Hold(ctx context.Context) error
	Apply(ctx context.Context, rules policy.Rules) error
	// Intact says cheaply whether the rules still seem to be there.
	Intact() bool
	// Forget makes the next Apply look at the kernel again.
	Forget()
}

// PolicyFamily is an IP family whose policies this node enforces.
type PolicyFamily struct {
	Family  plan.Family
	Policer Policer
}

// PolicyConfig is what the enforcement does not learn from the API.
type PolicyConfig struct {
	NodeName string
	Families []PolicyFamily
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Policies enforces NetworkPolicies on one node. Its contract is the Agent's, with one difference: while nothing is known
// yet, nothing is allowed. An API that does not know NetworkPolicies has none.
type Policies struct {
	cfg        PolicyConfig
	client     *client.Client
	policies   *client.Mirror[*networkingv1.NetworkPolicy]
	pods       *client.Mirror[*corev1.Pod]
	namespaces *client.Mirror[*corev1.Namespace]
	wake       chan struct{} // capacity 1: a token means that something changed
	duration   prometheus.Histogram
	isolated   *prometheus.GaugeVec
}

// NewPolicies makes the enforcement; it does nothing until Run.
func NewPolicies(c *client.Client, cfg PolicyConfig) *Policies {
	p := &Policies{
		cfg: cfg, client: c, wake: make(chan struct{}, 1),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "bareboat", Subsystem: "networkpolicy", Name: "sync_duration_seconds",
			Help: "Time to plan and apply all policies of this node.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		isolated: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "bareboat", Subsystem: "networkpolicy", Name: "isolated_pods", Help: "Pods of this node that policies isolate.",
		}, []string{"ip_family", "direction"}),
	}
	if cfg.Registry != nil {
		cfg.Registry.MustRegister(p.duration, p.isolated)
	}
	p.policies = client.NewMirror(c, client.NetworkPolicies(), client.MirrorOptions[*networkingv1.NetworkPolicy]{Log: cfg.Log})
	p.pods = client.NewMirror(c, client.Pods(), client.MirrorOptions[*corev1.Pod]{Log: cfg.Log, Transform: trimPod})
	p.namespaces = client.NewMirror(c, client.Namespaces(), client.MirrorOptions[*corev1.Namespace]{
		Log: cfg.Log, Transform: func(n *corev1.Namespace) *corev1.Namespace {
			return &corev1.Namespace{ObjectMeta: trimMeta(n.ObjectMeta)}
		},
	})
	p.policies.OnChange(func(client.Change[*networkingv1.NetworkPolicy]) { p.signal() })
	p.namespaces.OnChange(func(c client.Change[*corev1.Namespace]) {
		if c.Type != client.Updated || !maps.Equal(c.Old.Labels, c.New.Labels) {
			p.signal()
		}
	})
	p.pods.OnChange(func(c client.Change[*corev1.Pod]) {
		if c.Type != client.Updated || !samePod(c.Old, c.New) {
			p.signal()
		}
	})
	return p
}

func trimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Labels: m.Labels}
}

// trimPod keeps of a pod what policies ask for; every node has all pods in memory.
func trimPod(p *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{ObjectMeta: trimMeta(p.ObjectMeta)}
	out.Spec.NodeName, out.Spec.HostNetwork = p.Spec.NodeName, p.Spec.HostNetwork
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		if len(c.Ports) > 0 {
			out.Spec.Containers = append(out.Spec.Containers, corev1.Container{Ports: c.Ports})
		}
	}
	out.Status.Phase, out.Status.PodIP, out.Status.PodIPs = p.Status.Phase, p.Status.PodIP, p.Status.PodIPs
	return out
}

// samePod says that two states of a pod are the same to policies. Its ports never change.
func samePod(a, b *corev1.Pod) bool {
	return a.Spec.NodeName == b.Spec.NodeName && a.Status.Phase == b.Status.Phase && a.Status.PodIP == b.Status.PodIP &&
		slices.Equal(a.Status.PodIPs, b.Status.PodIPs) && maps.Equal(a.Labels, b.Labels)
}

func (p *Policies) signal() {
	select {
	case p.wake <- struct{}{}:
	default: // a token is there already
	}
}

// Run enforces until ctx ends, and then returns nil. What is enforced then stays so.
func (p *Policies) Run(ctx context.Context) error {
	for _, f := range p.cfg.Families {
		if err := f.Policer.Hold(ctx); err != nil {
			// Services go on; the apply that follows meets the same trouble, and is tried until it succeeds.
			p.cfg.Log.Error("traffic not held back until policies are known", "family", f.Family, "error", err)
		}
	}
	if !p.waitServed(ctx) {
		return nil
	}
	return client.RunAll(ctx, p.policies.Run, p.pods.Run, p.namespaces.Run, p.loop)
}

// waitServed waits until the API knows NetworkPolicies; false: ctx ended. One that does not know them has none, so nothing
// is held back.
func (p *Policies) waitServed(ctx context.Context) bool {
	told, failures := false, 0
	delay := retryMin
	for {
		_, _, err := client.Of(p.client, client.NetworkPolicies()).List(ctx, "", client.ListOptions{Limit: 1})
		switch {
		case err == nil:
			return true
		case apierrors.IsNotFound(err) && p.apply(ctx, policy.Rules{}) == nil:
			if !told {
				told = true
				p.cfg.Log.Info("the API does not know NetworkPolicies: none are enforced")
			}
			delay = askAgain
		default:
			if failures++; failures == reportAfter {
				p.cfg.Log.Warn("NetworkPolicies cannot be read; where none are in force yet, new connections of pods wait", "error", err)
			}
			delay = min(2*delay, retryMax)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(delay):
		}
	}
}

func (p *Policies) loop(ctx context.Context) error {
	for _, wait := range []func(context.Context) error{p.policies.WaitSynced, p.pods.WaitSynced, p.namespaces.WaitSynced} {
		if err := wait(ctx); err != nil {
			return nil // only ctx ends a wait
		}
	}
	p.signal()
	repair := time.NewTicker(repairPeriod)
	defer repair.Stop()
	var retry <-chan time.Time
	delay := retryMin
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-retry:
		case <-repair.C:
			if !p.repair() {
				continue
			}
		}
		retry = nil
		if err := p.sync(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Log.Error("policies not applied; will try again", "error", err, "after", delay)
			retry, delay = time.After(delay), min(2*delay, retryMax)
			continue
		}
		delay = retryMin
	}
}

// repair reports whether rules are missing, and has the next apply look for what.
func (p *Policies) repair() (needed bool) {
	for _, f := range p.cfg.Families {
		if !f.Policer.Intact() {
			p.cfg.Log.Warn("policies were removed by somebody else; writing them again", "family", f.Family)
			f.Policer.Forget()
			needed = true
		}
	}
	return needed
}

// sync plans everything anew: a policy can concern any pod, and a plan takes milliseconds.
func (p *Policies) sync(ctx context.Context) error {
	start := time.Now()
	in := policy.Input{Policies: p.policies.List(), Node: p.cfg.NodeName}
	if len(in.Policies) > 0 {
		in.Pods, in.Namespaces = p.pods.List(), p.namespaces.List()
	}
	for _, f := range p.cfg.Families {
		in.Family = f.Family
		rules := policy.Build(in)
		if err := f.Policer.Apply(ctx, rules); err != nil {
			return fmt.Errorf("%s: %w", f.Family, err)
		}
		p.isolated.WithLabelValues(label(f.Family), "ingress").Set(float64(len(rules.Ingress)))
		p.isolated.WithLabelValues(label(f.Family), "egress").Set(float64(len(rules.Egress)))
	}
	p.duration.Observe(time.Since(start).Seconds())
	return nil
}

// apply applies the same rules to every family.
func (p *Policies) apply(ctx context.Context, rules policy.Rules) error {
	for _, f := range p.cfg.Families {
		if err := f.Policer.Apply(ctx, rules); err != nil {
			return err
		}
	}
	return nil
}
