package daemonset

import (
	"context"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

const (
	// workers is how many sets are worked on at a time; a set is a look at every node, so two keep a core busy.
	workers = 2
	// failFirst and failMost bound the back-off of a node's failing pod, as upstream.
	failFirst = time.Second
	failMost  = 15 * time.Minute
)

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "daemonset-controller",
		Reads: []plan.Kind{plan.DaemonSets, plan.Pods, plan.Nodes, plan.ControllerRevision},
		Writes: []engine.Claim{
			{Kind: plan.DaemonSets, Field: "status"},
			{Kind: plan.Pods, Field: "metadata.ownerReferences[DaemonSet]"},
			{Kind: plan.ControllerRevision, Field: "metadata.ownerReferences[DaemonSet]"},
			{Kind: plan.ControllerRevision, Field: "revision[DaemonSet]"},
		},
		Creates: []plan.Kind{plan.Pods, plan.ControllerRevision},
		Deletes: []plan.Kind{plan.Pods, plan.ControllerRevision},
		Setup:   setup,
	}
}

type controller struct {
	sets      *engine.View[*appsv1.DaemonSet]
	nodes     *engine.View[*corev1.Node]
	pods      *engine.View[*corev1.Pod]
	revisions *engine.View[*appsv1.ControllerRevision]
	recent    *pods.Recent

	mu       sync.Mutex
	failures map[place]failure
}

// place is a set's place on a node.
type place struct {
	set  types.UID
	node string
}

type failure struct {
	times int
	last  time.Time
}

func setup(s *engine.Setup) error {
	c := &controller{
		sets: engine.Mirror(s, client.DaemonSets()), nodes: engine.Mirror(s, client.Nodes()),
		pods:      engine.Mirror(s, client.Pods(), engine.ByController[*corev1.Pod]()),
		revisions: engine.Mirror(s, client.ControllerRevisions(), engine.ByController[*appsv1.ControllerRevision]()),
		recent:    pods.NewRecent(), failures: map[place]failure{},
	}
	loop := c.sets.Loop(s, engine.LoopConfig{Name: "daemonset", Workers: workers}, c.step)
	c.pods.OnChange(c.recent.Note)
	c.pods.OnChange(c.noteFailure)
	c.pods.Enqueue(loop, engine.Claimants[*appsv1.DaemonSet, *corev1.Pod](c.sets, plan.DaemonSets, selector))
	c.revisions.Enqueue(loop, engine.Claimants[*appsv1.DaemonSet, *appsv1.ControllerRevision](c.sets, plan.DaemonSets, selector))
	c.nodes.OnChange(func(old, new *corev1.Node) {
		if old != nil && new != nil && apiequality.Semantic.DeepEqual(old.Labels, new.Labels) && apiequality.Semantic.DeepEqual(old.Spec, new.Spec) {
			return
		}
		for _, set := range c.sets.List() {
			loop.Add(engine.Key(set))
		}
	})
	return nil
}

func selector(set *appsv1.DaemonSet) (labels.Selector, error) {
	return metav1.LabelSelectorAsSelector(set.Spec.Selector)
}

// noteFailure counts a place's failed pods; one that runs long enough wipes the count.
func (c *controller) noteFailure(old, new *corev1.Pod) {
	if new == nil || len(engine.ControllerKey(new, plan.DaemonSets)) == 0 {
		return
	}
	at := place{owner.UID(new), target(new)}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f, failing := c.failures[at]; {
	case new.Status.Phase == corev1.PodFailed && (old == nil || old.Status.Phase != corev1.PodFailed):
		c.failures[at] = failure{f.times + 1, time.Now()}
	case failing && pods.Ready(new) && time.Since(f.last) > 2*failMost:
		delete(c.failures, at)
	}
}

// notBefore is when the next pod may be tried after failures: a second after the first, doubling.
func (c *controller) notBefore(at place) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.failures[at]
	if !ok {
		return time.Time{}
	}
	wait := failMost
	if f.times <= 10 {
		wait = min(failMost, failFirst<<(f.times-1))
	}
	return f.last.Add(wait)
}

func (c *controller) forget(set types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := range c.failures {
		if at.set == set {
			delete(c.failures, at)
		}
	}
}

func (c *controller) step(_ context.Context, set *appsv1.DaemonSet, s engine.Step) (plan.Plan, error) {
	if set.DeletionTimestamp != nil {
		c.forget(set.UID)
	}
	in := Input{
		Set: set, Nodes: c.nodes.List(), Pods: engine.Owned(c.pods, set), Revisions: engine.Owned(c.revisions, set),
		PodTaken: c.recent.Taken(c.pods, set.Namespace), RevisionTaken: c.revisions.TakenFrom(set),
		NotBefore: func(node string) time.Time { return c.notBefore(place{set.UID, node}) },
	}
	if we := engine.Refused(s.Last, plan.Pods, plan.VerbCreate); we != nil {
		in.Failure = we.Err.Error()
	}
	return Reconcile(in, s.Now), nil
}
