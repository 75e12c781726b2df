package shim

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// PodConfig says what one podshim holds. It is stored as JSON in StateDir/config.json, whence a restarted kubelet reads it back.
type PodConfig struct {
	// UID is the pod's metadata.uid. Required.
	UID string `json:"uid"`
	// Namespace and Name are the pod's; for logs and for people reading the state directory.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// StateDir is this pod's own directory, such as /run/bareboat/pods/<uid>. Required, absolute. It is made if missing and removed by
	// Shutdown and Reap. It should be on a file system that a reboot empties.
	StateDir string `json:"stateDir"`

	// Hostname is set in the pod's UTS namespace; empty keeps the host's. Not set when HostNetwork is true, as in Kubernetes.
	Hostname string `json:"hostname,omitempty"`
	// HostNetwork, HostPID and HostIPC keep the pod in the host's namespaces of that kind (PodSpec.hostNetwork, …).
	HostNetwork bool `json:"hostNetwork,omitempty"`
	HostPID     bool `json:"hostPID,omitempty"`
	HostIPC     bool `json:"hostIPC,omitempty"`
	// ShareProcessNamespace gives all containers of the pod one PID namespace, whose first process is a tiny reaper.
	ShareProcessNamespace bool `json:"shareProcessNamespace,omitempty"`
	// UserNamespace, if set, is the pod's own (PodSpec.hostUsers: false): its root is nobody on the host. It excludes the host's
	// namespaces of other kinds.
	UserNamespace *IDRange `json:"userNamespace,omitempty"`
	// Sysctls are written in the pod's namespaces before any container exists (PodSpec.securityContext.sysctls).
	// Only namespaced ones may be given; Launch fails on any other.
	Sysctls map[string]string `json:"sysctls,omitempty"`

	// CgroupParent is the pod's cgroup, relative to the root of each hierarchy, such as kubepods/burstable/pod<uid>.
	// Containers run in CgroupParent/<container ID>. Required. The caller creates it (package cgroup) and removes it.
	CgroupParent string `json:"cgroupParent"`
	// ShimCgroup is where podshim itself lives, so that neither the pod's limits nor the kubelet's unit hold it.
	// Empty means [DefaultShimCgroup].
	ShimCgroup string `json:"shimCgroup,omitempty"`
	// ShmSize is the size in bytes of the /dev/shm that the pod's containers share; 0 means 64 MiB.
	ShmSize int64 `json:"shmSize,omitempty"`
}

// IDRange is the users and groups 0 to Length-1 of a pod as those from First on of the host.
type IDRange struct {
	First  uint32 `json:"first"`
	Length uint32 `json:"length"`
}

// Host is what a user or group of the pod is on the host, and whether it is any.
func (r IDRange) Host(id uint32) (uint32, bool) { return r.First + id, id < r.Length }

// DefaultShimCgroup is the cgroup that holds every podshim unless PodConfig says otherwise.
const DefaultShimCgroup = "bareboat/shims"

// ContainerConfig describes one container, that is one attempt at running it: a restart is a new ID.
type ContainerConfig struct {
	// ID is unique on the node: letters, digits, '_', '+', '-', '.'; at most 128 characters. Required.
	ID string `json:"id"`
	// Name is the container's name in the pod and Attempt the number of times it was restarted; both come back in its status.
	Name    string `json:"name,omitempty"`
	Attempt uint32 `json:"attempt,omitempty"`
	// Spec is what to run, as in the OCI runtime specification. Required: Root.Path (absolute), Process. podshim itself fills in
	// Linux.Namespaces, Linux.CgroupsPath, Hostname and the /dev/shm mount's source, from the pod; what Spec says there is ignored.
	// [DefaultSpec] is a good start.
	Spec *specs.Spec `json:"spec"`
	// TargetID is a running container of the pod whose processes this one sees: it joins its PID namespace, and dies with it. Ignored where
	// the pod's containers share theirs.
	TargetID string `json:"targetID,omitempty"`
	// LogPath is the file that stdout and stderr are appended to, in CRI format. Its directory is made. Empty discards output.
	LogPath string `json:"logPath,omitempty"`
	// Stdin keeps a pipe (or the terminal) open for [Pod.Attach]; StdinOnce closes it when the first attached stdin ends.
	Stdin     bool `json:"stdin,omitempty"`
	StdinOnce bool `json:"stdinOnce,omitempty"`
	// TTY gives the container a terminal; all output is then one stream, logged as stdout.
	TTY bool `json:"tty,omitempty"`
}

// Phase is where a container is in its one-way life.
type Phase string

// The phases, in order. A created container has its process waiting just before exec of the user's program.
const (
	Created Phase = "created"
	Running Phase = "running"
	Exited  Phase = "exited"
)

// ContainerStatus is what podshim knows of a container.
type ContainerStatus struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Attempt uint32 `json:"attempt,omitempty"`
	Phase   Phase  `json:"phase"`
	// PID is the container's first process as the host sees it. It stays set after the exit, when it may already be another's.
	PID int `json:"pid,omitempty"`
	// The times of the transitions; zero when not reached.
	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	// ExitCode is the exit status, or 128 + Signal if a signal ended the process. Meaningful in phase Exited only.
	ExitCode int32 `json:"exitCode"`
	// Signal is the number of the signal that ended the process, else 0.
	Signal int32 `json:"signal,omitempty"`
	// OOMKilled says that the kernel killed a process of the container for lack of memory and that the container failed.
	OOMKilled bool `json:"oomKilled,omitempty"`
	// LogPath is as configured.
	LogPath string `json:"logPath,omitempty"`
}

// Event announces that a container's status changed to Exited. The status is already on disk.
type Event struct {
	ContainerStatus
}

// State is a whole pod as its podshim knows it.
type State struct {
	// Containers has every container that was created and not deleted, by time of creation.
	Containers []ContainerStatus `json:"containers"`
}

// ExecConfig describes a process to run in a running container.
type ExecConfig struct {
	// Args is the program and its arguments; the program is looked up in the container's PATH. Required.
	Args []string `json:"args"`
	// Env is added to the container's own environment; later entries win.
	Env []string `json:"env,omitempty"`
	// Cwd defaults to the container's.
	Cwd string `json:"cwd,omitempty"`
	// User defaults to the container's.
	User *specs.User `json:"user,omitempty"`
	// TTY gives the process a terminal of its own, of the given Size.
	TTY  bool  `json:"tty,omitempty"`
	Size *Size `json:"size,omitempty"`
}

// Size is that of a terminal, in characters.
type Size struct {
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// ExitStatus says how an exec'd process ended. Code is 128 + Signal if a signal ended it.
type ExitStatus struct {
	Code   int32 `json:"code"`
	Signal int32 `json:"signal,omitempty"`
}

// maxID bounds container IDs and UIDs: they become file and cgroup names (NAME_MAX is 255), and we add suffixes to them.
const maxID = 128

// validID accepts letters, digits, '_', '+', '-' and '.', the last three not at the beginning.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i, c := range []byte(id) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
		if !letter && (i == 0 || c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return true
}

// Validate reports what is missing or malformed, as an error that is [ErrInvalid].
func (c *PodConfig) Validate() error {
	switch {
	case !validID(c.UID):
		return fmt.Errorf("%w: pod UID %q", ErrInvalid, c.UID)
	case !filepath.IsAbs(c.StateDir) || filepath.Clean(c.StateDir) == "/":
		return fmt.Errorf("%w: state directory %q is not an absolute path of its own", ErrInvalid, c.StateDir)
	case !relativeCgroup(c.CgroupParent):
		return fmt.Errorf("%w: cgroup parent %q", ErrInvalid, c.CgroupParent)
	case c.ShimCgroup != "" && !relativeCgroup(c.ShimCgroup):
		return fmt.Errorf("%w: shim cgroup %q", ErrInvalid, c.ShimCgroup)
	case c.UserNamespace != nil && (c.HostNetwork || c.HostPID || c.HostIPC):
		return fmt.Errorf("%w: a user namespace of the pod's own excludes the host's network, processes and IPC", ErrInvalid)
	case c.UserNamespace != nil && (c.UserNamespace.First == 0 || c.UserNamespace.Length == 0 || c.UserNamespace.First+c.UserNamespace.Length < c.UserNamespace.First):
		return fmt.Errorf("%w: user namespace of %d ids from %d on", ErrInvalid, c.UserNamespace.Length, c.UserNamespace.First)
	case c.HostPID && c.ShareProcessNamespace:
		return fmt.Errorf("%w: hostPID and shareProcessNamespace exclude each other", ErrInvalid)
	}
	return nil
}

// relativeCgroup accepts a path with or without a leading slash that stays below the hierarchy's root.
func relativeCgroup(p string) bool {
	for len(p) > 0 && p[0] == '/' {
		p = p[1:]
	}
	return p != "" && filepath.IsLocal(p)
}

// Validate reports what is missing or malformed, as an error that is [ErrInvalid].
func (c *ContainerConfig) Validate() error {
	switch {
	case !validID(c.ID):
		return fmt.Errorf("%w: container ID %q", ErrInvalid, c.ID)
	case c.Spec == nil || c.Spec.Process == nil || len(c.Spec.Process.Args) == 0:
		return fmt.Errorf("%w: container %s has no command", ErrInvalid, c.ID)
	case c.Spec.Root == nil || !filepath.IsAbs(c.Spec.Root.Path):
		return fmt.Errorf("%w: container %s has no absolute root path", ErrInvalid, c.ID)
	case !filepath.IsAbs(c.Spec.Process.Cwd):
		return fmt.Errorf("%w: container %s: working directory %q is not absolute", ErrInvalid, c.ID, c.Spec.Process.Cwd)
	case c.LogPath != "" && !filepath.IsAbs(c.LogPath):
		return fmt.Errorf("%w: container %s: log path %q is not absolute", ErrInvalid, c.ID, c.LogPath)
	}
	return nil
}
