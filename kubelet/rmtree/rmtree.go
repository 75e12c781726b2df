// Package rmtree deletes trees of files that containers have written, which may be as deep and as wide as they like.
//
//	err := rmtree.Remove("/var/lib/kubelet/pods/…/volumes/kubernetes.io~empty-dir/cache")
package rmtree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrMounted says that a tree was not removed because something is mounted in it.
var ErrMounted = errors.New("something is mounted there: refusing to delete through it")

const (
	// maxDepth is how far down a tree is deleted with a descriptor for each level; what lies deeper, which containers can make at will, is
	// first moved up. Honest trees are not as deep.
	maxDepth = 64
	// namesAtOnce is how many names of a directory are read at a time: some hundred KB.
	namesAtOnce = 1 << 12
)

// Remove removes what is at path with all below it, following no symbolic link and crossing no mount: then it fails with ErrMounted, and
// what is mounted there keeps its files. If there is nothing it is fine.
func Remove(path string) error {
	dir, name := filepath.Split(filepath.Clean(path))
	parent, err := unix.Open(filepath.Clean(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(parent)
	return RemoveAt(parent, name, path)
}

// RemoveAt is Remove of a name in an open directory; path is for messages.
func RemoveAt(parent int, name, path string) error {
	return (&remover{}).remove(parent, name, path, 0)
}

// remover deletes one tree.
type remover struct {
	// top is the tree's own directory; moved counts what was moved up into it.
	top   *os.File
	moved int
}

func (r *remover) remove(parent int, name, path string, depth int) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	f, err := open(parent, name, path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
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

// open opens a directory that is on its parent's mount. Bind mounts of one file system count as mounts, too.
func open(parent int, name, path string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	}
	for {
		fd, err := unix.Openat2(parent, name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.EXDEV):
			return nil, fmt.Errorf("%s: %w", path, ErrMounted)
		// EAGAIN: something was renamed meanwhile and the kernel cannot tell whether we got out.
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
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
