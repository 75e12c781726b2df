// Package du measures trees of files that containers write, which may be as deep, as wide and as restless as they like.
//
//	size, err := du.Measure("/var/lib/kubelet/pods/…/volumes/kubernetes.io~empty-dir/cache")
package du

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxOpen is how many directories on the way down are kept open: where they lie is certain, then, whoever moves them. Further down the way
// back is asked of the file system. Hundreds of levels are more than honest programs make; two trees are measured at a time.
const maxOpen = 256

// batch is how many names of a directory are read at a time.
const batch = 1024

// Size is what a tree of files takes.
type Size struct {
	// Bytes of blocks in use, and Inodes, both with the tree's own root. A file with several names counts once.
	Bytes, Inodes int64
}

// Measure adds up a tree, by descriptors, so that no path in it is too long. It follows no link and leaves no file system. What cannot be
// read is not in the size, and is the error; what was seen is in the size even then. fs.ErrNotExist if there is nothing at dir.
func Measure(dir string) (Size, error) {
	fd, err := unix.Open(dir, openFlags, 0)
	if err != nil {
		return Size{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	w := &walk{seen: map[uint64]bool{}}
	if err := w.run(os.NewFile(uintptr(fd), dir)); err != nil {
		return w.size, fmt.Errorf("measure %s: %w", dir, err)
	}
	return w.size, nil
}

const openFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// walk is one measurement.
type walk struct {
	size   Size
	dev    uint64
	seen   map[uint64]bool // inodes with several names
	levels []level
	failed error // the first failure
}

// level is a directory on the way down.
type level struct {
	dir  *os.File // nil if it is not kept open
	ino  uint64
	todo []string // its directories that have not been looked into
}

// run takes the root over.
func (w *walk) run(root *os.File) error {
	defer func() {
		for _, l := range w.levels {
			if l.dir != nil {
				_ = l.dir.Close()
			}
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		_ = root.Close()
		return err
	}
	w.dev = st.Dev
	w.count(&st)
	w.enter(root, st.Ino)
	for len(w.levels) > 0 {
		top := &w.levels[len(w.levels)-1]
		if len(top.todo) == 0 {
			w.leave()
			continue
		}
		name := top.todo[len(top.todo)-1]
		top.todo = top.todo[:len(top.todo)-1]
		w.descend(top.dir, name)
	}
	return w.failed
}

// descend goes into a directory, if it still is one.
func (w *walk) descend(parent *os.File, name string) {
	fd, err := unix.Openat(int(parent.Fd()), name, openFlags, 0)
	if err != nil {
		w.fail(err)
		return
	}
	child := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != w.dev {
		w.fail(err)
		_ = child.Close()
		return
	}
	if len(w.levels) > maxOpen {
		top := &w.levels[len(w.levels)-1]
		_ = top.dir.Close()
		top.dir = nil
	}
	w.enter(child, st.Ino)
}

// enter counts what is in a directory and makes it the lowest level.
func (w *walk) enter(dir *os.File, ino uint64) {
	l := level{dir: dir, ino: ino}
	for {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				w.fail(err)
				continue
			}
			if st.Dev != w.dev {
				continue
			}
			w.count(&st)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				l.todo = append(l.todo, name)
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				w.fail(err)
			}
			break
		}
	}
	w.levels = append(w.levels, l)
}

// leave goes back up. If the way back leads elsewhere, the directory has been moved: then on from the lowest one that is open.
func (w *walk) leave() {
	last := w.levels[len(w.levels)-1]
	w.levels = w.levels[:len(w.levels)-1]
	defer last.dir.Close()
	if len(w.levels) == 0 || w.levels[len(w.levels)-1].dir != nil {
		return
	}
	above := &w.levels[len(w.levels)-1]
	fd, err := unix.Openat(int(last.dir.Fd()), "..", openFlags, 0)
	if err == nil {
		var st unix.Stat_t
		up := os.NewFile(uintptr(fd), "..")
		if err = unix.Fstat(fd, &st); err == nil && st.Dev == w.dev && st.Ino == above.ino {
			above.dir = up
			return
		}
		_ = up.Close()
		err = errors.Join(err, errors.New("a directory was moved"))
	}
	w.fail(err)
	for w.levels[len(w.levels)-1].dir == nil {
		w.levels = w.levels[:len(w.levels)-1]
	}
}

func (w *walk) count(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if w.seen[st.Ino] {
			return
		}
		w.seen[st.Ino] = true
	}
	const block = 512 // stat(2): st_blocks is in these units whatever the file system's own
	w.size.Bytes += st.Blocks * block
	w.size.Inodes++
}

// fail notes a failure; what has gone or changed meanwhile is none.
func (w *walk) fail(err error) {
	if w.failed == nil && err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		w.failed = err
	}
}
