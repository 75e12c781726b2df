package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// SubPath binds the part of a volume that a container mounts to a place of its own, and returns that place. root is the
// volume's path, sub the expanded subPath; what does not exist is made as a directory, which whoever may write to the volume's root may
// write to. Neither the look-up nor the creation can leave root, whatever happens to the tree at the same time.
func (m *Manager) SubPath(uid types.UID, volume, container string, index int, root, sub string) (string, error) {
	if !filepath.IsLocal(sub) {
		return "", fmt.Errorf("subPath %q must be relative and must not contain '..'", sub)
	}
	fd, err := openWithin(root, sub)
	if err != nil {
		return "", fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", volume, container, err)
	}
	defer unix.Close(fd)
	target := filepath.Join(m.PodDir(uid), "volume-subpaths", volume, container, strconv.Itoa(index))
	if err := makeTarget(fd, target); err != nil {
		return "", err
	}
	return target, bindDescriptor(fd, target)
}

// openWithin opens root/sub, making directories on the way. Links are resolved as if root were "/".
func openWithin(root, sub string) (int, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(base)
	fd, err := openIn(base, sub)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	return makeWithin(base, sub)
}

// openIn opens a path below base, confined to it.
func openIn(base int, path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(base, path, &how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue // a rename raced with the look-up; the kernel asks for another try
		}
		return fd, err
	}
}

// makeWithin makes the directories of path below base one by one, each within the descriptor of its parent.
func makeWithin(base int, path string) (int, error) {
	done := ""
	at, err := openIn(base, ".")
	if err != nil {
		return -1, err
	}
	var root unix.Stat_t
	if err := unix.Fstat(base, &root); err != nil {
		_ = unix.Close(at)
		return -1, err
	}
	mode := root.Mode & 0o1777
	for _, part := range splitPath(path) {
		done = filepath.Join(done, part)
		next, err := openIn(base, done)
		if errors.Is(err, unix.ENOENT) {
			made := unix.Mkdirat(at, part, mode)
			if made != nil && !errors.Is(made, unix.EEXIST) {
				_ = unix.Close(at)
				return -1, made
			}
			if next, err = openIn(base, done); err == nil && made == nil {
				err = open(next, mode)
			}
		}
		_ = unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

// open lets others write to a directory that was just made, as its mode says; the umask has kept that from it. What somebody has put in its
// place meanwhile, and is not made so, is left alone. A set-group-ID bit is that of the directory above.
func open(fd int, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	const masked = 0o022
	if have := st.Mode & 0o1777; have == mode || have|masked != mode|masked || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		return nil
	}
	return unix.Chmod(procLink(fd), st.Mode&unix.S_ISGID|mode)
}

func splitPath(path string) (parts []string) {
	for rest := filepath.Clean(path); rest != ""; {
		part, after, _ := strings.Cut(rest, "/")
		if part != "" && part != "." {
			parts = append(parts, part)
		}
		rest = after
	}
	return parts
}

// makeTarget makes the mount point: a directory for a directory, a file for anything else.
func makeTarget(fd int, target string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.Mkdir(target, 0o750); err != nil && !os.IsExist(err) {
			return err
		}
		return nil
	}
	// What is there already is not opened: it may be what is mounted there since the container's last start, on a read-only file system, a
	// FIFO, a program that runs.
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// bindDescriptor mounts what fd refers to at target, anew if something is mounted there.
func bindDescriptor(fd int, target string) error {
	if mounted, err := isMountPoint(target); err != nil {
		return err
	} else if mounted {
		if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
			return &os.PathError{Op: "unmount", Path: target, Err: err}
		}
	}
	if err := unix.Mount(procLink(fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "bind", Path: target, Err: err}
	}
	return nil
}

// procLink is a path of exactly what a descriptor refers to.
func procLink(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// FindVolume returns the volume that a mount refers to.
func FindVolume(p *corev1.Pod, name string) (*corev1.Volume, bool) {
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Name == name {
			return &p.Spec.Volumes[i], true
		}
	}
	return nil, false
}
