package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// run moves a pod that is to run one step on.
func (s *stepper) run() {
	next := s.startable()
	wanted := len(next) > 0
	sandbox, volumes := s.ensureSandbox(wanted), s.ensureVolumes(wanted)
	for _, c := range next {
		s.start(c, sandbox && volumes)
	}
	for _, c := range s.containers {
		s.tend(c)
	}
	s.resize()
	s.prune()
}

// ensureSandbox brings the sandbox up if anything is to be started in it, and says whether it stands.
func (s *stepper) ensureSandbox(wanted bool) bool {
	switch b := &s.in.Observed.Sandbox; b.State {
	case SandboxReady:
		return !s.flying(Action{Op: TeardownSandbox})
	case SandboxDead:
		if !s.flying(Action{Op: SetupSandbox}) {
			s.act(Action{Op: TeardownSandbox})
		}
	case SandboxAbsent:
		if wanted && !s.flying(Action{Op: TeardownSandbox}) && s.retryDue(b.Failure) {
			s.act(Action{Op: SetupSandbox})
		}
	}
	return false
}

// ensureVolumes mounts the volumes if anything is to be started, and says whether they are mounted.
func (s *stepper) ensureVolumes(wanted bool) bool {
	v := &s.in.Observed.Volumes
	if v.Mounted {
		return !s.flying(Action{Op: UnmountVolumes})
	}
	if wanted && !s.flying(Action{Op: UnmountVolumes}) && s.retryDue(v.Failure) {
		s.act(Action{Op: MountVolumes})
	}
	return false
}

// startable returns the containers that have no live instance and whose turn has come, back-off left aside.
func (s *stepper) startable() []*container {
	var next []*container
	if s.memory.restart.gathering {
		return nil
	}
	for _, c := range s.ofKind(ephemeral) {
		if c.latest == nil && s.in.Observed.Sandbox.State == SandboxReady {
			next = append(next, c)
		}
	}
	inits, blocked := s.startableInits()
	next = append(next, inits...)
	if blocked {
		return next
	}
	for _, c := range s.ofKind(regular) {
		if c.latest == nil || c.exited() && s.restarts(c) {
			next = append(next, c)
		}
	}
	return next
}

// startableInits returns the init containers whose turn has come, and whether the regular containers must still wait.
func (s *stepper) startableInits() (next []*container, blocked bool) {
	past := s.pastInit()
	for _, c := range s.ofKind(initial, sidecar) {
		switch {
		case c.kind == sidecar:
			if c.latest == nil || c.exited() {
				next = append(next, c)
			}
			if !past && !c.started() {
				return next, true
			}
		case past || s.initDone(c):
		case c.live() || !s.rerunsInit(c):
			return next, true
		default:
			return append(next, c), true
		}
	}
	return next, false
}

// initDone says whether a regular init container has succeeded in this sandbox.
func (s *stepper) initDone(c *container) bool {
	return c.exitedIn(s.in.Observed.Sandbox.ID) && s.in.Observed.Sandbox.State != SandboxAbsent && c.latest.ExitCode == 0
}

// rerunsInit says whether a regular init container that is not done may be started (again).
func (s *stepper) rerunsInit(c *container) bool {
	return c.latest == nil || c.latest.ExitCode == 0 || s.restarts(c)
}

// initFailed returns the init container whose failure is the pod's, if there is one.
func (s *stepper) initFailed() *container {
	if s.pastInit() {
		return nil
	}
	for _, c := range s.ofKind(initial) {
		if c.exited() && !s.initDone(c) && !s.rerunsInit(c) {
			return c
		}
	}
	return nil
}

// pastInit says whether initialization is over for this sandbox: a regular container has been started in it.
func (s *stepper) pastInit() bool {
	for _, c := range s.ofKind(regular) {
		if c.latest != nil && c.latest.Sandbox == s.in.Observed.Sandbox.ID && s.in.Observed.Sandbox.State != SandboxAbsent {
			return true
		}
	}
	return false
}

// initialized says whether every init container has done its part.
func (s *stepper) initialized() bool {
	if s.pastInit() {
		return true
	}
	for _, c := range s.ofKind(initial, sidecar) {
		if c.kind == sidecar && !c.started() || c.kind == initial && !s.initDone(c) {
			return false
		}
	}
	return true
}

// start moves a container towards its next instance.
func (s *stepper) start(c *container, grounded bool) {
	if c.exited() && s.backingOff(c) > 0 {
		s.announceBackOff(c)
		return
	}
	attempt := c.nextAttempt()
	begin := Action{Op: StartContainer, Container: c.spec.Name, Attempt: attempt}
	if s.flying(begin) {
		return
	}
	if r, ok := s.in.Observed.Refused[c.spec.Name]; ok && !s.retryDue(&r) {
		return
	}
	if !s.imageReady(c, attempt) || !grounded {
		return
	}
	if s.act(begin) && c.exited() {
		s.noteRestart(c)
	}
}

// imageReady says whether the container's image is there for the attempt, and sees to it otherwise.
func (s *stepper) imageReady(c *container, attempt int) bool {
	pull := Action{Op: EnsureImage, Container: c.spec.Name, Attempt: attempt}
	if s.flying(pull) {
		return false
	}
	img, ok := s.in.Observed.Images[c.spec.Name]
	if ok && img.Attempt == attempt && img.ID != "" {
		return true
	}
	if ok && img.Failure != nil && !s.due(img.Failure.At.Add(pullDelay(img.Failure.Count))) {
		s.due(img.Failure.At.Add(errorShown))
		return false
	}
	s.act(pull)
	return false
}

// tend looks after a live container: its postStart hook, its probes, and whether it must be stopped.
func (s *stepper) tend(c *container) {
	if !c.live() {
		return
	}
	if s.memory.restart.gathering && c.kind != ephemeral {
		s.killNow(c)
		return
	}
	if c.latest.State == Running && c.hasPostStart() && c.latest.PostStart == HookPending {
		s.act(Action{Op: RunPostStart, Container: c.spec.Name, ID: c.latest.ID})
	}
	if reason, ok := s.mustStop(c); ok {
		s.stop(c, reason.grace, reason.message, true)
		if m := s.of(c); reason.restart && !m.stop.restart {
			m.stop.restart = true
			s.keep(c, m)
		}
	} else if s.of(c).stop.id == c.latest.ID {
		s.stop(c, s.of(c).stop.grace, "", true) // once begun, a stop is carried through
	}
	s.probe(c)
}

// probe lists the probes that a live container needs now.
func (s *stepper) probe(c *container) {
	if !c.up() || c.kind == ephemeral || c.kind == initial {
		return
	}
	add := func(k ProbeKind, p *corev1.Probe) {
		if p != nil {
			s.plan.Probes = append(s.plan.Probes,
				Probe{Kind: k, Container: c.spec.Name, ID: c.latest.ID, Started: c.latest.StartedAt, Spec: p})
		}
	}
	stopping := s.of(c).stop.id == c.latest.ID || s.memory.terminating != nil
	switch {
	case !c.started():
		if !stopping {
			add(Startup, c.spec.StartupProbe)
		}
	default:
		if !stopping {
			add(Liveness, c.spec.LivenessProbe)
		}
		add(Readiness, c.spec.ReadinessProbe)
	}
}

// prune removes dead instances but the newest two of a container: the one whose state is shown, and the one whose log
// "previous" means.
func (s *stepper) prune() {
	for _, c := range s.containers {
		for _, old := range c.surplus {
			if old.State == Exited && old.Sandbox != "" {
				s.act(Action{Op: RemoveContainer, Container: old.Name, ID: old.ID, Attempt: old.Attempt})
			}
		}
	}
}

// stopReason is why a container is stopped while its pod goes on.
type stopReason struct {
	grace   time.Duration
	message string
	restart bool
}

// mustStop says whether, and why, a live container must be stopped though its pod goes on.
func (s *stepper) mustStop(c *container) (stopReason, bool) {
	grace := seconds(s.specGrace())
	switch {
	case c.changed():
		return stopReason{grace, fmt.Sprintf("Container %s definition changed", c.spec.Name), true}, true
	case s.resizeRestarts(c):
		return stopReason{grace, fmt.Sprintf("Container %s resize requires restart", c.spec.Name), true}, true
	case c.latest.PostStart == HookFailed && c.hasPostStart():
		return stopReason{grace, "FailedPostStartHook", false}, true
	case c.latest.Startup == Failed && c.spec.StartupProbe != nil:
		return stopReason{probeGrace(c.spec.StartupProbe, grace),
			fmt.Sprintf("Container %s failed startup probe", c.spec.Name), false}, true
	case c.latest.Liveness == Failed && c.spec.LivenessProbe != nil:
		return stopReason{probeGrace(c.spec.LivenessProbe, grace),
			fmt.Sprintf("Container %s failed liveness probe", c.spec.Name), false}, true
	}
	return stopReason{}, false
}

func probeGrace(p *corev1.Probe, otherwise time.Duration) time.Duration {
	if p.TerminationGracePeriodSeconds != nil {
		return seconds(*p.TerminationGracePeriodSeconds)
	}
	return otherwise
}
