package volume

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func fsGroup(p *corev1.Pod) *int64 {
	if s := p.Spec.SecurityContext; s != nil {
		return s.FSGroup
	}
	return nil
}

// applyFSGroup is ApplyFSGroup with what the pod says.
func applyFSGroup(dir string, p *corev1.Pod) error {
	group := fsGroup(p)
	if group == nil {
		return nil
	}
	policy := p.Spec.SecurityContext.FSGroupChangePolicy
	return ApplyFSGroup(dir, *group, policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch)
}

// ApplyFSGroup gives a volume to a group: group ownership, read and write for the group, and set-group-id on directories so that new
// files follow. With onMismatch nothing is done if the volume's root is right already.
//
// Containers may be changing the volume at the same time. So every step is taken from the descriptor of a directory that is known to be
// in the volume, follows no link and crosses no mount: nothing outside is ever changed, whatever is swapped for what. A hard link out
// of the volume is nothing to fear: link(2) does not cross mounts.
func ApplyFSGroup(dir string, group int64, onMismatch bool) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var root unix.Stat_t
	if err := unix.Fstat(fd, &root); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if onMismatch && int64(root.Gid) == group && root.Mode&unix.S_ISGID != 0 && root.Mode&0o660 == 0o660 {
		return nil
	}
	// The root is changed last: with onMismatch, it says that all is done.
	if err := giveTree(fd, int(group)); err != nil {
		return &os.PathError{Op: "set fsGroup in", Path: dir, Err: err}
	}
	return nil
}

// giveTree changes what is in the directory that fd refers to, and then the directory.
func giveTree(fd, group int) error {
	entries, err := list(fd)
	if err != nil {
		return err
	}
	for _, name := range entries {
		if err := giveEntry(fd, name, group); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return give(fd, group)
}

// giveEntry changes one entry of a directory, with all below it.
func giveEntry(parent int, name string, group int) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH}
	fd, err := unix.Openat2(parent, name, &how)
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EAGAIN):
		return nil // mounted there: not of this volume
	case errors.Is(err, unix.ELOOP):
		return unix.Fchownat(parent, name, -1, group, unix.AT_SYMLINK_NOFOLLOW)
	case err != nil:
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return unix.Fchownat(fd, "", -1, group, unix.AT_EMPTY_PATH)
	case unix.S_IFDIR:
		return giveTree(fd, group)
	}
	return give(fd, group)
}

// give changes the very file or directory that fd, opened with O_PATH, refers to.
func give(fd, group int) error {
	var st unix.Stat_t
	if err := unix.Fchownat(fd, "", -1, group, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	mode := st.Mode&0o7777 | 0o660
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		mode |= unix.S_ISGID | 0o110
	}
	// The link in /proc leads to this descriptor's own file, which is what fchmodat2(2) does on kernels that have it (6.6).
	return unix.Chmod(procLink(fd), mode)
}

// list reads the names in the directory that an O_PATH descriptor refers to.
func list(fd int) ([]string, error) {
	readable, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(readable), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}
