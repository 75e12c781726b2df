package statefulset

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
)

// workers is how many sets are worked on at a time.
const workers = 5

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:     "statefulset-controller",
		Reads:    []plan.Kind{plan.StatefulSets, plan.Pods, plan.ControllerRevision},
		Optional: []plan.Kind{plan.PVCs},
		Writes: []engine.Claim{
			{Kind: plan.StatefulSets, Field: "status"},
			{Kind: plan.Pods, Field: "metadata.ownerReferences[StatefulSet]"},
			{Kind: plan.ControllerRevision, Field: "metadata.ownerReferences[StatefulSet]"},
			{Kind: plan.ControllerRevision, Field: "revision[StatefulSet]"},
			{Kind: plan.PVCs, Field: "metadata.ownerReferences[StatefulSet]"},
		},
		Creates: []plan.Kind{plan.Pods, plan.PVCs, plan.ControllerRevision},
		Deletes: []plan.Kind{plan.Pods, plan.ControllerRevision},
		Setup:   setup,
	}
}

type controller struct {
	sets      *engine.View[*appsv1.StatefulSet]
	pods      *engine.View[*corev1.Pod]
	revisions *engine.View[*appsv1.ControllerRevision]
	claims    *engine.View[*corev1.PersistentVolumeClaim] // nil if the server has none
}

func setup(s *engine.Setup) error {
	c := &controller{
		sets:      engine.Mirror(s, client.StatefulSets()),
		pods:      engine.Mirror(s, client.Pods(), engine.ByController[*corev1.Pod]()),
		revisions: engine.Mirror(s, client.ControllerRevisions(), engine.ByController[*appsv1.ControllerRevision]()),
	}
	loop := c.sets.Loop(s, engine.LoopConfig{Name: "statefulset", Workers: workers}, c.step)
	if s.Serves(plan.PVCs) {
		c.claims = engine.Mirror(s, client.PersistentVolumeClaims())
	}
	c.pods.Enqueue(loop, engine.Claimants[*appsv1.StatefulSet, *corev1.Pod](c.sets, plan.StatefulSets, selector))
	c.revisions.Enqueue(loop, engine.Claimants[*appsv1.StatefulSet, *appsv1.ControllerRevision](c.sets, plan.StatefulSets, selector))
	return nil
}

func selector(set *appsv1.StatefulSet) (labels.Selector, error) {
	return metav1.LabelSelectorAsSelector(set.Spec.Selector)
}

func (c *controller) step(_ context.Context, set *appsv1.StatefulSet, s engine.Step) (plan.Plan, error) {
	return Reconcile(Input{
		Failures: failures(set, s.Last),
		Set:      set, Pods: engine.Owned(c.pods, set), Revisions: engine.Owned(c.revisions, set),
		Claim: func(name string) *corev1.PersistentVolumeClaim {
			if c.claims == nil {
				return nil
			}
			claim, _ := c.claims.Get(set.Namespace, name)
			return claim
		},
		PodTaken: c.pods.TakenFrom(set), RevisionTaken: c.revisions.TakenFrom(set),
	}, s.Now), nil
}

// failures say what could not be created, as upstream words it.
func failures(set *appsv1.StatefulSet, err error) (out []string) {
	if we := engine.Refused(err, plan.PVCs, plan.VerbCreate); we != nil {
		name := we.Write.Object.GetName()
		out = append(out, fmt.Sprintf("create Claim %s for Pod %s in StatefulSet %s failed error: %v", name, claimant(set, name), set.Name, we.Err))
	}
	if we := engine.Refused(err, plan.Pods, plan.VerbCreate); we != nil {
		out = append(out, fmt.Sprintf("create Pod %s in StatefulSet %s failed error: %v", we.Write.Object.GetName(), set.Name, we.Err))
	}
	return out
}
