package resourcequota

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// workers is how many quotas are recounted at a time.
const workers = 5

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:     "resourcequota-controller",
		Reads:    []plan.Kind{plan.ResourceQuotas, plan.Pods, plan.Services},
		Optional: []plan.Kind{plan.PVCs},
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
}

func setup(s *engine.Setup) error {
	c := &controller{
		setup: s, quotas: engine.Mirror(s, client.ResourceQuotas()), pods: engine.Mirror(s, client.Pods()), services: engine.Mirror(s, client.Services()),
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
	return nil
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
