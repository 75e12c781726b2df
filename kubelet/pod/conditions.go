package pod

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// conditions are the pod's conditions: those that the kubelet owns, computed, then those of others, kept.
func (s *stepper) conditions(st *corev1.PodStatus) []corev1.PodCondition {
	ready := s.containersReady(st)
	own := []corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: truth(s.in.Observed.Sandbox.State == SandboxReady)},
		s.initializedCondition(st),
		s.readyCondition(st, ready),
		ready,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}
	own = append(own, s.resizeConditions()...)
	if c, ok := s.restartingAllCondition(st); ok {
		own = append(own, c)
	}
	if t := s.memory.terminating; t != nil && t.condition != nil {
		own = append(own, *t.condition)
	}
	for i := range own {
		s.stamp(&own[i])
	}
	for _, c := range s.in.Pod.Status.Conditions {
		if find(own, c.Type) == nil && !ownedType(c.Type) {
			own = append(own, c)
		}
	}
	return own
}

// ownedType says whether a condition that is not computed now is to vanish.
func ownedType(t corev1.PodConditionType) bool {
	return t == corev1.PodResizePending || t == corev1.PodResizeInProgress || t == corev1.AllContainersRestarting
}

// stamp fills in a condition's generation and the time of its last transition.
func (s *stepper) stamp(c *corev1.PodCondition) {
	c.ObservedGeneration = s.in.Pod.Generation
	c.LastTransitionTime = apiTime(s.now)
	if old := find(s.in.Pod.Status.Conditions, c.Type); old != nil && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
		c.LastTransitionTime = old.LastTransitionTime
	}
}

func (s *stepper) initializedCondition(st *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if st.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	if s.initialized() || s.everInitialized() {
		return c
	}
	c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
	var waiting []string
	for _, i := range s.ofKind(initial, sidecar) {
		if i.kind == sidecar && !i.started() || i.kind == initial && !s.initDone(i) {
			waiting = append(waiting, i.spec.Name)
		}
	}
	c.Message = fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(waiting, " "))
	return c
}

// everInitialized says whether the pod, now on its way down, has been initialized.
func (s *stepper) everInitialized() bool {
	old := find(s.in.Pod.Status.Conditions, corev1.PodInitialized)
	return s.memory.terminating != nil && old != nil && old.Status == corev1.ConditionTrue
}

func (s *stepper) containersReady(st *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	switch st.Phase {
	case corev1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case corev1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for _, k := range s.ofKind(sidecar, regular) {
		if !k.ready() {
			unready = append(unready, k.spec.Name)
		}
	}
	if len(unready) == 0 {
		c.Status = corev1.ConditionTrue
		return c
	}
	c.Reason = "ContainersNotReady"
	c.Message = fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	return c
}

// readyCondition is ContainersReady and the pod's readiness gates (KEP-580).
func (s *stepper) readyCondition(st *corev1.PodStatus, containers corev1.PodCondition) corev1.PodCondition {
	c := containers
	c.Type = corev1.PodReady
	if c.Status != corev1.ConditionTrue {
		return c
	}
	var messages []string
	for _, g := range s.spec.ReadinessGates {
		gate := find(s.in.Pod.Status.Conditions, g.ConditionType)
		switch {
		case gate == nil:
			messages = append(messages, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		case gate.Status != corev1.ConditionTrue:
			messages = append(messages, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", g.ConditionType, gate.Status))
		}
	}
	if len(messages) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(messages, ", ")
	}
	return c
}

func truth(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

func find(all []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range all {
		if all[i].Type == t {
			return &all[i]
		}
	}
	return nil
}
