package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Step decides what to do for a pod now and what to say of it.
func Step(in Input) Plan {
	s := newStepper(in)
	if terminalPhase(in.Pod.Status.Phase) {
		// The API has the pod's last word; what may be left of it here is removed without rewriting history.
		s.terminate()
		s.plan.Status = s.lastWord()
		return s.plan
	}
	s.decideRestartAll()
	s.decideTermination()
	if s.memory.terminating != nil {
		s.terminate()
	} else {
		s.run()
	}
	s.plan.Status = s.status()
	return s.plan
}

// lastWord is the status of a pod whose phase is final: only its sandbox can still change.
func (s *stepper) lastWord() corev1.PodStatus {
	st := *s.in.Pod.Status.DeepCopy()
	c := find(st.Conditions, corev1.PodReadyToStartContainers)
	if c != nil && s.in.Observed.Sandbox.State == SandboxAbsent && c.Status == corev1.ConditionTrue {
		c.Status, c.LastTransitionTime = corev1.ConditionFalse, apiTime(s.now)
	}
	return st
}

// stepper is the scratch space of one step.
type stepper struct {
	in         Input
	spec       *corev1.PodSpec
	now        time.Time
	memory     Memory
	containers []*container
	plan       Plan
}

func newStepper(in Input) *stepper {
	s := &stepper{in: in, spec: &in.Pod.Spec, now: in.Now, memory: in.Memory.clone()}
	s.containers = readContainers(in)
	s.plan.Memory = s.memory
	return s
}

// act plans an action unless it is in flight already, and says whether it did.
func (s *stepper) act(a Action) bool {
	if s.in.Observed.InFlight[a.Key()] {
		return false
	}
	s.plan.Actions = append(s.plan.Actions, a)
	return true
}

// flying says whether an action is in flight.
func (s *stepper) flying(a Action) bool { return s.in.Observed.InFlight[a.Key()] }

func (s *stepper) event(kind, reason, container, message string) {
	s.plan.Events = append(s.plan.Events, Event{Type: kind, Reason: reason, Message: message, Container: container})
}

// wakeAt asks for a step at t, at the latest.
func (s *stepper) wakeAt(t time.Time) {
	if s.plan.Wake.IsZero() || t.Before(s.plan.Wake) {
		s.plan.Wake = t
	}
}

// due says whether t has come, and asks to be woken then if not.
func (s *stepper) due(t time.Time) bool {
	if s.now.Before(t) {
		s.wakeAt(t)
		return false
	}
	return true
}

// of returns what is remembered of a container; keep stores it.
func (s *stepper) of(c *container) containerMemory      { return s.memory.containers[c.spec.Name] }
func (s *stepper) keep(c *container, m containerMemory) { s.memory.containers[c.spec.Name] = m }
func (s *stepper) ofKind(kinds ...kind) (found []*container) {
	for _, c := range s.containers {
		for _, k := range kinds {
			if c.kind == k {
				found = append(found, c)
			}
		}
	}
	return found
}

func terminalPhase(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }
