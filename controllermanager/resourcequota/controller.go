package resourcequota

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

const (
	// workers is how many quotas are recounted at a time.
	workers = 5
	// rediscover is how often to look for kinds that quotas count and that were not served before.
	rediscover = 30 * time.Second
)

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:     "resourcequota-controller",
		Reads:    []plan.Kind{plan.ResourceQuotas, plan.Pods, plan.Services},
		Optional: []plan.Kind{plan.PVCs, plan.ResourceClaims},
		Writes:   []engine.Claim{{Kind: plan.ResourceQuotas, Field: "status"}},
		Setup:    setup,
	}
}

type controller struct {
	setup    *engine.Setup
	quotas   *engine.View[*corev1.ResourceQuota]
	pods     *engine.View[*corev1.Pod]
	services *engine.View[*corev1.Service]
	claims   *engine.View[*corev1.PersistentVolumeClaim] // nil if the server has none
	devices  *engine.View[*resourcev1.ResourceClaim]     // nil if the server has none
	// recounted tells that the kinds that quotas count may have changed.
	recounted chan struct{}
}

func setup(s *engine.Setup) error {
	c := &controller{
		setup: s, quotas: engine.Mirror(s, client.ResourceQuotas()), pods: engine.Mirror(s, client.Pods()), services: engine.Mirror(s, client.Services()),
		recounted: make(chan struct{}, 1),
	}
	loop := c.quotas.Loop(s, engine.LoopConfig{Name: "resource_quota_controller_resource_changes", Workers: workers}, c.step)
	inNamespace := func(namespace string) {
		for _, q := range c.quotas.ByIndex("namespace", namespace) {
			loop.Add(engine.Key(q))
		}
	}
	c.pods.OnChange(func(old, new *corev1.Pod) {
		switch {
		case new == nil:
			inNamespace(old.Namespace)
		case old == nil || pods.Finished(old) != pods.Finished(new) || !apiequality.Semantic.DeepEqual(old.Spec.Containers, new.Spec.Containers):
			inNamespace(new.Namespace)
		}
	})
	c.services.Enqueue(loop, func(s *corev1.Service) []string { inNamespace(s.Namespace); return nil })
	if s.Serves(plan.PVCs) {
		c.claims = engine.Mirror(s, client.PersistentVolumeClaims())
		c.claims.Enqueue(loop, func(p *corev1.PersistentVolumeClaim) []string { inNamespace(p.Namespace); return nil })
	}
	if s.Serves(plan.ResourceClaims) {
		c.devices = engine.Mirror(s, client.ResourceClaims())
		c.devices.Enqueue(loop, func(r *resourcev1.ResourceClaim) []string { inNamespace(r.Namespace); return nil })
	}
	nudge := func() {
		select {
		case c.recounted <- struct{}{}:
		default:
		}
	}
	c.quotas.OnChange(func(old, new *corev1.ResourceQuota) {
		if old == nil || new == nil || !apiequality.Semantic.DeepEqual(old.Spec.Hard, new.Spec.Hard) {
			nudge()
		}
	})
	s.Go(func(ctx context.Context) error { return c.follow(ctx, inNamespace) })
	s.Go(func(ctx context.Context) error { s.OnDefinitions(ctx, nudge); return nil })
	return nil
}

// follow watches the kinds whose objects quotas count, custom ones too, and has a namespace's quotas recounted when one goes.
// What comes is charged by admission.
func (c *controller) follow(ctx context.Context, recount func(namespace string)) error {
	followers := engine.NewFollowers(c.setup.Client())
	defer followers.Stop()
	ticker := time.NewTicker(rediscover)
	defer ticker.Stop()
	for {
		if kinds, err := c.countedKinds(ctx); err == nil {
			followers.Follow(ctx, kinds, func(plan.Kind) engine.MetaHandler {
				return engine.MetaHandler{
					Snapshot: func([]*engine.Meta) { c.everywhere(recount) }, Changed: func(*engine.Meta) {}, Deleted: func(m *engine.Meta) { recount(m.Namespace) },
				}
			})
		} else if ctx.Err() == nil {
			c.setup.Log.Warn("cannot discover kinds to count", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.recounted:
		case <-ticker.C:
		}
	}
}

// everywhere recounts all quotas, after something may have gone unnoticed.
func (c *controller) everywhere(recount func(namespace string)) {
	for _, q := range c.quotas.List() {
		recount(q.Namespace)
	}
}

// countedKinds are the kinds that any quota counts objects of, without those that are mirrored anyway.
func (c *controller) countedKinds(ctx context.Context) ([]plan.Kind, error) {
	names := map[string]bool{}
	for _, q := range c.quotas.List() {
		for _, name := range CountedBy(q) {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	resources, err := c.setup.Discover(ctx)
	if err != nil {
		return nil, err
	}
	var kinds []plan.Kind
	for _, r := range resources {
		if names[r.Kind.String()] && r.Namespaced && r.Can("list", "watch") {
			delete(names, r.Kind.String()) // one version of each
			kinds = append(kinds, r.Kind)
		}
	}
	return kinds, nil
}

// step counts from a state that is not older than the quota's: admission charges the quota in the same commit as what it charges
// for, so that a recount from an older one would take the charge back.
func (c *controller) step(ctx context.Context, q *corev1.ResourceQuota, s engine.Step) (plan.Plan, error) {
	contents, err := c.contents(ctx, q)
	if err != nil {
		return plan.Plan{}, err
	}
	var failed error
	contents.Count = func(name string) int64 {
		n, err := c.count(ctx, q.Namespace, name)
		if err != nil {
			failed = err
		}
		return n
	}
	p := Reconcile(q, contents, s.Now)
	if failed != nil {
		return plan.Plan{}, failed // A number that could not be had must not be written as zero.
	}
	return p, nil
}

// contents reads what the quota counts.
func (c *controller) contents(ctx context.Context, q *corev1.ResourceQuota) (out Contents, err error) {
	rev, counts := client.RevisionOf(q), CountsOf(q)
	if counts.Pods {
		out.Pods, err = c.pods.Since(ctx, q.Namespace, rev)
	}
	if counts.Services && err == nil {
		out.Services, err = c.services.Since(ctx, q.Namespace, rev)
	}
	if counts.Claims && err == nil && c.claims != nil {
		out.Claims, err = c.claims.Since(ctx, q.Namespace, rev)
	}
	if counts.Devices && err == nil && c.devices != nil {
		out.Devices, err = c.devices.Since(ctx, q.Namespace, rev)
	}
	return out, err
}

// count lists the metadata of a kind named as "deployments.apps".
func (c *controller) count(ctx context.Context, namespace, name string) (int64, error) {
	resources, err := c.setup.Discover(ctx)
	if err != nil {
		return 0, err
	}
	for _, r := range resources {
		if r.Kind.String() == name && r.Namespaced {
			objects, _, err := engine.ListMeta(ctx, c.setup.Client(), r.Kind, namespace, 0)
			return int64(len(objects)), err
		}
	}
	return 0, nil
}
