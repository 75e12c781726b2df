package runspec

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/shim"
)

// Input is what a container's specification is made from.
type Input struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	Image     image.Config
	// Args and Env are the final command line and environment.
	Args, Env []string
	// User is who runs, resolved in the image.
	User   image.User
	Rootfs string
	// Mounts are added to the usual ones, in order; one on a usual destination replaces it.
	Mounts []specs.Mount
	// Devices are the host's, for privileged containers.
	Devices []specs.LinuxDevice
	// Volumes are the block volumes that the container has as devices, with what it may do with them.
	Volumes []BlockDevice
	// MemoryCapacity of the node in bytes, for the OOM score.
	MemoryCapacity int64
	// KernelCaps are all capabilities that the kernel knows, "CAP_…", for privileged containers and "ALL".
	KernelCaps []string
	// DefaultAppArmor loads the AppArmor profile RuntimeDefault and returns its name; nil where the kernel has no AppArmor.
	DefaultAppArmor func() (string, error)
	// LocalhostProfile reads a seccomp profile of type Localhost; nil if there are none.
	LocalhostProfile func(name string) (*specs.LinuxSeccomp, error)
}

// Build makes the specification.
func Build(in Input) (*specs.Spec, error) {
	spec := shim.DefaultSpec()
	spec.Root = &specs.Root{Path: in.Rootfs}
	spec.Process.Args, spec.Process.Env = in.Args, in.Env
	spec.Process.Cwd = workingDir(in)
	spec.Process.Terminal = in.Container.TTY
	spec.Process.User = specs.User{UID: in.User.UID, GID: in.User.GID, AdditionalGids: Groups(in.Pod, in.User)}
	score := OOMScore(in.Pod, in.Container, in.MemoryCapacity)
	spec.Process.OOMScoreAdj = &score
	spec.Mounts = overlay(spec.Mounts, in.Mounts)
	limitResources(spec, in)
	if err := secure(spec, in); err != nil {
		return nil, err
	}
	for _, d := range in.Volumes {
		d.add(spec)
	}
	return spec, nil
}

func limitResources(spec *specs.Spec, in Input) {
	devices := spec.Linux.Resources.Devices
	spec.Linux.Resources = Resources(&in.Container.Resources)
	spec.Linux.Resources.Devices = devices
}

func workingDir(in Input) string {
	switch {
	case in.Container.WorkingDir != "":
		return in.Container.WorkingDir
	case in.Image.WorkingDir != "":
		return in.Image.WorkingDir
	}
	return "/"
}

// overlay adds mounts to the usual ones and puts parents before what is mounted below them.
func overlay(usual, added []specs.Mount) []specs.Mount {
	taken := map[string]bool{}
	for _, m := range added {
		taken[m.Destination] = true
	}
	var all []specs.Mount
	for _, m := range usual {
		if !taken[m.Destination] {
			all = append(all, m)
		}
	}
	return append(all, sortByDepth(added)...)
}

func sortByDepth(mounts []specs.Mount) []specs.Mount {
	sorted := append([]specs.Mount{}, mounts...)
	depth := func(m specs.Mount) int { return strings.Count(strings.Trim(m.Destination, "/"), "/") }
	for i := 1; i < len(sorted); i++ {
		for j := i; j > 0 && depth(sorted[j]) < depth(sorted[j-1]); j-- {
			sorted[j], sorted[j-1] = sorted[j-1], sorted[j]
		}
	}
	return sorted
}
