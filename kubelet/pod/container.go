package pod

import (
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// kind is the part that a container plays in its pod.
type kind int

const (
	initial   kind = iota // runs to completion before the next container is started
	sidecar               // restartable init container
	regular               // spec.containers
	ephemeral             // spec.ephemeralContainers
)

// container is a container of the specification with what is known of its instances.
type container struct {
	kind kind
	spec *corev1.Container
	// latest and previous are its newest instances, nil if there are none.
	latest, previous *Container
	// surplus are older, dead instances.
	surplus []*Container
	// retired says that the newest instance belongs to the life before a restart of all containers.
	retired bool
	// known is the status that the API last had of it, nil if none.
	known *corev1.ContainerStatus
}

// readContainers joins the specification with the instances observed. Where the API's status tells of an instance that
// is not observed (the host was restarted, or its record lost), a dead instance stands in for it, so that everything
// else has one case only.
func readContainers(in Input) []*container {
	var all []*container
	spec, status := &in.Pod.Spec, &in.Pod.Status
	for i := range spec.InitContainers {
		c := &container{kind: initial, spec: &spec.InitContainers[i]}
		if p := c.spec.RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
			c.kind = sidecar
		}
		c.known = statusOf(status.InitContainerStatuses, c.spec.Name)
		all = append(all, c)
	}
	for i := range spec.Containers {
		c := &container{kind: regular, spec: &spec.Containers[i]}
		c.known = statusOf(status.ContainerStatuses, c.spec.Name)
		all = append(all, c)
	}
	for i := range spec.EphemeralContainers {
		common := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		c := &container{kind: ephemeral, spec: &common}
		c.known = statusOf(status.EphemeralContainerStatuses, c.spec.Name)
		all = append(all, c)
	}
	for _, c := range all {
		c.readInstances(in.Observed.Containers)
	}
	return all
}

func (c *container) readInstances(observed []Container) {
	var mine []*Container
	for i := range observed {
		if observed[i].Name == c.spec.Name {
			mine = append(mine, &observed[i])
		}
	}
	oldest := -1
	for _, m := range mine {
		if oldest < 0 || m.Attempt < oldest {
			oldest = m.Attempt
		}
	}
	for _, m := range standIns(c.known) {
		if oldest < 0 || m.Attempt < oldest {
			mine = append(mine, m)
		}
	}
	sort.SliceStable(mine, func(i, j int) bool { return mine[i].Attempt > mine[j].Attempt })
	for i, m := range mine {
		switch i {
		case 0:
			c.latest = m
		case 1:
			c.previous = m
		default:
			c.surplus = append(c.surplus, m)
		}
	}
}

// standIns are the instances that a status tells of. They are of no sandbox.
func standIns(known *corev1.ContainerStatus) []*Container {
	if known == nil {
		return nil
	}
	var found []*Container
	attempt := int(known.RestartCount)
	switch {
	case known.State.Terminated != nil:
		found = append(found, fromTerminated(known, known.State.Terminated, attempt))
		attempt--
	case known.State.Running != nil:
		found = append(found, &Container{
			Name: known.Name, Attempt: attempt, State: Exited, ID: trimID(known.ContainerID),
			Image: known.Image, ImageRef: known.ImageID, StartedAt: known.State.Running.StartedAt.Time,
			ExitCode: exitUnknown, Reason: "ContainerStatusUnknown",
			Message: "The container could not be located when the pod was terminated",
		})
		attempt--
	}
	if t := known.LastTerminationState.Terminated; t != nil && attempt >= 0 {
		found = append(found, fromTerminated(known, t, attempt))
	}
	return found
}

// exitUnknown is the exit code of an instance whose own was lost, as if it had been killed.
const exitUnknown = 137

func fromTerminated(known *corev1.ContainerStatus, t *corev1.ContainerStateTerminated, attempt int) *Container {
	return &Container{
		Name: known.Name, Attempt: attempt, State: Exited, ID: trimID(t.ContainerID),
		Image: known.Image, ImageRef: known.ImageID,
		StartedAt: t.StartedAt.Time, FinishedAt: t.FinishedAt.Time,
		ExitCode: int(t.ExitCode), Signal: int(t.Signal), Reason: t.Reason, Message: t.Message,
	}
}

func statusOf(all []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}

// live says whether the container has an instance with, or about to have, a process.
func (c *container) live() bool { return c.latest != nil && c.latest.State != Exited }

// up says whether an instance runs and its postStart hook, if it has one, has succeeded.
func (c *container) up() bool {
	return c.latest != nil && c.latest.State == Running && (!c.hasPostStart() || c.latest.PostStart == HookDone)
}

// exited says whether the newest instance is dead.
func (c *container) exited() bool { return c.latest != nil && c.latest.State == Exited }

// exitedIn says whether the newest instance is dead and was made in the given sandbox.
func (c *container) exitedIn(sandbox string) bool {
	return c.exited() && c.latest.Sandbox == sandbox
}

func (c *container) hasPostStart() bool {
	return c.spec.Lifecycle != nil && c.spec.Lifecycle.PostStart != nil
}
func (c *container) hasPreStop() bool {
	return c.spec.Lifecycle != nil && c.spec.Lifecycle.PreStop != nil
}

// started says whether the container counts as started: up, and past its startup probe.
func (c *container) started() bool {
	if !c.up() {
		return false
	}
	if c.spec.StartupProbe == nil || c.latest.Startup == Success {
		return true
	}
	return c.latest.Startup == Unknown && c.reported() && c.known.Started != nil && *c.known.Started
}

// ready says whether the container counts as ready.
func (c *container) ready() bool {
	if !c.started() || c.kind == ephemeral {
		return false
	}
	if c.spec.ReadinessProbe == nil || c.latest.Readiness == Success {
		return true
	}
	return c.latest.Readiness == Unknown && c.reported() && c.known.Ready
}

// reported says whether the API's status is about the newest instance. After a restart of the kubelet it is where the
// verdicts of probes that have yet to run again are taken from.
func (c *container) reported() bool {
	return c.known != nil && c.known.State.Running != nil && trimID(c.known.ContainerID) == c.latest.ID
}

// nextAttempt numbers the next instance.
func (c *container) nextAttempt() int {
	if c.latest != nil {
		return c.latest.Attempt + 1
	}
	if c.known != nil && c.known.ContainerID != "" {
		return int(c.known.RestartCount) + 1
	}
	return 0
}

// ended is when the newest, dead instance ended; for one that never ran, when it was made.
func (c *container) ended() time.Time {
	if !c.latest.FinishedAt.IsZero() {
		return c.latest.FinishedAt
	}
	return c.latest.CreatedAt
}

// IDScheme prefixes container ids in the API.
const IDScheme = "bareboat://"

func trimID(id string) string {
	if len(id) >= len(IDScheme) && id[:len(IDScheme)] == IDScheme {
		return id[len(IDScheme):]
	}
	return id
}
