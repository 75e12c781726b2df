package pod

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// model is a node as far as one pod can tell: it carries actions out when told to, and remembers what they did.
type model struct {
	pod       *corev1.Pod
	seen      Observed
	granted   *Allocation
	memory    Memory
	inFlight  map[Key]Action
	now       time.Time
	wake      time.Time
	gone      bool
	stop      *Stop
	sandboxes int
	finished  bool
	probes    []Probe
	events    []Event
}

func newModel(p *corev1.Pod) *model {
	if p.UID == "" {
		p.UID = "1234"
	}
	granted := Wanted(&p.Spec)
	return &model{
		pod: p, granted: &granted, inFlight: map[Key]Action{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		seen: Observed{Images: map[string]Image{}, Refused: map[string]Failure{}, InFlight: map[Key]bool{}},
	}
}

// step runs one step, puts its actions in flight and stores its status.
func (m *model) step() Plan {
	plan := Step(Input{Pod: m.pod, Gone: m.gone, Stop: m.stop, Observed: m.seen, Allocated: m.granted, Memory: m.memory, Now: m.now, HostIPs: []string{"192.0.2.1"}})
	m.memory, m.wake, m.finished, m.probes = plan.Memory, plan.Wake, plan.Finished, plan.Probes
	m.events = append(m.events, plan.Events...)
	m.pod = m.pod.DeepCopy()
	m.pod.Status = plan.Status
	for _, a := range plan.Actions {
		m.inFlight[a.Key()] = a
		m.seen.InFlight[a.Key()] = true
	}
	return plan
}

// flying lists what is in flight, in a stable order.
func (m *model) flying() []Action {
	var all []Action
	for _, a := range m.inFlight {
		all = append(all, a)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].String() < all[j].String() })
	return all
}

// finish ends an action with success, or with the given failure.
func (m *model) finish(a Action, failure *Failure) {
	delete(m.inFlight, a.Key())
	delete(m.seen.InFlight, a.Key())
	if failure != nil {
		failure.At = m.now
		if failure.Count == 0 {
			failure.Count = 1
		}
	}
	switch a.Op {
	case SetupSandbox:
		m.seen.Sandbox.Failure = failure
		if failure == nil {
			m.sandboxes++
			m.seen.Sandbox = Sandbox{State: SandboxReady, ID: fmt.Sprint("s", m.sandboxes), IPs: []string{"10.244.0.5"}}
		}
	case TeardownSandbox:
		m.seen.Sandbox = Sandbox{}
	case MountVolumes:
		m.seen.Volumes = Volumes{Mounted: failure == nil, Failure: failure}
	case UnmountVolumes:
		m.seen.Volumes = Volumes{}
	case EnsureImage:
		img := Image{Attempt: a.Attempt, Failure: failure}
		if failure == nil {
			img.ID, img.Ref = "sha256:1", "img@sha256:1"
		} else if old := m.seen.Images[a.Container]; old.Failure != nil {
			failure.Count = old.Failure.Count + 1
		}
		m.seen.Images[a.Container] = img
	case StartContainer:
		m.finishStart(a, failure)
	case RunPostStart:
		m.edit(a.ID, func(c *Container) { c.PostStart = hookState(failure) })
	case RunPreStop:
		m.edit(a.ID, func(c *Container) { c.PreStop = hookState(failure) })
	case Resize:
		m.finishResize(failure)
	case SignalKill:
		m.exit(a.ID, 137)
	case RemoveContainer:
		m.seen.Containers = slices.DeleteFunc(slices.Clone(m.seen.Containers), func(c Container) bool { return c.ID == a.ID })
	}
}

func (m *model) finishStart(a Action, failure *Failure) {
	delete(m.seen.Refused, a.Container)
	if failure != nil && failure.Reason != startError {
		m.seen.Refused[a.Container] = *failure
		return
	}
	c := Container{
		Name: a.Container, Attempt: a.Attempt, ID: fmt.Sprintf("%s-%d", a.Container, a.Attempt), State: Running,
		Sandbox: m.seen.Sandbox.ID, Image: m.image(a.Container), ImageRef: m.seen.Images[a.Container].Ref, CreatedAt: m.now, StartedAt: m.now,
		Resources: m.resources(a.Container),
	}
	if failure != nil {
		c.State, c.StartedAt, c.ExitCode, c.Reason, c.Message = Exited, time.Time{}, 128, startError, failure.Message
		c.FinishedAt = m.now
	}
	if m.seen.Sandbox.State != SandboxReady {
		c.State, c.ExitCode, c.FinishedAt = Exited, 137, m.now
	}
	m.seen.Containers = append(slices.Clone(m.seen.Containers), c)
}

// finishResize grants what the specification asks for and puts it into force where that needs no restart, or refuses it.
func (m *model) finishResize(failure *Failure) {
	m.seen.Resized = &Resized{Generation: m.pod.Generation, Failure: failure}
	if failure != nil && failure.Reason != corev1.PodReasonError {
		m.seen.Resized.Pending, m.seen.Resized.Failure = failure, nil
		return
	}
	granted := Wanted(&m.pod.Spec)
	m.granted = &granted
	for i := range m.pod.Spec.Containers {
		c := &m.pod.Spec.Containers[i]
		if id := m.live(c.Name); id != "" && failure == nil && len(c.ResizePolicy) == 0 {
			m.edit(id, func(i *Container) { i.Resources = c.Resources.DeepCopy() })
		}
	}
}

// resources are those that a new instance gets.
func (m *model) resources(name string) *corev1.ResourceRequirements {
	r, ok := m.granted.Containers[name]
	if !ok {
		return nil
	}
	return &r
}

func (m *model) image(name string) string {
	for _, c := range slices.Concat(m.pod.Spec.InitContainers, m.pod.Spec.Containers) {
		if c.Name == name {
			return c.Image
		}
	}
	return ""
}

func hookState(f *Failure) HookState {
	if f != nil {
		return HookFailed
	}
	return HookDone
}

// edit changes an instance; observations handed to earlier steps stay as they were.
func (m *model) edit(id string, change func(*Container)) {
	m.seen.Containers = slices.Clone(m.seen.Containers)
	for i := range m.seen.Containers {
		if m.seen.Containers[i].ID == id {
			change(&m.seen.Containers[i])
		}
	}
}

// exit ends an instance's process.
func (m *model) exit(id string, code int) {
	m.edit(id, func(c *Container) {
		if c.State != Exited {
			c.State, c.ExitCode, c.FinishedAt = Exited, code, m.now
		}
	})
}

// loseSandbox is the death of the shim, and with it of all processes.
func (m *model) loseSandbox() {
	if m.seen.Sandbox.State != SandboxReady {
		return
	}
	m.seen.Sandbox.State = SandboxDead
	for _, c := range m.seen.Containers {
		m.exit(c.ID, 137)
	}
}

// live returns the newest instance of a container that has not exited.
func (m *model) live(name string) string {
	for _, c := range m.seen.Containers {
		if c.Name == name && c.State != Exited {
			return c.ID
		}
	}
	return ""
}

func (m *model) remove(grace int64) {
	m.pod = m.pod.DeepCopy()
	t := metav1.NewTime(m.now.Add(time.Duration(grace) * time.Second))
	m.pod.DeletionTimestamp, m.pod.DeletionGracePeriodSeconds = &t, &grace
}

// describe prints a plan as the scripts show it.
func describe(p Plan, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", p.Status.Phase)
	if p.Status.Reason != "" {
		fmt.Fprintf(&b, " (%s)", p.Status.Reason)
	}
	for _, t := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		if c := find(p.Status.Conditions, t); c != nil && c.Status == corev1.ConditionTrue {
			fmt.Fprintf(&b, " +%s", t)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress || c.Type == corev1.AllContainersRestarting {
			if c.Status != corev1.ConditionTrue {
				continue
			}
			fmt.Fprintf(&b, " +%s", c.Type)
			if c.Reason != "" {
				fmt.Fprintf(&b, "(%s)", c.Reason)
			}
		}
	}
	b.WriteByte('\n')
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses) {
		fmt.Fprintf(&b, "  %s: %s", c.Name, describeState(c.State))
		if s := describeState(c.LastTerminationState); s != "" {
			fmt.Fprintf(&b, ", last %s", s)
		}
		if c.RestartCount > 0 {
			fmt.Fprintf(&b, ", restarts %d", c.RestartCount)
		}
		if c.Started != nil && *c.Started {
			b.WriteString(", started")
		}
		if c.Ready {
			b.WriteString(", ready")
		}
		b.WriteByte('\n')
	}
	for _, a := range p.Actions {
		fmt.Fprintf(&b, "do %s\n", a)
	}
	for _, e := range p.Events {
		fmt.Fprintf(&b, "event %s %s: %s\n", e.Type, e.Reason, e.Message)
	}
	if !p.Wake.IsZero() {
		fmt.Fprintf(&b, "wake in %s\n", p.Wake.Sub(now))
	}
	if p.Finished {
		b.WriteString("finished\n")
	}
	return b.String()
}

func describeState(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil && s.Waiting.Message != "":
		return fmt.Sprintf("Waiting %s (%s)", s.Waiting.Reason, s.Waiting.Message)
	case s.Waiting != nil:
		return "Waiting " + s.Waiting.Reason
	case s.Running != nil:
		return "Running"
	case s.Terminated != nil && s.Terminated.Message != "":
		return fmt.Sprintf("Terminated %s %d (%s)", s.Terminated.Reason, s.Terminated.ExitCode, s.Terminated.Message)
	case s.Terminated != nil:
		return fmt.Sprintf("Terminated %s %d", s.Terminated.Reason, s.Terminated.ExitCode)
	}
	return ""
}
