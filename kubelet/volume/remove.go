package volume

import (
	"errors"
	"os"
	"sort"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/rmtree"
)

// isMountPoint says whether something is mounted at exactly this path.
func isMountPoint(path string) (bool, error) {
	mounted, err := mountinfo.Mounted(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}

// removeTree removes a directory of ours: first everything mounted in it is unmounted, then the files are deleted. A
// mount that appeared meanwhile is refused rather than emptied.
func removeTree(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return rmtree.Remove(dir)
}

// unmountBelow unmounts dir and everything below it, the deepest and newest first.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	sort.SliceStable(mounts, func(i, j int) bool {
		return len(mounts[i].Mountpoint) > len(mounts[j].Mountpoint) ||
			len(mounts[i].Mountpoint) == len(mounts[j].Mountpoint) && mounts[i].ID > mounts[j].ID
	})
	for _, m := range mounts {
		if m.Mountpoint != dir && !strings.HasPrefix(m.Mountpoint, dir+"/") {
			continue
		}
		if err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return &os.PathError{Op: "unmount", Path: m.Mountpoint, Err: err}
		}
	}
	return nil
}
