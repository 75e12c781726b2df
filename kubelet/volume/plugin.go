package volume

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Plugin makes volumes that are mounted in the pod's directory by something else than this package: a driver, a file server, an image
// store. Its name is that of the directory that its volumes are in, such as "kubernetes.io~csi".
//
// Both methods may be repeated after any failure, also by another kubelet process; calls for one pod come one at a time.
type Plugin interface {
	// Mount makes the volume at or below r.Dir, which exists, and returns its path: a directory, or for a block volume a device.
	Mount(ctx context.Context, r Request) (path string, err error)
	// Path is what Mount returned, found again without doing anything.
	Path(r Request) string
	// Unmount takes away what Mount made in dir, of which nothing else may be known. What is still mounted in it afterwards is unmounted
	// by the manager. An empty dir is fine.
	Unmount(ctx context.Context, uid types.UID, dir string) error
}

// Refresher is a [Plugin] whose volumes may have to be brought up to date while they are in use.
type Refresher interface {
	// Refresh brings a volume up to date that Mount has made. It returns when that is due again; zero if never.
	Refresh(ctx context.Context, r Request) (again time.Time, err error)
}

// Request is one volume of one pod.
type Request struct {
	Pod *corev1.Pod
	// Name is the volume's in the pod, Source what the pod says of it.
	Name   string
	Source *corev1.Volume
	// PV is the volume that the claim is bound to; nil for one that the pod describes itself.
	PV *corev1.PersistentVolume
	// Dir is the volume's own directory, <pod>/volumes/<plugin>/<name>.
	Dir string
}

// ReadOnly says whether the pod has the whole volume read-only.
func (r Request) ReadOnly() bool {
	if c := r.Source.PersistentVolumeClaim; c != nil {
		return c.ReadOnly
	}
	return false
}

// Block says whether the volume is a device rather than a file system.
func (r Request) Block() bool {
	return r.PV != nil && r.PV.Spec.VolumeMode != nil && *r.PV.Spec.VolumeMode == corev1.PersistentVolumeBlock
}

// names of plug-ins, as Kubernetes escapes them in paths.
const (
	PluginCSI   = "kubernetes.io~csi"
	PluginNFS   = "kubernetes.io~nfs"
	PluginImage = "kubernetes.io~image"
	PluginLocal = "kubernetes.io~local-volume"
)

// pluginOf names the plug-in of a volume that one makes; empty for others.
func pluginOf(r Request) string {
	switch {
	case r.PV != nil && r.PV.Spec.CSI != nil, r.PV == nil && r.Source.CSI != nil:
		return PluginCSI
	case r.PV != nil && r.PV.Spec.NFS != nil, r.PV == nil && r.Source.NFS != nil:
		return PluginNFS
	case r.PV == nil && r.Source.Image != nil:
		return PluginImage
	case localDevice(r):
		return PluginLocal
	}
	return ""
}

// request is a volume as plug-ins see it. Claims are looked up, and refused if the pod must not use them; starting says that it is about to
// start.
func (m *Manager) request(ctx context.Context, p *corev1.Pod, v *corev1.Volume, starting bool) (Request, error) {
	r := Request{Pod: p, Name: v.Name, Source: v}
	if name := ClaimName(p, v); name != "" {
		c, pv, err := m.c.Sources.Claim(ctx, p.Namespace, name)
		if err == nil {
			err = usable(c, pv, p, v, starting)
		}
		if err != nil {
			return Request{}, err
		}
		r.PV = pv
		r.Dir = m.dir(p.UID, pluginOf(r), pv.Name)
		return r, nil
	}
	r.Dir = m.dir(p.UID, pluginOf(r), v.Name)
	return r, nil
}

// plugged makes a volume with its plug-in.
func (m *Manager) plugged(ctx context.Context, r Request) (string, error) {
	plugin := m.c.Plugins[pluginOf(r)]
	if plugin == nil {
		return "", fmt.Errorf("%w for volume %q", ErrUnsupported, r.Name)
	}
	if err := os.MkdirAll(r.Dir, 0o750); err != nil {
		return "", err
	}
	return plugin.Mount(ctx, r)
}

// lookAgain is when a claim is looked up again whose volume may have to be brought up to date: the API may be away, and the volume works.
const lookAgain = time.Minute

// refreshPlugged brings a volume up to date that a plug-in made.
func (m *Manager) refreshPlugged(ctx context.Context, p *corev1.Pod, v *corev1.Volume) (time.Time, error) {
	r, err := m.known(ctx, p, v)
	if err != nil {
		return m.c.Now().Add(lookAgain), nil
	}
	if plugin, ok := m.c.Plugins[pluginOf(r)].(Refresher); ok {
		return plugin.Refresh(ctx, r)
	}
	return time.Time{}, nil
}

// unplug has the plug-ins take away what they made for a pod.
func (m *Manager) unplug(ctx context.Context, uid types.UID) error {
	var all error
	for name, plugin := range m.c.Plugins {
		base := filepath.Join(m.PodDir(uid), "volumes", name)
		entries, err := os.ReadDir(base)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		for _, e := range entries {
			if err := plugin.Unmount(ctx, uid, filepath.Join(base, e.Name())); err != nil {
				all = errors.Join(all, fmt.Errorf("UnmountVolume.TearDown failed for volume %q: %w", e.Name(), err))
			}
		}
	}
	return all
}

// NFS mounts volumes of file servers, with the mount helper of the host's package nfs-common.
type NFS struct {
	// Helper is the program's path; /sbin/mount.nfs if empty.
	Helper string
}

// Mount implements [Plugin].
func (n NFS) Mount(ctx context.Context, r Request) (string, error) {
	source, options := nfsSource(r)
	mounted, err := isMountPoint(r.Dir)
	if err != nil || mounted {
		return r.Dir, err
	}
	helper := n.Helper
	if helper == "" {
		helper = "/sbin/mount.nfs"
	}
	if _, err := os.Stat(helper); err != nil {
		return "", fmt.Errorf("mount of type nfs needs the helper program %s; on Debian: apt-get install nfs-common", helper)
	}
	args := []string{source, r.Dir}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	if out, err := exec.CommandContext(ctx, helper, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mount failed: %w; mounting arguments: -t nfs %s; output: %s", err, strings.Join(args, " "), strings.TrimSpace(string(out)))
	}
	return r.Dir, nil
}

// Path implements [Plugin].
func (NFS) Path(r Request) string { return r.Dir }

// Unmount implements [Plugin]: the manager unmounts.
func (NFS) Unmount(context.Context, types.UID, string) error { return nil }

func nfsSource(r Request) (source string, options []string) {
	nfs := r.Source.NFS
	if r.PV != nil {
		nfs = r.PV.Spec.NFS
		options = append(options, r.PV.Spec.MountOptions...)
	}
	if nfs.ReadOnly || r.ReadOnly() {
		options = append(options, "ro")
	}
	return nfs.Server + ":" + nfs.Path, options
}

// Hash names something of arbitrary length by 64 hexadecimal digits, for paths.
func Hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}
