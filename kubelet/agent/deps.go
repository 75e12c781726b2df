package agent

import (
	"context"
	"iter"
	"net"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/device"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/network"
	"bareboat.dev/kubelet/shim"
)

// Images is what the agent needs of the image store; [image.Store] is one.
type Images interface {
	Pull(ctx context.Context, ref string, o image.PullOptions) (image.Image, error)
	Get(ref string) (image.Image, error)
	Access(ref string, auths []image.Auth) (image.Access, error)
	Mount(ctx context.Context, imageID, containerID string) (rootfs string, err error)
	Unmount(ctx context.Context, containerID string) error
}

// Network is what the agent needs of the pod network; [network.Network] is one.
type Network interface {
	Setup(ctx context.Context, a network.Attachment) (network.Attached, error)
	Teardown(ctx context.Context, podUID string) error
	Get(podUID string) (network.Attached, error)
	Retain(ctx context.Context, keep func(podUID string) bool) error
}

// Groups is what the agent needs of the cgroup tree; [cgroup.Tree] is one.
type Groups interface {
	CreatePod(qos cgroup.QoS, uid string, r cgroup.Resources) (string, error)
	UpdatePod(uid string, r cgroup.Resources) error
	RemovePod(ctx context.Context, uid string) error
	Pods() (map[string]cgroup.QoS, error)
	SetQoS(qos cgroup.QoS, r cgroup.Resources) error
}

// Devices is what the agent needs of device plug-ins; [device.Manager] is one.
type Devices interface {
	Prepare(ctx context.Context, uid types.UID, container string) (device.Grant, error)
}

// Shares is who chooses what pods have alone, of devices, CPUs and memory; [topology.Manager] is one. Reserve's error is a [topology.Refusal].
type Shares interface {
	Reserve(p *corev1.Pod) error
	Release(uid types.UID) error
	Retain(keep func(types.UID) bool) error
}

// Claims is what the agent needs of who gives pods the devices of their resource claims; [dra.Manager] is one.
type Claims interface {
	Prepare(ctx context.Context, p *corev1.Pod) error
	Inject(spec *specs.Spec, p *corev1.Pod, c *corev1.Container) error
	InjectCDI(spec *specs.Spec, ids ...string) error
	Release(uid types.UID) error
	Retain(keep func(types.UID) bool) error
}

// CPUs is what the agent needs of who gives CPUs away; [cpus.Manager] is one.
type CPUs interface {
	Active() bool
	CPUSet(uid types.UID, container string) string
	Exclusive(uid types.UID) bool
}

// Memory is what the agent needs of who promises memory; [memory.Manager] is one.
type Memory interface {
	NodeSet(uid types.UID, container string) string
	Exclusive(uid types.UID) bool
}

// Shims makes and finds sandboxes.
type Shims interface {
	Launch(ctx context.Context, c shim.PodConfig) (Sandbox, error)
	Attach(ctx context.Context, stateDir string) (Sandbox, error)
	List(root string) ([]string, error)
	ReadState(stateDir string) (shim.PodConfig, shim.State, error)
	Reap(ctx context.Context, stateDir string) error
}

// Sandbox is a pod's podshim; [shim.Pod] is one.
type Sandbox interface {
	Config() shim.PodConfig
	PID() int
	NetNSPath() string
	Create(ctx context.Context, c shim.ContainerConfig) error
	Start(ctx context.Context, id string) (int, error)
	Signal(ctx context.Context, id string, sig syscall.Signal) error
	Kill(ctx context.Context, id string) error
	Delete(ctx context.Context, id string) error
	UpdateResources(ctx context.Context, id string, r specs.LinuxResources) error
	ReopenLog(ctx context.Context, id string) error
	State(ctx context.Context) (shim.State, error)
	Stats(ctx context.Context, id string) (cgroup.Stats, error)
	Events(ctx context.Context) iter.Seq2[shim.Event, error]
	Exec(ctx context.Context, id string, c shim.ExecConfig, stdio shim.Stdio, resize <-chan shim.Size) (shim.ExitStatus, error)
	Attach(ctx context.Context, id string, stdio shim.Stdio, resize <-chan shim.Size) (shim.ExitStatus, error)
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Shutdown(ctx context.Context) error
}

// PodShims are the real ones: processes of the podshim binary.
type PodShims struct {
	// Binary is podshim's path.
	Binary string
}

// Launch implements Shims.
func (s PodShims) Launch(ctx context.Context, c shim.PodConfig) (Sandbox, error) {
	return orNil(shim.Launch(ctx, s.Binary, c))
}

// Attach implements Shims.
func (s PodShims) Attach(ctx context.Context, stateDir string) (Sandbox, error) {
	return orNil(shim.Attach(ctx, stateDir))
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil(p *shim.Pod, err error) (Sandbox, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// List implements Shims.
func (s PodShims) List(root string) ([]string, error) { return shim.List(root) }

// ReadState implements Shims.
func (s PodShims) ReadState(stateDir string) (shim.PodConfig, shim.State, error) {
	return shim.ReadState(stateDir)
}

// Reap implements Shims.
func (s PodShims) Reap(ctx context.Context, stateDir string) error { return shim.Reap(ctx, stateDir) }
