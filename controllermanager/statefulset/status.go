package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// status writes what was seen, if it differs from what is written.
func (s *step) status() {
	set := s.Set
	want := appsv1.StatefulSetStatus{
		ObservedGeneration: s.observed, CollisionCount: s.collisions, Conditions: set.Status.Conditions,
		CurrentRevision: set.Status.CurrentRevision, UpdateRevision: set.Status.UpdateRevision,
	}
	if s.update != nil && s.current != nil {
		want.CurrentRevision, want.UpdateRevision = s.current.Name, s.update.Name
	}
	for _, m := range append(append([]member(nil), s.members...), s.condemned...) {
		if m.pod == nil {
			continue
		}
		want.Replicas++
		if pods.Ready(m.pod) && m.pod.DeletionTimestamp == nil {
			want.ReadyReplicas++
			if s.available(m.pod) {
				want.AvailableReplicas++
			}
		}
		if m.pod.DeletionTimestamp != nil {
			continue
		}
		switch m.pod.Labels[appsv1.ControllerRevisionHashLabelKey] {
		case want.UpdateRevision:
			want.UpdatedReplicas++
			if want.CurrentRevision == want.UpdateRevision {
				want.CurrentReplicas++
			}
		case want.CurrentRevision:
			want.CurrentReplicas++
		}
	}
	rolling := set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType
	if rolling && want.UpdatedReplicas == want.Replicas && want.ReadyReplicas == want.Replicas && int(want.Replicas) == replicas(set) && partition(set) == 0 {
		// The rollout is over; from now on its revision is the current one.
		want.CurrentRevision, want.CurrentReplicas = want.UpdateRevision, want.UpdatedReplicas
	}
	if apiequality.Semantic.DeepEqual(want, set.Status) {
		return
	}
	next := set.DeepCopy()
	next.Status = want
	s.plan.Add(plan.UpdateStatus(plan.StatefulSets, next))
}
