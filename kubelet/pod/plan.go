package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Plan is what a step decides.
type Plan struct {
	// Actions are to be started now. None of them is in flight.
	Actions []Action
	// Status is what the API should say of the pod.
	Status corev1.PodStatus
	// Events are to be recorded, once each.
	Events []Event
	// Probes are those that must be running; any other of this pod must not.
	Probes []Probe
	// Memory is for the next step.
	Memory Memory
	// Wake is when to step again even if nothing happens; zero if there is no need.
	Wake time.Time
	// Terminating says that the pod is being taken down: what starts things may be cancelled.
	Terminating bool
	// Finished says that nothing of the pod is left but its logs and its directory.
	Finished bool
}

// Event is an event to be recorded about the pod.
type Event struct {
	// Type is Normal or Warning.
	Type string
	// Reason and Message are worded as the Kubernetes kubelet words them.
	Reason, Message string
	// Container is the container that it is about, if any.
	Container string
}

// ProbeKind tells the three probes of a container apart.
type ProbeKind string

const (
	Startup   ProbeKind = "Startup"
	Liveness  ProbeKind = "Liveness"
	Readiness ProbeKind = "Readiness"
)

// Probe is a probe that must be running against an instance.
type Probe struct {
	Kind      ProbeKind
	Container string
	ID        string
	// Started is when the instance started; initial delays count from here.
	Started time.Time
	Spec    *corev1.Probe
}

// Memory is what a pod's steps must remember and can not observe. Losing it (the kubelet was restarted) costs a
// back-off or a fresh grace period, never correctness.
type Memory struct {
	containers  map[string]containerMemory
	terminating *termination
	restart     restartingAll
}

// containerMemory is the memory of one container. It is a value: steps copy it.
type containerMemory struct {
	// backOff is the delay after the next exit, counted from the exit; restarted is when it was set.
	backOff   time.Duration
	restarted time.Time
	// announced is the instance whose back-off an event has announced.
	announced string
	stop      stop
}

// stop is the state of one instance's graceful end. Its id is empty if none is under way.
type stop struct {
	id     string
	since  time.Time
	grace  time.Duration
	termed time.Time
	killed time.Time
	// restart says that the container is to be started again whatever its policy says: its definition changed.
	restart bool
	hook    bool
}

// termination is the pod's own end.
type termination struct {
	since time.Time
	grace time.Duration
	// reason and message become the pod's, if set; failed says that the phase is Failed whatever the exit codes.
	reason, message string
	failed          bool
	condition       *corev1.PodCondition
}

func (m Memory) clone() Memory {
	c := Memory{containers: make(map[string]containerMemory, len(m.containers)), restart: m.restart}
	for k, v := range m.containers {
		c.containers[k] = v
	}
	if m.terminating != nil {
		t := *m.terminating
		c.terminating = &t
	}
	return c
}
