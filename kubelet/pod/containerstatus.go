package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// containerStatus is what the API should say of one container.
func (s *stepper) containerStatus(c *container) corev1.ContainerStatus {
	started := c.started()
	st := corev1.ContainerStatus{Name: c.spec.Name, Image: c.spec.Image, Ready: c.ready(), Started: &started}
	if c.kind == initial {
		// A regular init container is ready once it has succeeded, and "started" while it runs.
		st.Ready = c.exited() && c.latest.ExitCode == 0 && (s.memory.terminating != nil || !s.toRestart(c))
	}
	if c.latest == nil {
		st.State.Waiting = s.waiting(c)
		return st
	}
	st.ImageID = c.latest.ImageRef
	st.ContainerID = idOf(c.latest)
	st.RestartCount = int32(c.latest.Attempt)
	if c.previous != nil {
		st.LastTerminationState.Terminated = terminated(c.previous)
	}
	switch {
	case c.up():
		st.State.Running = &corev1.ContainerStateRunning{StartedAt: apiTime(c.latest.StartedAt)}
	case c.live():
		st.State.Waiting = s.waiting(c)
	default:
		s.deadState(c, &st)
	}
	s.describe(c, &st)
	return st
}

// deadState fills in the state of a container whose newest instance is dead: terminated, or waiting to be started again.
func (s *stepper) deadState(c *container, st *corev1.ContainerStatus) {
	if w := s.heldBack(c); w != nil {
		st.State.Waiting = w
		st.LastTerminationState.Terminated = terminated(c.latest)
		return
	}
	st.State.Terminated = terminated(c.latest)
}

// heldBack says what keeps a dead container that is to be started again from it; nil if nothing does.
func (s *stepper) heldBack(c *container) *corev1.ContainerStateWaiting {
	if s.memory.terminating != nil || !s.toRestart(c) || s.beingStarted(c) {
		return nil
	}
	if w := s.refusal(c); w != nil {
		return w
	}
	if d := s.backingOff(c); d > 0 {
		if c.latest.Reason == startError && !s.due(c.ended().Add(errorShown)) {
			return &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: c.latest.Message}
		}
		return &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: fmt.Sprintf(
			"back-off %s restarting failed container=%s pod=%s", shortDuration(d), c.spec.Name, s.fullName())}
	}
	if s.in.Observed.Sandbox.State != SandboxReady || c.latest.Sandbox != s.in.Observed.Sandbox.ID {
		return s.defaultWaiting()
	}
	return nil
}

// beingStarted says whether the container's next instance is on its way.
func (s *stepper) beingStarted(c *container) bool {
	begin := Action{Op: StartContainer, Container: c.spec.Name}
	for _, a := range s.plan.Actions {
		if a.Key() == begin.Key() {
			return true
		}
	}
	return s.flying(begin)
}

// toRestart says whether a dead container will get another instance.
func (s *stepper) toRestart(c *container) bool {
	switch c.kind {
	case initial:
		return !s.pastInit() && !s.initDone(c) && s.rerunsInit(c)
	case ephemeral:
		return false
	}
	return s.restarts(c)
}

// startError is the reason of an instance whose process could not be started.
const startError = "StartError"

// waiting says what a container without a running instance waits for.
func (s *stepper) waiting(c *container) *corev1.ContainerStateWaiting {
	if w := s.refusal(c); w != nil && !c.live() {
		return w
	}
	return s.defaultWaiting()
}

// defaultWaiting is the state of a container on its ordinary way up.
func (s *stepper) defaultWaiting() *corev1.ContainerStateWaiting {
	if len(s.spec.InitContainers) > 0 {
		return &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
	}
	return &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
}

// refusal is the error that the container's next instance has met so far, nil if none.
func (s *stepper) refusal(c *container) *corev1.ContainerStateWaiting {
	if r, ok := s.in.Observed.Refused[c.spec.Name]; ok {
		return &corev1.ContainerStateWaiting{Reason: r.Reason, Message: r.Message}
	}
	img, ok := s.in.Observed.Images[c.spec.Name]
	if !ok || img.Failure == nil || img.Attempt != c.nextAttempt() {
		return nil
	}
	f := img.Failure
	if f.Reason == "ErrImagePull" && s.due(f.At.Add(errorShown)) {
		return &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff",
			Message: fmt.Sprintf("Back-off pulling image %q: %s: %s", c.spec.Image, f.Reason, f.Message)}
	}
	return &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}
}

// mountStatus tells of a volume's mount, as it is: what was to be recursively read-only if possible is so (KEP-3857).
func mountStatus(m corev1.VolumeMount) corev1.VolumeMountStatus {
	v := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
	if !m.ReadOnly {
		return v
	}
	mode := corev1.RecursiveReadOnlyDisabled
	if r := m.RecursiveReadOnly; r != nil && *r != corev1.RecursiveReadOnlyDisabled {
		mode = corev1.RecursiveReadOnlyEnabled
	}
	v.RecursiveReadOnly = &mode
	return v
}

// describe adds what is true of an instance whatever its state.
func (s *stepper) describe(c *container, st *corev1.ContainerStatus) {
	if c.kind != ephemeral && c.live() {
		resources := s.allocated(c).DeepCopy()
		if c.latest.Resources != nil {
			resources = c.latest.Resources.DeepCopy()
		}
		st.Resources = resources
		st.AllocatedResources = s.allocated(c).Requests.DeepCopy()
	}
	for _, m := range c.spec.VolumeMounts {
		st.VolumeMounts = append(st.VolumeMounts, mountStatus(m))
	}
	if c.latest.User != nil {
		st.User = &corev1.ContainerUser{Linux: c.latest.User.DeepCopy()}
	}
	if name := corev1.Signal(c.latest.StopSignal); name != "" {
		st.StopSignal = &name
	} else if c.spec.Lifecycle != nil {
		st.StopSignal = c.spec.Lifecycle.StopSignal
	}
}

func idOf(c *Container) string {
	if c.ID == "" {
		return ""
	}
	return IDScheme + c.ID
}

// terminated tells how an instance ended.
func terminated(c *Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Signal: int32(c.Signal), Reason: c.Reason, Message: c.Message, ContainerID: idOf(c),
	}
	if !c.StartedAt.IsZero() {
		t.StartedAt = apiTime(c.StartedAt)
	}
	if !c.FinishedAt.IsZero() {
		t.FinishedAt = apiTime(c.FinishedAt)
	}
	if t.Reason == "" {
		switch {
		case c.OOMKilled:
			t.Reason = "OOMKilled"
		case c.ExitCode == 0:
			t.Reason = "Completed"
		default:
			t.Reason = "Error"
		}
	}
	return t
}

// shortDuration prints a delay as back-off messages do: 10s, 1m20s, 5m0s.
func shortDuration(d time.Duration) string { return d.String() }
