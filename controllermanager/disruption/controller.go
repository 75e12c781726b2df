package disruption

import (
	"context"
	"errors"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// workers is how many budgets are worked on at a time.
const workers = 2

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:     "disruption-controller",
		Reads:    []plan.Kind{plan.PDBs, plan.Pods, plan.ReplicaSets, plan.Deployments},
		Optional: []plan.Kind{plan.StatefulSets},
		Writes:   []engine.Claim{{Kind: plan.PDBs, Field: "status"}},
		Setup:    setup,
	}
}

type controller struct {
	setup        *engine.Setup
	budgets      *engine.View[*policyv1.PodDisruptionBudget]
	pods         *engine.View[*corev1.Pod]
	sets         *engine.View[*appsv1.ReplicaSet]
	deployments  *engine.View[*appsv1.Deployment]
	statefulSets *engine.View[*appsv1.StatefulSet] // nil if the server has none
}

func setup(s *engine.Setup) error {
	c := &controller{
		setup: s, budgets: engine.Mirror(s, client.PodDisruptionBudgets()), pods: engine.Mirror(s, client.Pods()),
		sets: engine.Mirror(s, client.ReplicaSets()), deployments: engine.Mirror(s, client.Deployments()),
	}
	loop := s.Loop(engine.LoopConfig{Name: "disruption", Workers: workers, Step: c.step})
	c.budgets.Enqueue(loop, engine.Self[*policyv1.PodDisruptionBudget])
	c.pods.Enqueue(loop, c.budgetsOf)
	inNamespace := func(namespace string) {
		for _, b := range c.budgets.ByIndex("namespace", namespace) {
			loop.Add(engine.Key(b))
		}
	}
	c.deployments.OnChange(func(old, new *appsv1.Deployment) {
		if old != nil && new != nil && *old.Spec.Replicas != *new.Spec.Replicas {
			inNamespace(new.Namespace)
		}
	})
	c.sets.OnChange(func(old, new *appsv1.ReplicaSet) {
		if old != nil && new != nil && *old.Spec.Replicas != *new.Spec.Replicas && metav1.GetControllerOfNoCopy(new) == nil {
			inNamespace(new.Namespace)
		}
	})
	if s.Serves(plan.StatefulSets) {
		c.statefulSets = engine.Mirror(s, client.StatefulSets())
		c.statefulSets.OnChange(func(old, new *appsv1.StatefulSet) {
			if old != nil && new != nil && *old.Spec.Replicas != *new.Spec.Replicas {
				inNamespace(new.Namespace)
			}
		})
	}
	return nil
}

func matches(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && sel.Matches(labels.Set(pod.Labels))
}

func (c *controller) budgetsOf(pod *corev1.Pod) []string {
	var keys []string
	for _, b := range c.budgets.ByIndex("namespace", pod.Namespace) {
		if matches(b, pod) {
			keys = append(keys, engine.Key(b))
		}
	}
	return keys
}

func (c *controller) step(ctx context.Context, s engine.Step) (plan.Plan, error) {
	b, ok := c.budgets.Get(s.Namespace, s.Name)
	if !ok {
		return plan.Plan{}, nil
	}
	var selected []*corev1.Pod
	for _, pod := range c.pods.ByIndex("namespace", b.Namespace) {
		if matches(b, pod) {
			selected = append(selected, pod)
		}
	}
	if len(selected) == 0 {
		return Reconcile(Input{Budget: b}, s.Now), nil
	}
	known := map[string]scale{}
	return Reconcile(Input{Budget: b, Pods: selected, Scale: func(pod *corev1.Pod) (string, int32, error) {
		owner := metav1.GetControllerOfNoCopy(pod)
		if owner == nil {
			return "", 0, errNoController
		}
		if _, ok := known[string(owner.UID)]; !ok {
			known[string(owner.UID)] = c.scaleOf(ctx, pod.Namespace, owner)
		}
		k := known[string(owner.UID)]
		return k.uid, k.size, k.err
	}}, s.Now), nil
}

var errNoController = errors.New("found no controller ref for pod")

type scale struct {
	uid  string
	size int32
	err  error
}

// scaleOf finds the size of a controller: of a ReplicaSet's Deployment, of what is mirrored, or by its scale subresource.
func (c *controller) scaleOf(ctx context.Context, namespace string, owner *metav1.OwnerReference) scale {
	group, _, ok := strings.Cut(owner.APIVersion, "/")
	if !ok {
		group = ""
	}
	switch {
	case group == "apps" && owner.Kind == plan.ReplicaSets.Kind:
		rs, ok := c.sets.Get(namespace, owner.Name)
		if !ok || rs.UID != owner.UID {
			return scale{uid: string(owner.UID)}
		}
		if up := metav1.GetControllerOfNoCopy(rs); up != nil && up.Kind == plan.Deployments.Kind {
			if d, ok := c.deployments.Get(namespace, up.Name); ok && d.UID == up.UID {
				return scale{uid: string(d.UID), size: *d.Spec.Replicas}
			}
		}
		return scale{uid: string(rs.UID), size: *rs.Spec.Replicas}
	case group == "apps" && owner.Kind == plan.StatefulSets.Kind && c.statefulSets != nil:
		set, ok := c.statefulSets.Get(namespace, owner.Name)
		if !ok || set.UID != owner.UID {
			return scale{uid: string(owner.UID)}
		}
		return scale{uid: string(set.UID), size: *set.Spec.Replicas}
	}
	return c.ask(ctx, namespace, group, owner)
}

func (c *controller) ask(ctx context.Context, namespace, group string, owner *metav1.OwnerReference) scale {
	resources, err := c.setup.Discover(ctx)
	if err != nil {
		return scale{err: err}
	}
	for _, r := range resources {
		if r.Group != group || r.Kind.Kind != owner.Kind {
			continue
		}
		var s autoscalingv1.Scale
		if err := engine.GetSubresource(ctx, c.setup.Client(), r.Kind, namespace, owner.Name, "scale", &s); err != nil {
			return scale{err: errNoScale(owner.Kind, owner.Name, err)}
		}
		return scale{uid: string(owner.UID), size: s.Spec.Replicas}
	}
	return scale{err: errNoScale(owner.Kind, owner.Name, errors.New("the kind is not served"))}
}
