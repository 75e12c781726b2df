package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

func tracked(p *corev1.Pod) bool {
	return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer)
}

// Untrack removes the finalizer with which a pod waits to be counted.
func Untrack(p *corev1.Pod) plan.Write {
	var keep []string
	for _, f := range p.Finalizers {
		if f != batchv1.JobTrackingFinalizer {
			keep = append(keep, f)
		}
	}
	return plan.MergePatch(plan.Pods, p, owner.MetaPatch(p, map[string]any{"finalizers": keep}))
}

// untrackAll lets the pods of a finished Job go.
func (s *step) untrackAll() {
	for _, p := range s.pods {
		if tracked(p) {
			s.plan.Add(Untrack(p))
		}
	}
}

// endedBadly reports whether a pod counts as failed. One that is being deleted does at once, unless its replacement waits
// for its end.
func (s *step) endedBadly(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodFailed {
		return true
	}
	return p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded && !s.replacesOnlyFailed()
}

// count moves every pod that ended one step on: unnoted → noted → untracked → counted.
func (s *step) count() {
	noted := s.status.UncountedTerminatedPods
	if noted == nil {
		noted = &batchv1.UncountedTerminatedPods{}
	}
	byUID := map[types.UID]*corev1.Pod{}
	for _, p := range s.pods {
		byUID[p.UID] = p
	}
	settle := func(uids []types.UID, total *int32) []types.UID {
		var keep []types.UID
		for _, uid := range uids {
			p := byUID[uid]
			if p == nil || !tracked(p) {
				*total++
				continue
			}
			s.plan.Add(Untrack(p))
			keep = append(keep, uid)
		}
		return keep
	}
	before := slices.Concat(noted.Succeeded, noted.Failed)
	next := batchv1.UncountedTerminatedPods{Failed: settle(noted.Failed, &s.status.Failed), Succeeded: settle(noted.Succeeded, &s.status.Succeeded)}
	room := Burst - len(next.Failed) - len(next.Succeeded)
	for _, p := range s.pods {
		if !tracked(p) || slices.Contains(before, p.UID) || room == 0 {
			continue
		}
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			room -= s.noteSuccess(p, &next)
		case s.endedBadly(p):
			room -= s.noteFailure(p, &next)
		}
	}
	s.status.UncountedTerminatedPods = &next
}

// noteSuccess returns how much room the note takes.
func (s *step) noteSuccess(p *corev1.Pod, next *batchv1.UncountedTerminatedPods) int {
	if !s.indexed() {
		next.Succeeded = append(next.Succeeded, p.UID)
		return 1
	}
	i := indexOf(p)
	switch {
	case parseIndexes(s.Job.Status.CompletedIndexes).has(i) || i < 0 || s.Job.Spec.Completions != nil && i >= int(*s.Job.Spec.Completions):
		s.plan.Add(Untrack(p)) // Noted in the API already, or of no meaning.
	default:
		s.completed.add(i)
	}
	return 0
}

func (s *step) noteFailure(p *corev1.Pod, next *batchv1.UncountedTerminatedPods) int {
	if s.ignored(p) {
		s.plan.Add(Untrack(p))
		return 0
	}
	if s.indexed() && s.Job.Spec.BackoffLimitPerIndex != nil && !s.completed.has(indexOf(p)) && s.indexIsLost(p) {
		s.failed.add(indexOf(p))
	}
	next.Failed = append(next.Failed, p.UID)
	return 1
}

// succeeded is how many completions there are, counted or just seen.
func (s *step) succeeded() int32 {
	if s.indexed() {
		return int32(s.completed.total())
	}
	return s.status.Succeeded + int32(len(s.status.UncountedTerminatedPods.Succeeded))
}

func (s *step) failures() int32 {
	return s.status.Failed + int32(len(s.status.UncountedTerminatedPods.Failed))
}
