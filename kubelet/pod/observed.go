package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Input is everything a step decides from. Nothing in it is modified.
type Input struct {
	// Pod is the pod as its source (the API, or a static manifest) has it, with the status last known there.
	Pod *corev1.Pod
	// Gone says that the source no longer has the pod: it must be taken down, and nobody reads its status.
	Gone bool
	// Stop, if set, ends the pod for a reason of the node's own: eviction, or the node's shutdown.
	Stop *Stop
	// Observed is what is known of the pod on this node.
	Observed Observed
	// Allocated is what the node has granted the pod; nil for what its specification says.
	Allocated *Allocation
	// Memory is what the previous step returned; the zero value at first.
	Memory Memory
	// HostIPs are the node's addresses, the primary one first.
	HostIPs []string
	Now     time.Time
}

// Stop is the node's own decision to end a pod.
type Stop struct {
	// Reason and Message become the pod's status reason and message: "Evicted", "Terminated".
	Reason, Message string
	// Grace overrides the pod's own termination grace if it is shorter.
	Grace time.Duration
	// Condition, if set, is added to the pod's conditions, e.g. DisruptionTarget.
	Condition *corev1.PodCondition
}

// Observed is what is known of a pod on this node.
type Observed struct {
	Sandbox Sandbox
	Volumes Volumes
	// Images holds, by container name, the image that was made ready for an attempt to run the container.
	Images map[string]Image
	// Containers are all instances known, live and dead, in any order.
	Containers []Container
	// Refused holds, by container name, why the last try to make an instance failed before there was one.
	Refused map[string]Failure
	// InFlight holds the keys of the actions that have been started and have not ended.
	InFlight map[Key]bool
	// Resized is the last attempt to change live containers' resources, if there was one.
	Resized *Resized
}

// SandboxState is how far a pod's sandbox (its shim, namespaces, network and cgroup) is.
type SandboxState int

const (
	// SandboxAbsent: there is nothing.
	SandboxAbsent SandboxState = iota
	// SandboxReady: containers can be created in it.
	SandboxReady
	// SandboxDead: its shim has died; what is left of it must be torn down before there is a new one.
	SandboxDead
)

// Sandbox is what a pod's containers share.
type Sandbox struct {
	State SandboxState
	// ID tells one sandbox of the pod from the next.
	ID string
	// IPs are the pod's addresses, the primary one first; the node's if the pod uses the host's network.
	IPs []string
	// Failure is why the last setup failed, nil if it did not.
	Failure *Failure
}

// Volumes is how far a pod's volumes are.
type Volumes struct {
	Mounted bool
	// Failure is why the last attempt to mount them failed, nil if it did not.
	Failure *Failure
}

// Image is an image made ready for one attempt to run a container.
type Image struct {
	// Attempt is the attempt it was made ready for.
	Attempt int
	// ID is the digest of its configuration, empty if it is not there.
	ID string
	// Ref is what the status reports as imageID: a digest reference where one is known, the id otherwise.
	Ref string
	// Failure is why it could not be made ready; its reason is ErrImagePull, ErrImageNeverPull or InvalidImageName.
	Failure *Failure
}

// Failure is why something that will be tried again has failed.
type Failure struct {
	// Reason is a brief CamelCase word as container and pod statuses show it, e.g. "ErrImagePull".
	Reason string
	// Message is for people.
	Message string
	At      time.Time
	// Count is how many times it has failed in a row, at least 1.
	Count int
}

// ContainerState is how far an instance is.
type ContainerState int

const (
	// Created: it exists and its process has not been started.
	Created ContainerState = iota
	// Running: its process runs.
	Running
	// Exited: its process is gone.
	Exited
)

// Verdict is what a probe has established, thresholds applied.
type Verdict int

const (
	// Unknown: the probe has not come to a verdict yet.
	Unknown Verdict = iota
	// Success and Failed are verdicts.
	Success
	Failed
)

// HookState is how far a lifecycle hook of an instance is.
type HookState int

const (
	// HookPending: it has not ended; if its key is not in flight, it has not been started either.
	HookPending HookState = iota
	// HookDone: it has succeeded.
	HookDone
	// HookFailed: it has failed.
	HookFailed
)

// Container is one instance of a container of the pod.
type Container struct {
	Name string
	// Attempt numbers the instances of one container from 0.
	Attempt int
	// ID is unique on the node.
	ID string
	// Sandbox is the id of the sandbox that it was made in.
	Sandbox string
	// Image is the image as the specification named it when the instance was made.
	Image string
	// ImageRef is what the status reports as imageID.
	ImageRef string
	State    ContainerState
	// User is the identity of its first process, nil if it is not known.
	User *corev1.LinuxContainerUser

	CreatedAt, StartedAt, FinishedAt time.Time
	ExitCode                         int
	// Signal is the number of the signal that ended it, 0 if none did.
	Signal    int
	OOMKilled bool
	// Reason overrides the reason that follows from the exit: "StartError", "ContainerStatusUnknown".
	Reason string
	// Message is its termination message.
	Message string

	PostStart, PreStop HookState
	// PostStartMessage says why the postStart hook failed.
	PostStartMessage             string
	Startup, Liveness, Readiness Verdict
	// Resources are those that its cgroup enforces; nil if they are those of the specification it was made from.
	Resources *corev1.ResourceRequirements
	// StopSignal is the name of the signal that asks it to end, as its image or specification has it; empty if it is not known.
	StopSignal string
}

// Resized is what came of an attempt to make resources what the specification says now.
type Resized struct {
	// Generation is the pod's generation that it was for.
	Generation int64
	// Pending is why the node does not grant them: reason "Deferred" if it may later, "Infeasible" if it never will.
	Pending *Failure
	// Failure is why what is granted is not in force.
	Failure *Failure
}
