// Package daemonset keeps one pod of a template on every node that it fits.
//
// Reconcile is pure: from all nodes and the set's pods it plans one step. A pod is meant for the node that its required
// affinity to metadata.name says, also before the scheduler bound it. Rollouts respect maxUnavailable and maxSurge; an old pod
// that is not available is replaced whatever they are.
package daemonset

import (
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/controllermanager/history"
	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// Burst is the most pods created or deleted in one step, as upstream.
const Burst = 250

// Input is what a decision is made from.
type Input struct {
	Set   *appsv1.DaemonSet
	Nodes []*corev1.Node
	// Pods and Revisions of the namespace that the set controls or that have no controller.
	Pods      []*corev1.Pod
	Revisions []*appsv1.ControllerRevision
	// PodTaken and RevisionTaken report names in use.
	PodTaken, RevisionTaken func(name string) bool
	// NotBefore is when a failed pod of a node may be replaced; the zero time is at once.
	NotBefore func(node string) time.Time
	// Failure is why a pod could not be created in the step before; empty if none failed.
	Failure string
}

type step struct {
	Input
	now        time.Time
	plan       plan.Plan
	update     *appsv1.ControllerRevision
	sorted     []*appsv1.ControllerRevision
	collisions *int32
	// revised tells that the template has its revision. Before, observed, which goes into the status, is the generation of the
	// status that there is: a reader takes the rest of the status as being of that generation.
	revised  bool
	observed int64
	// on holds the set's pods by the node they are meant for.
	on map[string][]*corev1.Pod
	// rest is how many more pods this step may create and delete.
	creations, deletions int
	doomed               map[*corev1.Pod]bool
}

// Reconcile plans the next step of a DaemonSet.
func Reconcile(in Input, now time.Time) plan.Plan {
	s := &step{Input: in, now: now, collisions: in.Set.Status.CollisionCount, on: map[string][]*corev1.Pod{}, creations: Burst, deletions: Burst, doomed: map[*corev1.Pod]bool{}}
	set := in.Set
	if in.Failure != "" {
		s.plan.Event(set, corev1.EventTypeWarning, "FailedCreate", "Error creating: %s", in.Failure)
	}
	sel, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil || sel.Empty() {
		s.plan.Event(set, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return s.plan
	}
	revisions := owner.Claim(plan.DaemonSets, set, sel, plan.ControllerRevision, in.Revisions)
	claims := owner.Claim(plan.DaemonSets, set, sel, plan.Pods, in.Pods)
	s.plan.Add(append(revisions.Writes, claims.Writes...)...)
	if len(s.plan.Writes) > 0 {
		return s.plan
	}
	s.Nodes = slices.SortedFunc(slices.Values(in.Nodes), func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	for _, pod := range slices.SortedFunc(slices.Values(claims.Owned), older) {
		s.on[target(pod)] = append(s.on[target(pod)], pod)
	}
	s.observed = set.Status.ObservedGeneration
	if s.revised = set.DeletionTimestamp != nil || s.revise(revisions.Owned); s.revised {
		s.observed = set.Generation
	}
	if s.revised && set.DeletionTimestamp == nil {
		s.place()
		s.roll()
		s.plan.Add(history.Surplus(s.sorted, set.Spec.RevisionHistoryLimit, s.uses)...)
	}
	s.status()
	return s.plan
}

// older puts the pod to keep first: the one that is bound, then the oldest.
func older(a, b *corev1.Pod) int {
	if (a.Spec.NodeName == "") != (b.Spec.NodeName == "") {
		if a.Spec.NodeName != "" {
			return -1
		}
		return 1
	}
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

func (s *step) revise(owned []*appsv1.ControllerRevision) bool {
	h := history.Sync(history.Of{
		Kind: plan.DaemonSets, Owner: s.Set, Template: &s.Set.Spec.Template, Labels: s.Set.Spec.Template.Labels,
		PodLabel: appsv1.DefaultDaemonSetUniqueLabelKey, Collisions: s.Set.Status.CollisionCount,
	}, owned, s.RevisionTaken)
	s.sorted, s.update = h.Sorted, h.Update
	if h.Collision {
		s.collisions = history.Next(s.collisions)
	}
	if h.Write != nil {
		s.plan.Add(*h.Write)
	}
	return h.Update != nil && h.Write == nil
}

func (s *step) hash() string { return s.update.Labels[history.HashLabel] }

func (s *step) updated(pod *corev1.Pod) bool {
	return s.update != nil && pod.Labels[appsv1.ControllerRevisionHashLabelKey] == s.hash()
}

func (s *step) uses(name string) bool {
	if name == s.update.Name {
		return true
	}
	for _, rev := range s.sorted {
		if rev.Name != name {
			continue
		}
		for _, on := range s.on {
			for _, pod := range on {
				if pod.Labels[appsv1.ControllerRevisionHashLabelKey] == rev.Labels[history.HashLabel] {
					return true
				}
			}
		}
	}
	return false
}

// place creates pods where they are missing and deletes them where they should not be.
func (s *step) place() {
	known := map[string]bool{}
	for _, node := range s.Nodes {
		known[node.Name] = true
		run, stay := Fits(s.Set, node)
		running := s.prune(node.Name)
		switch {
		case run && len(running) == 0:
			if !slices.ContainsFunc(s.on[node.Name], func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil || pods.Finished(p) }) {
				s.create(node.Name)
			}
		case !stay:
			for _, pod := range running {
				s.delete(pod, "")
			}
		default:
			s.deduplicate(running)
		}
	}
	for node, on := range s.on {
		if known[node] {
			continue
		}
		// Bound pods of a node that is gone are for pod garbage collection; one that waits for such a node waits for ever.
		for _, pod := range on {
			if pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil {
				s.delete(pod, "")
			}
		}
	}
}

// prune deletes a node's failed pods when their back-off is over, and returns those that run or will.
func (s *step) prune(node string) []*corev1.Pod {
	var running []*corev1.Pod
	for _, pod := range s.on[node] {
		switch {
		case pod.DeletionTimestamp != nil:
		case pod.Status.Phase == corev1.PodFailed:
			if at := s.NotBefore(node); at.After(s.now) {
				s.plan.LookAgain(s.now, at)
				continue
			}
			s.delete(pod, "FailedDaemonPod")
		case pod.Status.Phase == corev1.PodSucceeded:
			s.delete(pod, "SucceededDaemonPod")
		default:
			running = append(running, pod)
		}
	}
	return running
}

// deduplicate keeps one pod of each revision; two of different ones may be a surge.
func (s *step) deduplicate(running []*corev1.Pod) {
	var current, old bool
	for _, pod := range running {
		seen := &old
		if s.updated(pod) {
			seen = &current
		}
		if *seen {
			s.delete(pod, "")
		}
		*seen = true
	}
}

func (s *step) create(node string) {
	if s.creations == 0 {
		s.plan.After = time.Nanosecond
		return
	}
	s.creations--
	name := owner.NewNames(s.Set.Name+"-", s.Set.UID, node, s.PodTaken).Next()
	pod := newPod(s.Set, node, name, s.hash())
	s.plan.Add(plan.Create(plan.Pods, pod))
	s.plan.EventOf(pod, s.Set, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", name)
}

// delete deletes a pod; reason is that of a warning that explains it, empty for none.
func (s *step) delete(pod *corev1.Pod, reason string) {
	if s.doomed[pod] {
		return
	}
	if s.deletions == 0 {
		s.plan.After = time.Nanosecond
		return
	}
	s.deletions--
	s.doomed[pod] = true
	if reason != "" {
		s.plan.Event(s.Set, corev1.EventTypeWarning, reason, "Found %s daemon pod %s/%s on node %s, will try to kill it", strings.ToLower(string(pod.Status.Phase)), pod.Namespace, pod.Name, target(pod))
	}
	s.plan.Add(plan.Delete(plan.Pods, pod))
	s.plan.EventOf(pod, s.Set, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
}

// status writes what was seen, if it differs from what is written.
func (s *step) status() {
	set := s.Set
	want := appsv1.DaemonSetStatus{ObservedGeneration: s.observed, CollisionCount: s.collisions, Conditions: set.Status.Conditions}
	for _, node := range s.Nodes {
		run, _ := Fits(set, node)
		var best *corev1.Pod
		for _, pod := range s.on[node.Name] {
			if pod.DeletionTimestamp == nil && !pods.Finished(pod) && (best == nil || s.updated(pod) && s.available(pod)) {
				best = pod
			}
		}
		if !run {
			if best != nil {
				want.NumberMisscheduled++
			}
			continue
		}
		want.DesiredNumberScheduled++
		if best == nil {
			continue
		}
		want.CurrentNumberScheduled++
		if pods.Ready(best) {
			want.NumberReady++
		}
		if s.available(best) {
			want.NumberAvailable++
		}
		if s.updated(best) {
			want.UpdatedNumberScheduled++
		}
	}
	want.NumberUnavailable = want.DesiredNumberScheduled - want.NumberAvailable
	if apiequality.Semantic.DeepEqual(want, set.Status) {
		return
	}
	next := set.DeepCopy()
	next.Status = want
	s.plan.Add(plan.UpdateStatus(plan.DaemonSets, next))
}

func (s *step) available(pod *corev1.Pod) bool {
	ok, at := pods.Available(pod, s.Set.Spec.MinReadySeconds, s.now)
	if !at.IsZero() {
		s.plan.LookAgain(s.now, at)
	}
	return ok
}

// bounds returns how many pods a rollout may miss and how many it may have beyond one per node.
func (s *step) bounds(desired int) (unavailable, surge int) {
	ru := s.Set.Spec.UpdateStrategy.RollingUpdate
	if ru == nil {
		return 1, 0
	}
	unavailable, _ = intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(ru.MaxUnavailable, intstr.FromInt32(1)), desired, true)
	surge, _ = intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(ru.MaxSurge, intstr.FromInt32(0)), desired, true)
	if unavailable == 0 && surge == 0 {
		unavailable = 1
	}
	return unavailable, surge
}
