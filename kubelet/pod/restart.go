package pod

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// backOffFirst and backOffMax bound the delay before a failing container or pull is tried again: 10 s doubling to
	// 5 min, as the pod lifecycle documentation says.
	backOffFirst = 10 * time.Second
	backOffMax   = 5 * time.Minute
	// backOffReset is how long a container must have run for its back-off to start anew.
	backOffReset = 10 * time.Minute
	// errorShown is how long an error stands in a container's status before the back-off from it takes its place, so
	// that a watcher sees both.
	errorShown = 2 * time.Second
	// refusedRetry is how long after a failed attempt to make an instance, or to set up the sandbox or the volumes, it
	// is tried again. The usual causes (a ConfigMap that is not there yet) are watched, and end the wait.
	refusedRetry = 10 * time.Second
)

// policy is the restart policy in force for the container.
func (s *stepper) policy(c *container) corev1.RestartPolicy {
	switch c.kind {
	case sidecar:
		return corev1.RestartPolicyAlways
	case ephemeral:
		return corev1.RestartPolicyNever
	}
	p := s.spec.RestartPolicy
	if c.spec.RestartPolicy != nil {
		p = corev1.RestartPolicy(*c.spec.RestartPolicy)
	}
	if c.kind == initial && p == corev1.RestartPolicyAlways {
		return corev1.RestartPolicyOnFailure
	}
	if p == "" {
		return corev1.RestartPolicyAlways
	}
	return p
}

// restarts says whether the container, whose newest instance is dead, is to be started again.
func (s *stepper) restarts(c *container) bool {
	if m := s.of(c).stop; c.retired || m.id == c.latest.ID && m.restart {
		return true
	}
	if c.kind != sidecar && c.kind != ephemeral && ruleAction(c.spec, c.latest) != "" {
		return true
	}
	switch s.policy(c) {
	case corev1.RestartPolicyAlways:
		return true
	case corev1.RestartPolicyOnFailure:
		return c.latest.ExitCode != 0
	}
	return false
}

// ruleAction is what the first of the container's own restart rules (KEP-5307) that matches an exit asks for; empty if none does.
func ruleAction(c *corev1.Container, exit *Container) corev1.ContainerRestartRuleAction {
	for _, r := range c.RestartPolicyRules {
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, int32(exit.ExitCode))
		if in == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return r.Action
		}
	}
	return ""
}

// backingOff returns the delay that the container's next start still waits for, 0 if it may start now.
func (s *stepper) backingOff(c *container) time.Duration {
	if !c.exited() || c.kind == initial && c.latest.ExitCode == 0 {
		return 0
	}
	m := s.of(c)
	if s.innocent(c) || m.stop.id == c.latest.ID && m.stop.restart || m.backOff == 0 || s.forgiven(c, m) {
		return 0
	}
	if s.due(c.ended().Add(m.backOff)) {
		return 0
	}
	return m.backOff
}

// innocent says whether the container is started again only because another asked for all to be: it is not held back for that.
func (s *stepper) innocent(c *container) bool {
	return c.retired && c.latest.ID != s.memory.restart.trigger
}

// forgiven says whether the container's back-off starts anew: the last instance ran long enough, or it is not what is started next.
func (s *stepper) forgiven(c *container, m containerMemory) bool {
	return c.changed() || !c.latest.StartedAt.IsZero() && c.ended().Sub(c.latest.StartedAt) >= backOffReset
}

// changed says whether the newest instance is of another image than the container now is.
func (c *container) changed() bool { return c.latest.Image != "" && c.latest.Image != c.spec.Image }

// noteRestart advances the back-off as an instance that follows a dead one is started.
func (s *stepper) noteRestart(c *container) {
	m := s.of(c)
	switch {
	case s.innocent(c):
	case m.backOff == 0 || s.forgiven(c, m):
		m.backOff = backOffFirst
	default:
		m.backOff = min(2*m.backOff, backOffMax)
	}
	m.restarted = s.now
	m.stop = stop{}
	s.keep(c, m)
}

// announceBackOff records one event for each time that a container is held back.
func (s *stepper) announceBackOff(c *container) {
	m := s.of(c)
	if m.announced == c.latest.ID {
		return
	}
	m.announced = c.latest.ID
	s.keep(c, m)
	s.event(corev1.EventTypeWarning, "BackOff", c.spec.Name,
		fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.spec.Name, s.fullName()))
}

// fullName is the pod as back-off messages name it.
func (s *stepper) fullName() string {
	p := s.in.Pod
	return fmt.Sprintf("%s_%s(%s)", p.Name, p.Namespace, p.UID)
}

// retryDue says whether something that failed may be tried again, at a fixed interval.
func (s *stepper) retryDue(f *Failure) bool { return f == nil || s.due(f.At.Add(refusedRetry)) }

// pullDelay is the delay after the n-th failed pull in a row.
func pullDelay(n int) time.Duration {
	d := backOffFirst
	for ; n > 1 && d < backOffMax; n-- {
		d *= 2
	}
	return min(d, backOffMax)
}
