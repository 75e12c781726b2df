package pod

import "fmt"

// Op says what an action does.
type Op string

const (
	// SetupSandbox makes the cgroup, the shim and the network. It ends with Sandbox ready, or with its Failure.
	SetupSandbox Op = "SetupSandbox"
	// TeardownSandbox removes containers, root file systems, network, shim and cgroup; logs stay.
	TeardownSandbox Op = "TeardownSandbox"
	// MountVolumes makes the pod's volumes. It ends with Volumes mounted, or with their Failure.
	MountVolumes Op = "MountVolumes"
	// UnmountVolumes removes them.
	UnmountVolumes Op = "UnmountVolumes"
	// EnsureImage makes a container's image present, as its pull policy says. It ends with an entry of Images.
	EnsureImage Op = "EnsureImage"
	// StartContainer creates and starts an instance. It ends with a new entry of Containers, or one of Refused.
	StartContainer Op = "StartContainer"
	// RunPostStart runs an instance's postStart hook. It ends with its PostStart done or failed.
	RunPostStart Op = "RunPostStart"
	// RunPreStop runs an instance's preStop hook. It ends with its PreStop done or failed.
	RunPreStop Op = "RunPreStop"
	// SignalStop sends an instance its stop signal.
	SignalStop Op = "SignalStop"
	// SignalKill sends an instance SIGKILL.
	SignalKill Op = "SignalKill"
	// RemoveContainer deletes what is left of a dead instance, its log included.
	RemoveContainer Op = "RemoveContainer"
	// Resize changes live containers' resources to those of the specification. It ends with Resized.
	Resize Op = "Resize"
)

// Action is something to be done for the pod. Actions of one plan are independent and may run at the same time.
type Action struct {
	Op Op
	// Container is the container's name, where there is one.
	Container string
	// ID is the instance, where there is one.
	ID string
	// Attempt is the attempt that EnsureImage and StartContainer are for.
	Attempt int
}

// Key identifies an action while it is in flight: at most one of a key runs.
type Key struct {
	Op Op
	// Subject is the instance id if the action has one, its container's name otherwise.
	Subject string
}

// Key returns the action's key.
func (a Action) Key() Key {
	if a.ID != "" {
		return Key{a.Op, a.ID}
	}
	return Key{a.Op, a.Container}
}

// String prints the action as test scripts show it.
func (a Action) String() string {
	switch {
	case a.ID != "":
		return fmt.Sprintf("%s %s(%s)", a.Op, a.Container, a.ID)
	case a.Container != "":
		return fmt.Sprintf("%s %s#%d", a.Op, a.Container, a.Attempt)
	}
	return string(a.Op)
}
