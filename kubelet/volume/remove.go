package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// isMountPoint says whether something is mounted at exactly this path.
func isMountPoint(path string) (bool, error) {
	mounted, err := mountinfo.Mounted(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}

// removeTree removes a directory of ours: first everything mounted in it is unmounted, then the files are deleted, device
// by device identity checked, so that a mount that appeared meanwhile is refused rather than emptied.
func removeTree(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	parent, name := filepath.Split(filepath.Clean(dir))
	fd, err := unix.Open(parent, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: parent, Err: err}
	}
	defer unix.Close(fd)
	return removeAt(fd, name, dir)
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

const (
	// maxDepth is how far down a tree is deleted with a descriptor for each level; what lies deeper, which containers can make at will, is
	// first moved up. Honest trees are not as deep.
	maxDepth = 64
	// namesAtOnce is how many names of a directory are read at a time: some hundred KB.
	namesAtOnce = 1 << 12
)

// remover deletes one tree.
type remover struct {
	// top is the tree's own directory; moved counts what was moved up into it.
	top   *os.File
	moved int
}

// removeAt removes name in the directory parent, with all below it, following no link and crossing no mount. path is for
// messages.
func removeAt(parent int, name, path string) error { return (&remover{}).remove(parent, name, path, 0) }

func (r *remover) remove(parent int, name, path string, depth int) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	}
	fd, err := unix.Openat2(parent, name, &how)
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%s is mounted: refusing to delete through it", path)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if depth == 0 {
		r.top = f
	}
	if depth == maxDepth {
		return r.moveUp(parent, name, path)
	}
	if err := r.empty(f, path, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}

// empty removes everything in a directory, also what is moved into it meanwhile.
func (r *remover) empty(f *os.File, path string, depth int) error {
	for {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		names, err := f.Readdirnames(namesAtOnce)
		if len(names) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for _, n := range names {
			if err := r.remove(int(f.Fd()), n, filepath.Join(path, n), depth+1); err != nil {
				return err
			}
		}
	}
}

// moveUp moves a directory into the tree's own, where it is deleted in its turn.
func (r *remover) moveUp(parent int, name, path string) error {
	for {
		r.moved++
		err := unix.Renameat2(parent, name, int(r.top.Fd()), fmt.Sprint(".deep-", r.moved), unix.RENAME_NOREPLACE)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return &os.PathError{Op: "move", Path: path, Err: err}
		}
	}
}
