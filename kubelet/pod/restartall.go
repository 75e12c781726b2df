package pod

import corev1 "k8s.io/api/core/v1"

// restartingAll is the memory of a restart of all of a pod's containers in place (KEP-5532): one container's exit, by its own
// rule, starts them all anew, init containers first, in the sandbox and with the volumes that they have.
type restartingAll struct {
	// trigger is the instance whose exit asked for it.
	trigger string
	// old are the newest instances of the life before, by id. The map is never changed, only replaced.
	old map[string]bool
	// gathering says that instances of that life may still be alive, or coming.
	gathering bool
}

// decideRestartAll notes an exit that asks for all containers to be restarted, and marks the instances of the life before.
func (s *stepper) decideRestartAll() {
	if s.memory.terminating != nil || s.in.Gone || s.in.Pod.DeletionTimestamp != nil || s.in.Stop != nil {
		return
	}
	r := &s.memory.restart
	for _, c := range s.ofKind(initial, sidecar, regular) {
		switch {
		case c.exited() && c.latest.ID != r.trigger && ruleAction(c.spec, c.latest) == corev1.ContainerRestartRuleActionRestartAllContainers:
			s.restartAll(c, c.latest.ID)
		case r.trigger == "" && s.halfRestarted(c):
			s.restartAll(c, c.previous.ID)
		}
	}
	if r.trigger == "" {
		return
	}
	if r.gathering {
		r.old = map[string]bool{}
		for _, c := range s.ofKind(initial, sidecar, regular) {
			if c.latest != nil {
				r.old[c.latest.ID] = true
			}
		}
		r.gathering = s.anyStanding() || s.starting()
	}
	for _, c := range s.ofKind(initial, sidecar, regular) {
		if c.latest != nil && r.old[c.latest.ID] {
			c.retire()
		}
	}
	s.plan.Memory = s.memory
}

func (s *stepper) restartAll(c *container, trigger string) {
	s.memory.restart = restartingAll{trigger: trigger, gathering: true}
	s.event(corev1.EventTypeNormal, "RestartAllContainers", c.spec.Name, "Container "+c.spec.Name+" exited; all containers of the pod are restarted")
}

// halfRestarted says whether a restart of all containers was under way when what was remembered of it was lost: the one that
// asked for it has been started again, another has not.
func (s *stepper) halfRestarted(c *container) bool {
	if c.previous == nil || ruleAction(c.spec, c.previous) != corev1.ContainerRestartRuleActionRestartAllContainers {
		return false
	}
	for _, other := range s.ofKind(initial, sidecar, regular) {
		if other.latest != nil && other.latest.CreatedAt.Before(c.previous.FinishedAt) {
			return true
		}
	}
	return false
}

// anyStanding says whether a container other than an ephemeral one has a live instance.
func (s *stepper) anyStanding() bool {
	for _, c := range s.ofKind(initial, sidecar, regular) {
		if c.live() {
			return true
		}
	}
	return false
}

// retire marks the newest instance as one of the life before: it counts for none of this sandbox's.
func (c *container) retire() {
	old := *c.latest
	old.Sandbox = ""
	c.latest, c.retired = &old, true
}

// restartingAllCondition tells whether a restart of all containers is under way: until nothing of the life before is left. Pods without
// such a rule have no such condition.
func (s *stepper) restartingAllCondition(st *corev1.PodStatus) (c corev1.PodCondition, ok bool) {
	for _, k := range s.containers {
		for _, r := range k.spec.RestartPolicyRules {
			ok = ok || r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		}
	}
	c = corev1.PodCondition{Type: corev1.AllContainersRestarting, Status: corev1.ConditionFalse}
	switch {
	case st.Phase == corev1.PodSucceeded:
		c.Reason = "PodCompleted"
	case st.Phase == corev1.PodFailed:
		c.Reason = "PodFailed"
	case s.memory.restart.gathering && s.memory.terminating == nil:
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return c, ok
}

// killNow ends an instance without hook or grace: its pod is to start anew as fast as it can.
func (s *stepper) killNow(c *container) {
	m := s.of(c)
	if m.stop.id != c.latest.ID {
		m.stop = stop{id: c.latest.ID, since: s.now}
		s.event(corev1.EventTypeNormal, "Killing", c.spec.Name, "Stopping container "+c.spec.Name)
	}
	if m.stop.termed.IsZero() {
		m.stop.termed = s.now.Add(-graceMin)
	}
	s.kill(c, &m.stop, s.now)
	s.keep(c, m)
}
