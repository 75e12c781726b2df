package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/runspec"
	"bareboat.dev/kubelet/volume"
)

// mounts are the volumes and files that a container sees beyond its image.
func (a *Agent) mounts(ctx context.Context, p *corev1.Pod, c *corev1.Container, env []string, r *record) ([]specs.Mount, error) {
	var list []specs.Mount
	taken := map[string]bool{}
	for i := range c.VolumeMounts {
		m, err := a.volumeMount(ctx, p, c, i, env)
		if err != nil {
			return nil, err
		}
		taken[m.Destination] = true
		list = append(list, m)
	}
	dir := a.volumes.PodDir(p.UID)
	readOnly := c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem
	for destination, file := range map[string]string{"/etc/hosts": "etc-hosts", "/etc/resolv.conf": "resolv.conf", "/etc/hostname": "hostname"} {
		if !taken[destination] {
			list = append(list, bind(filepath.Join(dir, file), destination, readOnly))
		}
	}
	message, err := a.messageFile(p, c, r)
	if err != nil {
		return nil, err
	}
	return append(list, bind(message, messagePath(c), false)), nil
}

// blockDevices are the container's block volumes.
func (a *Agent) blockDevices(ctx context.Context, p *corev1.Pod, c *corev1.Container) ([]runspec.BlockDevice, error) {
	var list []runspec.BlockDevice
	for _, d := range c.VolumeDevices {
		v, ok := volume.FindVolume(p, d.Name)
		if !ok {
			return nil, fmt.Errorf("volume %q of container %q is not defined by the pod", d.Name, c.Name)
		}
		host, err := a.volumes.Path(ctx, p, v)
		if err == nil {
			err = a.volumes.CheckMode(ctx, p, v, corev1.PersistentVolumeBlock)
		}
		if err != nil {
			return nil, err
		}
		claim := v.PersistentVolumeClaim
		device, err := runspec.FindBlockDevice(host, d.DevicePath, claim != nil && claim.ReadOnly)
		if err != nil {
			return nil, err
		}
		list = append(list, device)
	}
	return list, nil
}

func bind(source, destination string, readOnly bool) specs.Mount {
	m := specs.Mount{Source: source, Destination: destination, Type: "bind", Options: []string{"rbind", "rprivate", "rw"}}
	if readOnly {
		m.Options[2] = "ro"
	}
	return m
}

// messagePath is where the container writes its termination message.
func messagePath(c *corev1.Container) string {
	if c.TerminationMessagePath != "" {
		return c.TerminationMessagePath
	}
	return corev1.TerminationMessagePathDefault
}

// messageFile makes the host's file of the termination message. Any user of the container may write it.
func (a *Agent) messageFile(p *corev1.Pod, c *corev1.Container, r *record) (string, error) {
	const short = 8 // of the id, enough to tell a container's instances apart
	path := filepath.Join(a.volumes.PodDir(p.UID), "containers", c.Name, r.ID[:short])
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return "", err
	}
	r.MessagePath = path
	if err := f.Chmod(0o666); err != nil {
		_ = f.Close()
		return "", err
	}
	return path, f.Close()
}

// volumeMount is one of the container's volume mounts.
func (a *Agent) volumeMount(ctx context.Context, p *corev1.Pod, c *corev1.Container, i int, env []string) (specs.Mount, error) {
	m := &c.VolumeMounts[i]
	v, ok := volume.FindVolume(p, m.Name)
	if !ok {
		return specs.Mount{}, fmt.Errorf("volume %q of container %q is not defined by the pod", m.Name, c.Name)
	}
	source, err := a.volumes.Path(ctx, p, v)
	if err == nil {
		err = a.volumes.CheckMode(ctx, p, v, corev1.PersistentVolumeFilesystem)
	}
	if err != nil {
		return specs.Mount{}, err
	}
	sub := m.SubPath
	if m.SubPathExpr != "" {
		if sub, err = expandStrict(m.SubPathExpr, env); err != nil {
			return specs.Mount{}, err
		}
	}
	if v.HostPath != nil {
		// What a hostPath without a type names may not exist yet; the other runtimes make it, too.
		if err := os.MkdirAll(source, 0o755); err != nil && !os.IsExist(err) {
			if _, statErr := os.Stat(source); statErr != nil {
				return specs.Mount{}, err
			}
		}
	}
	if sub != "" {
		if source, err = a.volumes.SubPath(p.UID, m.Name, c.Name, i, source, sub); err != nil {
			return specs.Mount{}, err
		}
	}
	return specs.Mount{Source: source, Destination: absolute(m.MountPath), Type: "bind", Options: mountOptions(m, v)}, nil
}

func absolute(path string) string {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return filepath.Clean(path)
}

// mountOptions follow the mount's propagation and read-only settings. Volumes that the kubelet writes are read-only to
// containers whatever they say.
func mountOptions(m *corev1.VolumeMount, v *corev1.Volume) []string {
	options := []string{"rbind", "rprivate"}
	if m.MountPropagation != nil {
		switch *m.MountPropagation {
		case corev1.MountPropagationHostToContainer:
			options[1] = "rslave"
		case corev1.MountPropagationBidirectional:
			options[1] = "rshared"
		}
	}
	if v.Image != nil {
		// Said here, too: an option that is not said is reset by the runtime.
		options = append(options, "noexec", "nosuid", "nodev")
	}
	if !m.ReadOnly && !wholeReadOnly(v) {
		return append(options, "rw")
	}
	if r := m.RecursiveReadOnly; r != nil && *r != corev1.RecursiveReadOnlyDisabled {
		return append(options, "rro")
	}
	return append(options, "ro")
}

// wholeReadOnly says whether a volume is read-only to all containers: because the kubelet writes it, or because the pod says so.
func wholeReadOnly(v *corev1.Volume) bool {
	switch {
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil, v.Image != nil:
		return true
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ReadOnly
	case v.CSI != nil:
		return v.CSI.ReadOnly != nil && *v.CSI.ReadOnly
	case v.NFS != nil:
		return v.NFS.ReadOnly
	}
	return false
}

// expandStrict is Expand for subPathExpr, where an unknown variable is an error.
func expandStrict(expr string, env []string) (string, error) {
	values := map[string]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		values[name] = value
	}
	var missing []string
	out := runspec.Expand(expr, func(name string) (string, bool) {
		v, ok := values[name]
		if !ok {
			missing = append(missing, name)
		}
		return v, ok
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("missing value for %q", missing[0])
	}
	return out, nil
}
