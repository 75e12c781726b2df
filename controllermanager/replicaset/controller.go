package replicaset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// workers is how many ReplicaSets are worked on at a time; a step is one round trip, so five keep the API busy without
// starving other controllers.
const workers = 5

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "replicaset-controller",
		Reads: []plan.Kind{plan.ReplicaSets, plan.Pods},
		Writes: []engine.Claim{
			{Kind: plan.ReplicaSets, Field: "status"},
			{Kind: plan.Pods, Field: "metadata.ownerReferences[ReplicaSet]"},
		},
		Creates: []plan.Kind{plan.Pods},
		Deletes: []plan.Kind{plan.Pods},
		Setup:   setup,
	}
}

type controller struct {
	sets   *engine.View[*appsv1.ReplicaSet]
	pods   *engine.View[*corev1.Pod]
	recent *pods.Recent
}

func setup(s *engine.Setup) error {
	c := &controller{
		sets:   engine.Mirror(s, client.ReplicaSets(), engine.ByController[*appsv1.ReplicaSet]()),
		pods:   engine.Mirror(s, client.Pods(), engine.ByController[*corev1.Pod]()),
		recent: pods.NewRecent(),
	}
	loop := c.sets.Loop(s, engine.LoopConfig{Name: "replicaset", Workers: workers}, c.step)
	c.pods.OnChange(c.recent.Note)
	c.pods.Enqueue(loop, engine.Claimants[*appsv1.ReplicaSet, *corev1.Pod](c.sets, plan.ReplicaSets, func(rs *appsv1.ReplicaSet) (labels.Selector, error) {
		return metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	}))
	return nil
}

func (c *controller) step(_ context.Context, rs *appsv1.ReplicaSet, s engine.Step) (plan.Plan, error) {
	return Reconcile(Input{
		Kind:    plan.ReplicaSets,
		RS:      rs,
		Pods:    engine.Owned(c.pods, rs),
		Related: func() map[string]int { return c.related(rs) },
		Failure: FailureOf(s.Last),
		Taken:   c.recent.Taken(c.pods, rs.Namespace),
	}, s.Now), nil
}

// related counts the active pods per node of all ReplicaSets that share rs's controller.
func (c *controller) related(rs *appsv1.ReplicaSet) map[string]int {
	owner := metav1.GetControllerOfNoCopy(rs)
	if owner == nil {
		return nil
	}
	count := map[string]int{}
	for _, sibling := range c.sets.ByIndex("controller", string(owner.UID)) {
		for _, pod := range c.pods.ByIndex("controller", string(sibling.UID)) {
			if pods.Active(pod) {
				count[pod.Spec.NodeName]++
			}
		}
	}
	return count
}

// FailureOf finds the first write of a pod that failed for a reason the user should know.
func FailureOf(err error) *Failure {
	if we := engine.Refused(err, plan.Pods, plan.VerbCreate); we != nil {
		return &Failure{Reason: "FailedCreate", Message: we.Err.Error()}
	}
	if we := engine.Refused(err, plan.Pods, plan.VerbDelete); we != nil {
		return &Failure{Reason: "FailedDelete", Message: we.Err.Error()}
	}
	return nil
}
