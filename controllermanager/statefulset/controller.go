package statefulset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/owner"
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
	loop := s.Loop(engine.LoopConfig{Name: "statefulset", Workers: workers, Step: c.step})
	if s.Serves(plan.PVCs) {
		c.claims = engine.Mirror(s, client.PersistentVolumeClaims())
	}
	c.sets.Enqueue(loop, engine.Self[*appsv1.StatefulSet])
	c.pods.Enqueue(loop, func(p *corev1.Pod) []string { return c.concerned(p, p.Labels) })
	c.revisions.Enqueue(loop, func(r *appsv1.ControllerRevision) []string { return c.concerned(r, r.Labels) })
	return nil
}

// concerned returns the sets that an object matters to: its own, or those that would adopt it.
func (c *controller) concerned(obj metav1.Object, with map[string]string) []string {
	if metav1.GetControllerOfNoCopy(obj) != nil {
		return engine.ControllerKey(obj, plan.StatefulSets)
	}
	var keys []string
	for _, set := range c.sets.ByIndex("namespace", obj.GetNamespace()) {
		sel, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
		if err == nil && !sel.Empty() && sel.Matches(labels.Set(with)) {
			keys = append(keys, engine.Key(set))
		}
	}
	return keys
}

func (c *controller) step(_ context.Context, s engine.Step) (plan.Plan, error) {
	set, ok := c.sets.Get(s.Namespace, s.Name)
	if !ok {
		return plan.Plan{}, nil
	}
	return Reconcile(Input{
		Set: set, Pods: engine.Owned(c.pods, set), Revisions: engine.Owned(c.revisions, set),
		Claim: func(name string) *corev1.PersistentVolumeClaim {
			if c.claims == nil {
				return nil
			}
			claim, _ := c.claims.Get(set.Namespace, name)
			return claim
		},
		PodTaken: func(name string) bool {
			pod, ok := c.pods.Get(set.Namespace, name)
			return ok && owner.UID(pod) != set.UID
		},
		RevisionTaken: func(name string) bool {
			rev, ok := c.revisions.Get(set.Namespace, name)
			return ok && owner.UID(rev) != set.UID
		},
	}, s.Now), nil
}
