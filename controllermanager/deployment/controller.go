package deployment

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// workers is how many Deployments are worked on at a time.
const workers = 5

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "deployment-controller",
		Reads: []plan.Kind{plan.Deployments, plan.ReplicaSets, plan.Pods},
		Writes: []engine.Claim{
			{Kind: plan.Deployments, Field: "status"},
			{Kind: plan.Deployments, Field: "metadata.annotations[" + RevisionAnnotation + "]"},
			{Kind: plan.ReplicaSets, Field: "spec"},
			{Kind: plan.ReplicaSets, Field: "metadata.annotations"},
			{Kind: plan.ReplicaSets, Field: "metadata.ownerReferences[Deployment]"},
		},
		Creates: []plan.Kind{plan.ReplicaSets},
		Deletes: []plan.Kind{plan.ReplicaSets},
		Setup:   setup,
	}
}

type controller struct {
	deployments *engine.View[*appsv1.Deployment]
	sets        *engine.View[*appsv1.ReplicaSet]
	pods        *engine.View[*corev1.Pod]
}

func setup(s *engine.Setup) error {
	c := &controller{
		deployments: engine.Mirror(s, client.Deployments()),
		sets:        engine.Mirror(s, client.ReplicaSets(), engine.ByController[*appsv1.ReplicaSet]()),
		pods:        engine.Mirror(s, client.Pods(), engine.ByController[*corev1.Pod]()),
	}
	loop := c.deployments.Loop(s, engine.LoopConfig{Name: "deployment", Workers: workers}, c.step)
	c.sets.Enqueue(loop, engine.Claimants[*appsv1.Deployment, *appsv1.ReplicaSet](c.deployments, plan.Deployments, func(d *appsv1.Deployment) (labels.Selector, error) {
		return metav1.LabelSelectorAsSelector(d.Spec.Selector)
	}))
	// A finished or removed pod may be what a Recreate rollout waits for.
	c.pods.OnChange(func(old, new *corev1.Pod) {
		if old != nil && (new == nil || pods.Finished(new) && !pods.Finished(old)) {
			loop.Add(c.recreating(old)...)
		}
	})
	return nil
}

// recreating returns the key of the Deployment above a pod if its strategy is Recreate.
func (c *controller) recreating(pod *corev1.Pod) []string {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != plan.ReplicaSets.Kind {
		return nil
	}
	rs, ok := c.sets.Get(pod.Namespace, owner.Name)
	if !ok || rs.UID != owner.UID {
		return nil
	}
	up := metav1.GetControllerOfNoCopy(rs)
	if up == nil || up.Kind != plan.Deployments.Kind {
		return nil
	}
	d, ok := c.deployments.Get(pod.Namespace, up.Name)
	if !ok || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	return []string{engine.Key(d)}
}

func (c *controller) step(_ context.Context, d *appsv1.Deployment, s engine.Step) (plan.Plan, error) {
	return Reconcile(Input{
		Deployment:     d,
		ReplicaSets:    engine.Owned(c.sets, d),
		OldPodsRunning: c.oldPodsRunning,
		Failure:        failure(s.Last),
		NameTaken: func(name string) *appsv1.ReplicaSet {
			rs, _ := c.sets.Get(d.Namespace, name)
			return rs
		},
	}, s.Now), nil
}

func (c *controller) oldPodsRunning(old []*appsv1.ReplicaSet) bool {
	for _, rs := range old {
		for _, pod := range c.pods.ByIndex("controller", string(rs.UID)) {
			if !pods.Finished(pod) {
				return true
			}
		}
	}
	return false
}

// failure says why a ReplicaSet could not be created, if that is for the user to know.
func failure(err error) string {
	we := engine.Refused(err, plan.ReplicaSets, plan.VerbCreate)
	if we == nil {
		return ""
	}
	return fmt.Sprintf("Failed to create new replica set %q: %v", we.Write.Object.GetName(), we.Err)
}
