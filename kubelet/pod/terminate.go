package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// graceMin is the shortest time between a container's stop signal and SIGKILL.
	graceMin = 2 * time.Second
	// graceDefault is the API's default for terminationGracePeriodSeconds.
	graceDefault = 30
	// killAgain is how often SIGKILL is repeated to a process that the kernel has yet to let go of.
	killAgain = 10 * time.Second
)

// specGrace is the pod's own termination grace in seconds.
func (s *stepper) specGrace() int64 {
	if g := s.spec.TerminationGracePeriodSeconds; g != nil {
		return *g
	}
	return graceDefault
}

// decideTermination ends the pod if there is cause. A decision is never taken back; a later one can shorten the grace.
func (s *stepper) decideTermination() {
	pod := s.in.Pod
	grace := s.specGrace()
	deleted := s.in.Gone || pod.DeletionTimestamp != nil
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		grace = *pod.DeletionGracePeriodSeconds
	}
	switch over := s.pastDeadline(); {
	case deleted:
		s.end(termination{grace: seconds(grace)})
	case s.in.Stop != nil:
		stop := s.in.Stop
		s.end(termination{grace: min(stop.Grace, seconds(grace)), reason: stop.Reason, message: stop.Message, failed: true,
			condition: stop.Condition})
	case s.initFailed() != nil || s.complete():
		s.end(termination{grace: seconds(grace)})
	case over:
		s.end(termination{grace: seconds(grace), reason: "DeadlineExceeded", failed: true,
			message: "Pod was active on the node longer than the specified deadline"})
	}
}

// end notes the pod's end.
func (s *stepper) end(t termination) {
	old := s.memory.terminating
	t.since = s.now
	if old != nil {
		// Invariant: the deadline, since + grace, never moves away.
		deadline := old.since.Add(old.grace)
		t.grace = min(t.grace, max(0, deadline.Sub(s.now)))
		if old.reason != "" || old.failed {
			t.reason, t.message, t.failed, t.condition = old.reason, old.message, old.failed, old.condition
		}
		if !s.now.Add(t.grace).Before(deadline) {
			return
		}
	} else if t.reason == "DeadlineExceeded" {
		s.event(corev1.EventTypeNormal, "DeadlineExceeded", "", t.message)
	}
	s.memory.terminating = &t
	s.plan.Memory = s.memory
}

// pastDeadline says whether the pod's activeDeadlineSeconds have passed.
func (s *stepper) pastDeadline() bool {
	d, start := s.spec.ActiveDeadlineSeconds, s.in.Pod.Status.StartTime
	return d != nil && start != nil && s.due(start.Add(seconds(*d)))
}

// complete says whether all regular containers have ended for good, which ends the pod's sidecars too.
func (s *stepper) complete() bool {
	for _, c := range s.ofKind(regular) {
		if !c.exited() || s.restarts(c) || s.flying(Action{Op: StartContainer, Container: c.spec.Name}) {
			return false
		}
	}
	return true
}

// terminate takes the pod down one step further: containers, then what they stood on.
func (s *stepper) terminate() {
	s.plan.Terminating = true
	if s.stopAll() || s.starting() {
		return
	}
	if s.in.Observed.Volumes.Mounted && !s.flying(Action{Op: MountVolumes}) && s.retryDue(s.in.Observed.Volumes.Failure) {
		s.act(Action{Op: UnmountVolumes})
	}
	if b := s.in.Observed.Sandbox; b.State != SandboxAbsent && !s.flying(Action{Op: SetupSandbox}) && s.retryDue(b.Failure) {
		s.act(Action{Op: TeardownSandbox})
	}
	s.plan.Finished = !s.in.Observed.Volumes.Mounted && s.in.Observed.Sandbox.State == SandboxAbsent &&
		len(s.in.Observed.InFlight) == 0 && len(s.plan.Actions) == 0
}

// starting says whether an instance may yet appear.
func (s *stepper) starting() bool {
	for k := range s.in.Observed.InFlight {
		if k.Op == StartContainer || k.Op == SetupSandbox || k.Op == MountVolumes {
			return true
		}
	}
	return false
}

// stopAll stops all live containers, regular ones first, then sidecars from the last to the first, and says whether
// any is left.
func (s *stepper) stopAll() (left bool) {
	grace := s.stopGrace()
	for _, c := range s.ofKind(regular, ephemeral, initial) {
		if c.live() {
			left = true
			s.stop(c, grace, "", true)
			s.probe(c)
		}
	}
	sidecars := s.ofKind(sidecar)
	for i := len(sidecars) - 1; i >= 0; i-- {
		if c := sidecars[i]; c.live() {
			s.stop(c, grace, "", !left)
			s.probe(c)
			left = true
		}
	}
	return left
}

// stopGrace is what is left of the grace that containers get when the pod ends.
func (s *stepper) stopGrace() time.Duration {
	if t := s.memory.terminating; t != nil {
		return max(0, t.since.Add(t.grace).Sub(s.now))
	}
	return seconds(s.specGrace())
}

// stop takes a live instance one step nearer to its end: preStop hook, stop signal (when it is its turn), SIGKILL.
func (s *stepper) stop(c *container, grace time.Duration, message string, turn bool) {
	m := s.of(c)
	defer func() { s.keep(c, m) }()
	st := &m.stop
	if st.id != c.latest.ID {
		*st = stop{id: c.latest.ID, since: s.now, grace: grace}
		s.event(corev1.EventTypeNormal, "Killing", c.spec.Name, s.killingMessage(c, message))
	}
	if s.now.Add(grace).Before(st.since.Add(st.grace)) {
		st.grace = s.now.Add(grace).Sub(st.since)
	}
	deadline := st.since.Add(st.grace)
	if s.preStopping(c, st, deadline) || !turn && !s.due(deadline) {
		return
	}
	if st.termed.IsZero() && c.latest.State == Running {
		st.termed = s.now
		s.act(Action{Op: SignalStop, Container: c.spec.Name, ID: c.latest.ID})
	}
	s.kill(c, st, deadline)
}

// preStopping says whether the instance's preStop hook still keeps its stop signal back, and has it run if it must.
func (s *stepper) preStopping(c *container, st *stop, deadline time.Time) bool {
	if !c.hasPreStop() || c.latest.State != Running || c.latest.PreStop != HookPending || !st.termed.IsZero() {
		return false
	}
	if s.due(deadline) {
		return false
	}
	if !st.hook {
		st.hook = true
		s.act(Action{Op: RunPreStop, Container: c.spec.Name, ID: c.latest.ID})
	}
	return true
}

// kill sends SIGKILL once the grace is over, and again as long as the process is there.
func (s *stepper) kill(c *container, st *stop, deadline time.Time) {
	if c.latest.State == Running {
		if least := st.termed.Add(graceMin); deadline.Before(least) {
			deadline = least
		}
		if !s.due(deadline) {
			return
		}
	}
	if st.killed.IsZero() || s.due(st.killed.Add(killAgain)) {
		st.killed = s.now
		s.act(Action{Op: SignalKill, Container: c.spec.Name, ID: c.latest.ID})
		s.wakeAt(s.now.Add(killAgain))
	}
}

// killingMessage is the text of the Killing event.
func (s *stepper) killingMessage(c *container, message string) string {
	if message == "" {
		return "Stopping container " + c.spec.Name
	}
	exited := *c
	dead := *c.latest
	dead.State, dead.ExitCode = Exited, exitUnknown
	exited.latest = &dead
	if message != "FailedPostStartHook" && s.restarts(&exited) {
		return fmt.Sprintf("%s, will be restarted", message)
	}
	return message
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
