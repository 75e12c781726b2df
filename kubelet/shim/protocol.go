package shim

import (
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Names of the files in a pod's state directory.
const (
	ConfigFile    = "config.json" // PodConfig, written by Launch
	ProcessFile   = "shim.json"   // Process, written by podshim before it listens
	SocketFile    = "shim.sock"   // where podshim listens
	LogFile       = "shim.log"    // podshim's stderr: empty unless something is wrong
	ShmDir        = "shm"         // the pod's /dev/shm
	ContainersDir = "containers"  // one directory per container: status.json
	StatusFile    = "status.json" // ContainerStatus
	RuntimeDir    = "runtime"     // libcontainer's state
)

// Process identifies podshim: a process ID alone could be another's after a crash.
type Process struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/<pid>/stat, in clock ticks since boot.
	StartTime uint64 `json:"startTime"`
}

// Op names a request. A connection carries one request, and its replies.
type Op string

// The operations. Each is answered by one Reply, except: exec sends a Reply when the process runs (with the terminal's
// descriptor attached, if TTY) and one with Exit when it has ended; attach likewise; events sends a Reply per event, with no end.
const (
	OpCreate   Op = "create"
	OpStart    Op = "start"
	OpSignal   Op = "signal"
	OpDelete   Op = "delete"
	OpExec     Op = "exec"
	OpAttach   Op = "attach"
	OpResize   Op = "resize"
	OpState    Op = "state"
	OpEvents   Op = "events"
	OpUpdate   Op = "update"
	OpDial     Op = "dial"
	OpReopen   Op = "reopen"
	OpShutdown Op = "shutdown"
)

// Request is the first frame of a connection. Fields that an operation does not name are ignored.
type Request struct {
	Op Op `json:"op"`
	// ID is the container's: start, signal, delete, exec, attach, resize, update, reopen.
	ID string `json:"id,omitempty"`
	// Container: create.
	Container *ContainerConfig `json:"container,omitempty"`
	// Exec: exec.
	Exec *ExecConfig `json:"exec,omitempty"`
	// Streams says which of stdin, stdout and stderr come as descriptors with this frame, in that order: exec (without TTY), attach.
	Streams Streams `json:"streams,omitzero"`
	// Signal and All (every process of the container, not only its first): signal.
	Signal syscall.Signal `json:"signal,omitempty"`
	All    bool           `json:"all,omitempty"`
	// Size: resize.
	Size *Size `json:"size,omitempty"`
	// Resources: update.
	Resources *specs.LinuxResources `json:"resources,omitempty"`
	// Network and Address as net.Dial has them: dial.
	Network string `json:"network,omitempty"`
	Address string `json:"address,omitempty"`
}

// Streams is a set of standard streams.
type Streams struct {
	Stdin  bool `json:"stdin,omitempty"`
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
}

// Reply answers a Request.
type Reply struct {
	Error *WireError `json:"error,omitempty"`
	// PID: start, exec.
	PID int `json:"pid,omitempty"`
	// State: state.
	State *State `json:"state,omitempty"`
	// Event: events.
	Event *Event `json:"event,omitempty"`
	// Exit: the last reply of exec and attach.
	Exit *ExitStatus `json:"exit,omitempty"`
}
