package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNoMapping: the kernel, or the store's file system, cannot give files other owners than those on the disk.
var ErrNoMapping = errors.New("no id-mapped mounts here")

// Owners says whose a container's files are: those of a user namespace.
type Owners struct {
	// UserNS is a path of the namespace, First what its root is on the host.
	UserNS string
	First  uint32
}

// first is what root is on the host; nil is the host itself.
func (o *Owners) first() uint32 {
	if o == nil {
		return 0
	}
	return o.First
}

// mapLayers mounts each layer below dir with the owners of the namespace, and returns the places in the same order.
func mapLayers(dir string, layers []string, userNS string) (mapped []string, undo func(), err error) {
	undo = func() { _ = unmapLayers(dir) } // what stays is unmounted with the container
	defer func() {
		if err != nil {
			undo()
		}
	}()
	ns, err := os.Open(userNS)
	if err != nil {
		return nil, undo, err
	}
	defer ns.Close()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, undo, err
	}
	for i, layer := range layers {
		at := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(at, 0o700); err != nil {
			return nil, undo, err
		}
		if err := mapMount(layer, at, ns); err != nil {
			return nil, undo, err
		}
		mapped = append(mapped, at)
	}
	return mapped, undo, nil
}

// mapMount mounts a directory at another with the owners of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).
func mapMount(from, at string, ns *os.File) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: from, Err: err}
	}
	defer unix.Close(fd)
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return fmt.Errorf("%w: mount_setattr on %s: %w", ErrNoMapping, from, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: at, Err: err}
	}
	return nil
}

// unmapLayers takes away what mapLayers has made, or a part of it.
func unmapLayers(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		if err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return &os.PathError{Op: "unmount", Path: at, Err: err}
		}
		if err := unix.Rmdir(at); err != nil {
			return &os.PathError{Op: "rmdir", Path: at, Err: err}
		}
	}
	return unix.Rmdir(dir)
}
