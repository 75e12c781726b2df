package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/volume"
)

// imageVolumes makes volumes of images (KEP-4639): read-only, and nothing in them can be executed. It implements volume.Plugin.
type imageVolumes struct{ a *Agent }

// mountID is what the image store knows a volume by, where containers have their ids.
func mountID(uid types.UID, name string) string {
	return "volume-" + volume.Hash(string(uid), "/", name)
}

// Mount implements volume.Plugin.
func (v imageVolumes) Mount(ctx context.Context, r volume.Request) (string, error) {
	var own, parent unix.Stat_t
	if unix.Lstat(r.Dir, &own) == nil && unix.Lstat(filepath.Dir(r.Dir), &parent) == nil && own.Dev != parent.Dev {
		return r.Dir, nil // mounted already
	}
	// The pull policies, secrets and events are those of a container's image; what a pod's events say of it names the volume.
	c := &corev1.Container{Name: r.Name, Image: r.Source.Image.Reference, ImagePullPolicy: r.Source.Image.PullPolicy}
	img, reason, err := v.a.obtain(ctx, r.Pod, c)
	if err != nil {
		return "", fmt.Errorf("%s: %w", reason, err)
	}
	root, err := v.a.Images.Mount(ctx, img.ID, mountID(r.Pod.UID, r.Name))
	if err != nil {
		return "", err
	}
	if err := unix.Mount(root, r.Dir, "", unix.MS_BIND, ""); err != nil {
		return "", &os.PathError{Op: "bind", Path: r.Dir, Err: err}
	}
	const flags = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("", r.Dir, "", flags, ""); err != nil {
		_ = unix.Unmount(r.Dir, unix.MNT_DETACH)
		return "", &os.PathError{Op: "remount read-only", Path: r.Dir, Err: err}
	}
	return r.Dir, nil
}

// Path implements volume.Plugin.
func (imageVolumes) Path(r volume.Request) string { return r.Dir }

// Unmount implements volume.Plugin.
func (v imageVolumes) Unmount(ctx context.Context, uid types.UID, dir string) error {
	var own, parent unix.Stat_t
	if unix.Lstat(dir, &own) == nil && unix.Lstat(filepath.Dir(dir), &parent) == nil && own.Dev != parent.Dev {
		if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
	}
	return v.a.Images.Unmount(ctx, mountID(uid, filepath.Base(dir)))
}
