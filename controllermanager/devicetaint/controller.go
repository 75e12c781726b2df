package devicetaint

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/resourceclaim"
)

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "device-taint-eviction-controller",
		Reads: []plan.Kind{plan.Pods, plan.ResourceClaims, plan.ResourceSlices, plan.DeviceTaintRules},
		Writes: []engine.Claim{
			{Kind: plan.Pods, Field: "status.conditions[DisruptionTarget/DeletionByDeviceTaintManager]"},
			{Kind: plan.DeviceTaintRules, Field: "status"},
		},
		Deletes: []plan.Kind{plan.Pods},
		Setup:   setup,
	}
}

// claimsByPool and slicesByPool find claims by the pools of devices that they have, and slices by their pool.
var (
	claimsByPool = engine.Index[*resourcev1.ResourceClaim]{Name: "pool", Keys: func(c *resourcev1.ResourceClaim) (keys []string) {
		if c.Status.Allocation == nil {
			return nil
		}
		for _, r := range c.Status.Allocation.Devices.Results {
			keys = append(keys, poolKey(r.Driver, r.Pool))
		}
		return keys
	}}
	slicesByPool = engine.Index[*resourcev1.ResourceSlice]{Name: "pool", Keys: func(s *resourcev1.ResourceSlice) []string {
		return []string{poolKey(s.Spec.Driver, s.Spec.Pool.Name)}
	}}
)

func poolKey(driver, pool string) string { return driver + "/" + pool }

type controller struct {
	pods   *engine.View[*corev1.Pod]
	claims *engine.View[*resourcev1.ResourceClaim]
	slices *engine.View[*resourcev1.ResourceSlice]
	rules  *engine.View[*resourcev1.DeviceTaintRule]
}

func setup(s *engine.Setup) error {
	c := &controller{
		pods:   engine.Mirror(s, client.Pods(), resourceclaim.PodsByClaim),
		claims: engine.Mirror(s, client.ResourceClaims(), claimsByPool),
		slices: engine.Mirror(s, client.ResourceSlices(), slicesByPool),
		rules:  engine.Mirror(s, client.DeviceTaintRules()),
	}
	pods := s.Loop(engine.LoopConfig{Name: "device_taint_pod", Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
		pod, ok := c.pods.Get(s.Namespace, s.Name)
		if !ok {
			return plan.Plan{}, nil
		}
		return ReconcilePod(pod, c.view(), s.Now), nil
	}})
	rules := c.rules.Loop(s, engine.LoopConfig{Name: "device_taint_rule"}, func(_ context.Context, rule *resourcev1.DeviceTaintRule, s engine.Step) (plan.Plan, error) {
		return ReconcileRule(rule, c.pods.List(), c.view(), func() Devices { return c.devices(rule) }, s.Now), nil
	})
	c.pods.Enqueue(pods, func(pod *corev1.Pod) []string {
		if len(pod.Spec.ResourceClaims) == 0 {
			return nil
		}
		return engine.Self(pod)
	})
	c.claims.Enqueue(pods, c.users)
	c.slices.Enqueue(pods, func(slice *resourcev1.ResourceSlice) []string {
		return c.usersOf(c.claims.ByIndex(claimsByPool.Name, poolKey(slice.Spec.Driver, slice.Spec.Pool.Name)))
	})
	c.rules.Enqueue(pods, func(rule *resourcev1.DeviceTaintRule) []string { return c.usersOf(c.selected(rule)) })
	// A rule's status counts the pods that must go.
	c.pods.Enqueue(rules, func(pod *corev1.Pod) []string {
		if len(pod.Spec.ResourceClaims) == 0 {
			return nil
		}
		return c.ruleKeys()
	})
	c.claims.Enqueue(rules, func(*resourcev1.ResourceClaim) []string { return c.ruleKeys() })
	return nil
}

func (c *controller) view() View {
	return View{
		Claim: func(namespace, name string) *resourcev1.ResourceClaim {
			claim, _ := c.claims.Get(namespace, name)
			return claim
		},
		Device: func(driver, pool, name string) *resourcev1.Device {
			return Device(c.slices.ByIndex(slicesByPool.Name, poolKey(driver, pool)), name)
		},
		Rules: c.rules.List(),
	}
}

// users are the pods that name a claim.
func (c *controller) users(claim *resourcev1.ResourceClaim) (keys []string) {
	for _, pod := range c.pods.ByIndex(resourceclaim.PodsByClaim.Name, engine.Key(claim)) {
		keys = append(keys, engine.Key(pod))
	}
	return keys
}

func (c *controller) usersOf(claims []*resourcev1.ResourceClaim) (keys []string) {
	for _, claim := range claims {
		keys = append(keys, c.users(claim)...)
	}
	return keys
}

// selected are the claims that have a device which a rule selects.
func (c *controller) selected(rule *resourcev1.DeviceTaintRule) (claims []*resourcev1.ResourceClaim) {
	for _, claim := range c.claims.List() {
		if allocated(claim, rule) > 0 {
			claims = append(claims, claim)
		}
	}
	return claims
}

func (c *controller) ruleKeys() (keys []string) {
	for _, rule := range c.rules.List() {
		keys = append(keys, rule.Name)
	}
	return keys
}

func (c *controller) devices(rule *resourcev1.DeviceTaintRule) Devices {
	d := Devices{Published: published(c.slices.List(), rule)}
	for _, claim := range c.claims.List() {
		d.Allocated += allocated(claim, rule)
	}
	return d
}
