package resourceclaim

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "resourceclaim-controller",
		Reads: []plan.Kind{plan.Pods, plan.ResourceClaims, plan.ResourceClaimTemplates},
		Writes: []engine.Claim{
			{Kind: plan.Pods, Field: "status.resourceClaimStatuses"},
			{Kind: plan.ResourceClaims, Field: "status"},
			{Kind: plan.ResourceClaims, Field: "metadata.finalizers[" + resourcev1.Finalizer + "]"},
		},
		Creates: []plan.Kind{plan.ResourceClaims},
		Deletes: []plan.Kind{plan.ResourceClaims},
		Setup:   setup,
	}
}

// PodsByClaim finds pods by the claims that they use, podsByTemplate by the templates that claims of theirs are made from, both
// namespace/name.
var (
	PodsByClaim    = engine.Index[*corev1.Pod]{Name: "resourceclaim", Keys: claimKeys}
	podsByTemplate = engine.Index[*corev1.Pod]{Name: "resourceclaimtemplate", Keys: func(pod *corev1.Pod) (keys []string) {
		for i := range pod.Spec.ResourceClaims {
			if t := pod.Spec.ResourceClaims[i].ResourceClaimTemplateName; t != nil {
				keys = append(keys, pod.Namespace+"/"+*t)
			}
		}
		return keys
	}}
)

func claimKeys(pod *corev1.Pod) (keys []string) {
	for i := range pod.Spec.ResourceClaims {
		if name := ClaimName(pod, &pod.Spec.ResourceClaims[i]); name != "" {
			keys = append(keys, pod.Namespace+"/"+name)
		}
	}
	return keys
}

func setup(s *engine.Setup) error {
	pods := engine.Mirror(s, client.Pods(), PodsByClaim, podsByTemplate)
	claims := engine.Mirror(s, client.ResourceClaims(), engine.ByController[*resourcev1.ResourceClaim]())
	templates := engine.Mirror(s, client.ResourceClaimTemplates())

	podLoop := s.Loop(engine.LoopConfig{Name: "resource_claim_pod", Step: func(_ context.Context, s engine.Step) (plan.Plan, error) {
		pod, ok := pods.Get(s.Namespace, s.Name)
		if !ok {
			return plan.Plan{}, nil
		}
		return ReconcilePod(pod, View{
			Claim: func(name string) *resourcev1.ResourceClaim {
				c, _ := claims.Get(pod.Namespace, name)
				return c
			},
			Template: func(name string) *resourcev1.ResourceClaimTemplate {
				t, _ := templates.Get(pod.Namespace, name)
				return t
			},
			Owned: claims.ByIndex("controller", string(pod.UID)),
		}), nil
	}})
	claimLoop := claims.Loop(s, engine.LoopConfig{Name: "resource_claim"}, func(ctx context.Context, c *resourcev1.ResourceClaim, _ engine.Step) (plan.Plan, error) {
		var failed error
		p := ReconcileClaim(c, func(name string, uid types.UID) bool {
			if pod, ok := pods.Get(c.Namespace, name); ok && pod.UID == uid {
				return Ended(pod)
			}
			// A pod that was just bound may not be in the mirror yet.
			gone, err := s.Gone(ctx, plan.Pods, c.Namespace, name, uid)
			if err != nil {
				failed = err
			}
			return gone && err == nil
		})
		return p, failed
	})

	pods.OnChange(func(old, new *corev1.Pod) {
		switch {
		case new == nil || len(new.Spec.ResourceClaims) == 0:
		case Ended(new):
			claimLoop.Add(claimKeys(new)...)
		default:
			podLoop.Add(engine.Key(new))
		}
		if old != nil && len(old.Spec.ResourceClaims) > 0 && (new == nil || new.UID != old.UID) {
			claimLoop.Add(claimKeys(old)...)
		}
	})
	claims.OnChange(func(old, new *resourcev1.ResourceClaim) {
		c := new
		if c == nil {
			c = old
		}
		podLoop.Add(engine.ControllerKey(c, plan.Pods)...)
		for _, pod := range pods.ByIndex(PodsByClaim.Name, engine.Key(c)) {
			podLoop.Add(engine.Key(pod))
		}
	})
	templates.OnChange(func(_, new *resourcev1.ResourceClaimTemplate) {
		if new == nil {
			return
		}
		for _, pod := range pods.ByIndex(podsByTemplate.Name, engine.Key(new)) {
			podLoop.Add(engine.Key(pod))
		}
	})
	return nil
}
