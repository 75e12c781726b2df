package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/userns"
)

// mapper mounts images with the owners of a user namespace; [image.Store] does.
type mapper interface {
	MountMapped(ctx context.Context, imageID, containerID string, o image.Owners) (rootfs string, err error)
}

// mapped is a sandbox that may have a user namespace of its own; [shim.Pod] is one.
type mapped interface{ UserNSPath() string }

// ownUsers says whether a pod wants users of its own.
func ownUsers(p *corev1.Pod) bool { return p.Spec.HostUsers != nil && !*p.Spec.HostUsers }

// idRange is the pod's range of the host's users; nil if it has the host's.
func (a *Agent) idRange(p *corev1.Pod) (*shim.IDRange, error) {
	if !ownUsers(p) {
		return nil, nil
	}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return nil, fmt.Errorf("hostUsers: false: this node's kernel has no user namespaces: %w", err)
	}
	first, err := a.ids.Allocate(p.UID)
	if err != nil {
		return nil, err
	}
	return &shim.IDRange{First: first, Length: userns.Length}, nil
}

// removePodDir removes a pod's directory and gives back what was noted there as the pod's.
func (a *Agent) removePodDir(uid types.UID) error {
	if err := a.volumes.RemovePodDir(uid); err != nil {
		return err
	}
	a.ids.Release(uid)
	return nil
}

// mountImage makes a container's root file system, with the owners that the pod's users need.
func (a *Agent) mountImage(ctx context.Context, s Sandbox, imageID, containerID string) (string, error) {
	r := s.Config().UserNamespace
	if r == nil {
		return a.Images.Mount(ctx, imageID, containerID)
	}
	images, ok := a.Images.(mapper)
	own, both := s.(mapped)
	if !ok || !both {
		return "", image.ErrNoMapping
	}
	return images.MountMapped(ctx, imageID, containerID, image.Owners{UserNS: own.UserNSPath(), First: r.First})
}

// mapOwners has the files of binds be in the container whose they are on the host. Those of images have no owners that could be mapped:
// overlayfs cannot; they are for reading.
func mapOwners(mounts []specs.Mount) {
	for i := range mounts {
		m := &mounts[i]
		if m.Type == "bind" && !slices.Contains(m.Options, "noexec") {
			m.Options = append(m.Options, "idmap")
		}
	}
}

// openIDs reads which ranges of users the pods of an earlier kubelet have.
func openIDs(root string) (*userns.Allocator, error) {
	const most = 65535 // ranges there are in all above the host's own users (32-bit ids)
	return userns.Open(filepath.Join(root, "pods"), most)
}
