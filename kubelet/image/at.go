package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openIn opens a path below a directory as if that were the root of all files: no "..", no symbolic link, no race leads out of it.
func openIn(root int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, path, &how)
		// EAGAIN: something was renamed meanwhile and the kernel cannot tell whether we got out.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// removeTree removes a directory and all below it, following no symbolic link and entering no other mount: then it fails, and what is
// mounted there keeps its files. A missing one is fine.
func removeTree(path string) error {
	parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(parent)
	mount, err := mountID(parent, "")
	if err != nil {
		return err
	}
	if err := removeAt(parent, filepath.Base(path), mount); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// errMounted says that a tree was not removed because something is mounted in it.
var errMounted = errors.New("something is mounted in it")

func removeAt(dir int, name string, mount uint64) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if at, err := mountID(dir, name); err != nil || at != mount {
		return errors.Join(err, errMounted)
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	if err := removeEntries(d, mount); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// removeEntries empties a directory. Reading goes on from the start after each batch, as entries vanish under it.
func removeEntries(d *os.File, mount uint64) error {
	const batch = 1024
	for {
		names, err := d.Readdirnames(batch)
		for _, name := range names {
			if err := removeAt(int(d.Fd()), name, mount); err != nil {
				return err
			}
		}
		if len(names) == 0 || err != nil {
			return nil
		}
		if _, err := d.Seek(0, 0); err != nil {
			return err
		}
	}
}

// mountID says which mount a path is in: unlike the device, it tells bind mounts of one file system apart.
func mountID(dir int, name string) (uint64, error) {
	var st unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Statx(dir, name, flags, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	return st.Mnt_id, nil
}

// syncFS writes everything in the file system of an open directory to disk.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeFile replaces a file such that a crash leaves the old content or the new, and the new is on disk when it returns.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}
