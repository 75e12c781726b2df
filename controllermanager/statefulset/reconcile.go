// Package statefulset keeps numbered pods with stable names and volumes.
//
// Reconcile is pure: one step of a StatefulSet from what can be seen of its pods, claims and revisions. With OrderedReady a
// step touches one pod, and only once all before it (or, shrinking, after it) are as they should be; with Parallel all at once.
// A pod's volumes are claimed before the pod is created. Names are fixed by number, so nothing can be created twice.
package statefulset

import (
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/controllermanager/history"
	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// Burst is the most missing pods that one step looks at: one batch of writes. The size is a user's to choose, and must not decide
// how much memory a step takes.
const Burst = 500

// Input is what a decision is made from.
type Input struct {
	Set *appsv1.StatefulSet
	// Pods and Revisions of the namespace that the set controls or that have no controller.
	Pods      []*corev1.Pod
	Revisions []*appsv1.ControllerRevision
	// Claim returns a PersistentVolumeClaim of the namespace, nil if there is none.
	Claim func(name string) *corev1.PersistentVolumeClaim
	// PodTaken and RevisionTaken report names in use by objects that are not the set's.
	PodTaken, RevisionTaken func(name string) bool
	// Failures are what could not be created in the step before.
	Failures []string
}

// member is one pod of the set, or the place for one.
type member struct {
	ordinal int
	pod     *corev1.Pod // nil if it does not exist
}

// step is one decision in the making.
type step struct {
	Input
	now  time.Time
	plan plan.Plan
	// members are the pods that should be, by number: all that exist and the first Burst that do not. condemned are those that
	// should not, highest number first.
	members, condemned []member
	// current and update are the revisions that the rollout leads from and to.
	current, update *appsv1.ControllerRevision
	sorted          []*appsv1.ControllerRevision
	collisions      *int32
	// revised tells that the template has its revision. Before, observed, which goes into the status, is the generation of the
	// status that there is: a reader takes the rest of the status as being of that generation.
	revised  bool
	observed int64
}

// Reconcile plans the next step of a StatefulSet.
func Reconcile(in Input, now time.Time) plan.Plan {
	s := &step{Input: in, now: now, collisions: in.Set.Status.CollisionCount}
	set := in.Set
	for _, message := range in.Failures {
		s.plan.Event(set, corev1.EventTypeWarning, "FailedCreate", "%s", message)
	}
	sel, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil || sel.Empty() {
		return s.plan
	}
	revisions := owner.Claim(plan.StatefulSets, set, sel, plan.ControllerRevision, in.Revisions)
	candidates := slices.DeleteFunc(slices.Clone(in.Pods), func(p *corev1.Pod) bool {
		_, mine := ordinalOf(set, p.Name)
		return !mine
	})
	claims := owner.Claim(plan.StatefulSets, set, sel, plan.Pods, candidates)
	s.plan.Add(append(revisions.Writes, claims.Writes...)...)
	if len(s.plan.Writes) > 0 {
		return s.plan
	}
	s.sort(claims.Owned)
	s.observed = set.Status.ObservedGeneration
	if s.revised = set.DeletionTimestamp != nil || s.revise(revisions.Owned); s.revised {
		s.observed = set.Generation
	}
	if s.revised && set.DeletionTimestamp == nil {
		s.act()
		s.retain()
		s.plan.Add(history.Surplus(s.sorted, set.Spec.RevisionHistoryLimit, s.uses)...)
	}
	s.status()
	return s.plan
}

func replicas(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

func start(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

func (s *step) sort(owned []*corev1.Pod) {
	first, n := start(s.Set), replicas(s.Set)
	have := map[int]*corev1.Pod{}
	for _, pod := range owned {
		ordinal, _ := ordinalOf(s.Set, pod.Name)
		if ordinal >= first && ordinal-first < n {
			have[ordinal] = pod
		} else {
			s.condemned = append(s.condemned, member{ordinal, pod})
		}
	}
	next, missing := first, 0
	for _, ordinal := range slices.Sorted(maps.Keys(have)) {
		for ; next < ordinal && missing < Burst; next, missing = next+1, missing+1 {
			s.members = append(s.members, member{ordinal: next})
		}
		s.members = append(s.members, member{ordinal, have[ordinal]})
		next = ordinal + 1
	}
	for ; next-first < n && missing < Burst; next, missing = next+1, missing+1 {
		s.members = append(s.members, member{ordinal: next})
	}
	slices.SortFunc(s.condemned, func(a, b member) int { return b.ordinal - a.ordinal })
}

// revise finds the revisions; false if the history must be written first.
func (s *step) revise(owned []*appsv1.ControllerRevision) bool {
	h := history.Sync(history.Of{
		Kind: plan.StatefulSets, Owner: s.Set, Template: &s.Set.Spec.Template, Labels: s.Set.Spec.Template.Labels, Collisions: s.Set.Status.CollisionCount,
	}, owned, s.RevisionTaken)
	s.sorted, s.update = h.Sorted, h.Update
	if h.Collision {
		s.collisions = history.Next(s.collisions)
	}
	if h.Write != nil {
		s.plan.Add(*h.Write)
	}
	if h.Update == nil || h.Write != nil {
		return false
	}
	s.current = s.update
	for _, rev := range h.Sorted {
		if rev.Name == s.Set.Status.CurrentRevision {
			s.current = rev
		}
	}
	return true
}

func (s *step) uses(name string) bool {
	if name == s.current.Name || name == s.update.Name {
		return true
	}
	return slices.ContainsFunc(append(slices.Clone(s.members), s.condemned...), func(m member) bool {
		return m.pod != nil && m.pod.Labels[appsv1.ControllerRevisionHashLabelKey] == name
	})
}

// act does the next thing: create what is missing, then delete what is too much, then replace what is outdated.
func (s *step) act() {
	ordered := s.Set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	for _, m := range s.members {
		if settled := s.establish(m); !settled && ordered {
			return
		}
	}
	for i, m := range s.condemned {
		if s.dismiss(m, s.condemned[i+1:]) && ordered {
			return
		}
	}
	s.roll()
}

// establish brings a member about; true if it is there and available.
func (s *step) establish(m member) bool {
	switch {
	case m.pod == nil:
		s.create(m.ordinal)
		return false
	case m.pod.DeletionTimestamp != nil:
		return false
	case pods.Finished(m.pod):
		s.plan.Event(s.Set, corev1.EventTypeWarning, "RecreatingFailedPod", "StatefulSet %s/%s is recreating failed Pod %s", s.Set.Namespace, s.Set.Name, m.pod.Name)
		s.delete(m.pod)
		return false
	}
	return s.available(m.pod)
}

func (s *step) available(pod *corev1.Pod) bool {
	ok, at := pods.Available(pod, s.Set.Spec.MinReadySeconds, s.now)
	if !at.IsZero() {
		s.plan.LookAgain(s.now, at)
	}
	return ok && pod.Status.Phase == corev1.PodRunning
}

// create makes a member's claims, and once they are there, its pod.
func (s *step) create(ordinal int) {
	missing := false
	for _, claim := range claimsOf(s.Set, ordinal) {
		if s.Claim(claim.Name) == nil {
			missing = true
			s.plan.Add(plan.Create(plan.PVCs, claim))
			s.plan.EventOf(claim, s.Set, corev1.EventTypeNormal, "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success", claim.Name, podName(s.Set, ordinal), s.Set.Name)
		}
	}
	if missing || s.PodTaken(podName(s.Set, ordinal)) {
		return
	}
	rev := s.update
	if s.Set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType && ordinal < start(s.Set)+partition(s.Set) {
		rev = s.current
	}
	template := &s.Set.Spec.Template
	if rev != s.update {
		old, err := history.Template(rev)
		if err != nil {
			s.plan.Event(s.Set, corev1.EventTypeWarning, "FailedCreate", "create Pod %s in StatefulSet %s failed error: %v", podName(s.Set, ordinal), s.Set.Name, err)
			return
		}
		template = old
	}
	pod := newPod(s.Set, template, ordinal, rev.Name)
	s.plan.Add(plan.Create(plan.Pods, pod))
	s.plan.EventOf(pod, s.Set, corev1.EventTypeNormal, "SuccessfulCreate", "create Pod %s in StatefulSet %s successful", pod.Name, s.Set.Name)
}

func (s *step) delete(pod *corev1.Pod) {
	s.plan.Add(plan.Delete(plan.Pods, pod))
	s.plan.EventOf(pod, s.Set, corev1.EventTypeNormal, "SuccessfulDelete", "delete Pod %s in StatefulSet %s successful", pod.Name, s.Set.Name)
}

// dismiss takes a condemned pod down; true if the others must wait for it. In order, a healthy pod does not go while one
// that would go later is in trouble.
func (s *step) dismiss(m member, later []member) bool {
	if m.pod.DeletionTimestamp != nil {
		return true
	}
	ordered := s.Set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	if ordered && !pods.Ready(m.pod) && slices.ContainsFunc(later, func(o member) bool { return !pods.Ready(o.pod) }) {
		return true
	}
	if s.handOver(m) {
		return true
	}
	s.delete(m.pod)
	return true
}

func partition(set *appsv1.StatefulSet) int {
	if ru := set.Spec.UpdateStrategy.RollingUpdate; ru != nil && ru.Partition != nil {
		return int(*ru.Partition)
	}
	return 0
}

// roll replaces outdated members from the highest number down, as long as no more than maxUnavailable are missed.
func (s *step) roll() {
	if s.Set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return
	}
	spare := maxUnavailable(s.Set) - (replicas(s.Set) - len(s.members))
	for _, m := range s.members {
		if m.pod == nil || m.pod.DeletionTimestamp != nil || !s.available(m.pod) {
			spare--
		}
	}
	lowest := start(s.Set) + partition(s.Set)
	for i := len(s.members) - 1; i >= 0 && s.members[i].ordinal >= lowest; i-- {
		pod := s.members[i].pod
		if pod == nil || pod.DeletionTimestamp != nil || pods.Finished(pod) || pod.Labels[appsv1.ControllerRevisionHashLabelKey] == s.update.Name {
			continue
		}
		healthy := s.available(pod)
		if healthy && spare <= 0 {
			return
		}
		// An outdated pod that is not available is missed already; replacing it costs nothing and may be its cure.
		s.delete(pod)
		if healthy {
			spare--
		}
		if spare <= 0 {
			return
		}
	}
}

func maxUnavailable(set *appsv1.StatefulSet) int {
	ru := set.Spec.UpdateStrategy.RollingUpdate
	if ru == nil || ru.MaxUnavailable == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(ru.MaxUnavailable, replicas(set), true)
	if err != nil {
		return 1
	}
	return max(1, n)
}

func podName(set *appsv1.StatefulSet, ordinal int) string {
	return set.Name + "-" + strconv.Itoa(ordinal)
}
