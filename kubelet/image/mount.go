package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/du"
	"bareboat.dev/kubelet/rmtree"
)

// A container's directory has these.
const (
	mountFile = "mount.json"
	upperDir  = "upper"
	workDir   = "work"
	rootfsDir = "rootfs"
	mappedDir = "mapped" // only while it is being mounted
)

// mountRecord says what a container's root file system is made of.
type mountRecord struct {
	Image  string   `json:"image"`
	Layers []string `json:"layers"`
}

var containerPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// Mount gives a container its own writable root file system made of the image's layers, and returns its path. Mounting again for the
// same container returns the same path. The image cannot be removed until Unmount.
func (s *Store) Mount(_ context.Context, imageID, containerID string) (rootfs string, err error) {
	return s.mount(imageID, containerID, nil)
}

// MountMapped is Mount for a container in a user namespace of its own: the image's files have their owners there, so that its root's are the
// container's root's. It needs id-mapped mounts below overlayfs, which Linux has from 5.19 on, on the store's file system.
func (s *Store) MountMapped(_ context.Context, imageID, containerID string, o Owners) (rootfs string, err error) {
	return s.mount(imageID, containerID, &o)
}

func (s *Store) mount(imageID, containerID string, o *Owners) (rootfs string, err error) {
	if !containerPattern.MatchString(containerID) {
		return "", fmt.Errorf("container ID %q is malformed", containerID)
	}
	m, again, err := s.reserveMount(imageID, containerID)
	if err != nil {
		return "", err
	}
	dir := s.path(containersDir, containerID)
	if again {
		if mounted, err := isMountPoint(filepath.Join(dir, rootfsDir)); err != nil || mounted {
			return filepath.Join(dir, rootfsDir), err
		}
		// Recorded but not mounted: the host was restarted. What the container wrote may be half of something.
		if err := rmtree.Remove(dir); err != nil {
			return "", err
		}
	}
	if err := s.mountAt(dir, m, o); err != nil {
		s.mu.Lock()
		delete(s.mounts, containerID)
		s.mu.Unlock()
		return "", errors.Join(fmt.Errorf("mount image %s for container %s: %w", imageID, containerID, err), unmountAll(filepath.Join(dir, rootfsDir)), rmtree.Remove(dir))
	}
	return filepath.Join(dir, rootfsDir), nil
}

// reserveMount keeps the image's layers for the container.
func (s *Store) reserveMount(imageID, containerID string) (m mountRecord, again bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, again = s.mounts[containerID]; again {
		return m, true, nil
	}
	r, err := s.findLocked(imageID)
	if err != nil {
		return m, false, err
	}
	r.LastUsed = time.Now() // durable with the next change: losing it makes the image look older, no more
	m = mountRecord{Image: r.ID, Layers: r.Layers}
	s.mounts[containerID] = m
	return m, false, nil
}

func (s *Store) mountAt(dir string, m mountRecord, o *Owners) error {
	for _, sub := range []string{"", upperDir, workDir, rootfsDir} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, mountFile), data, 0o600); err != nil {
		return err
	}
	// The root of the whole is the upper directory's: it must look as the image's own.
	if err := copyOwner(filepath.Join(s.layerPath(m.Layers[len(m.Layers)-1]), layerFS), filepath.Join(dir, upperDir), o.first()); err != nil {
		return err
	}
	var layers []string
	for _, l := range slices.Backward(m.Layers) {
		layers = append(layers, filepath.Join(s.layerPath(l), layerFS))
	}
	if o != nil {
		mapped, undo, err := mapLayers(filepath.Join(dir, mappedDir), layers, o.UserNS)
		if err != nil {
			return err
		}
		defer undo() // overlayfs has its own of each by then
		layers = mapped
	}
	lower, closeLower, err := s.lowerDirs(layers)
	if err != nil {
		return err
	}
	defer closeLower()
	options := "lowerdir=" + lower + ",upperdir=" + filepath.Join(dir, upperDir) + ",workdir=" + filepath.Join(dir, workDir)
	return mountOverlay(filepath.Join(dir, rootfsDir), options)
}

// copyOwner gives a directory the owner, as it is to be seen in a container whose ids begin at first on the host, and the mode of another.
func copyOwner(from, to string, first uint32) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return &os.PathError{Op: "stat", Path: from, Err: err}
	}
	if err := os.Chown(to, int(st.Uid+first), int(st.Gid+first)); err != nil {
		return err
	}
	return unix.Chmod(to, st.Mode&0o7777)
}

// lowerDirs is the list of layers, topmost first, as overlayfs wants it. Mount options are limited to a page: when the paths do not fit,
// their directories are named by open descriptors, which the returned function closes.
func (s *Store) lowerDirs(paths []string) (list string, closer func(), err error) {
	const room = 3 << 10 // of 4 KiB; the rest is for the upper and work directory
	if list = strings.Join(paths, ":"); len(list) < room && !strings.ContainsAny(s.root, ":,\\") {
		return list, func() {}, nil
	}
	var open []*os.File
	closer = func() {
		for _, f := range open {
			_ = f.Close()
		}
	}
	for i, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			closer()
			return "", nil, err
		}
		open = append(open, f)
		paths[i] = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	}
	return strings.Join(paths, ":"), closer, nil
}

// mountOverlay mounts without syncing the upper directory, where the kernel can (5.10): a container's writable layer does not outlive
// the host's boot, and with syncing each container's end would wait for the disk.
func mountOverlay(at, options string) error {
	err := unix.Mount("overlay", at, "overlay", 0, options+",index=off,volatile")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("overlay", at, "overlay", 0, options)
	}
	return os.NewSyscallError("mount overlay", err)
}

// Unmount removes a container's root file system with all that it wrote. A missing one is fine.
func (s *Store) Unmount(_ context.Context, containerID string) error {
	if !containerPattern.MatchString(containerID) {
		return fmt.Errorf("container ID %q is malformed", containerID)
	}
	dir := s.path(containersDir, containerID)
	if err := errors.Join(unmountAll(filepath.Join(dir, rootfsDir)), unmapLayers(filepath.Join(dir, mappedDir))); err != nil {
		return err
	}
	// Out of the way at once, so that a crash while it is emptied leaves it to Open.
	doomed, err := os.MkdirTemp(s.path(tmpDir), "gone-*")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(doomed, containerID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.Remove(doomed))
	}
	s.mu.Lock()
	delete(s.mounts, containerID)
	s.mu.Unlock()
	return rmtree.Remove(doomed)
}

// unmountAll takes away what is mounted at a path, however often. Not being a mount point, or not existing, is fine.
func unmountAll(path string) error {
	const stacked = 16 // more than anything here makes
	for range stacked {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	return nil
}

// isMountPoint compares a directory's mount with its parent's.
func isMountPoint(path string) (bool, error) {
	own, err := mountID(path)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	parent, err := mountID(filepath.Dir(path))
	return own != parent, err
}

// Mounts lists the containers that have a root file system, mounted or (after a reboot) not.
func (s *Store) Mounts() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.mounts))
	for id := range s.mounts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// readMounts finds the containers of earlier processes.
func (s *Store) readMounts() error {
	entries, err := os.ReadDir(s.path(containersDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		var m mountRecord
		data, err := os.ReadFile(s.path(containersDir, e.Name(), mountFile))
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil { // cut short while being made: nobody was told of it
			dir := s.path(containersDir, e.Name())
			if err := errors.Join(unmountAll(filepath.Join(dir, rootfsDir)), rmtree.Remove(dir)); err != nil {
				return err
			}
			continue
		}
		s.mounts[e.Name()] = m
	}
	return nil
}

func (s *Store) mountedLocked(imageID string) (containerID string, ok bool) {
	for id, m := range s.mounts {
		if m.Image == imageID {
			return id, true
		}
	}
	return "", false
}

// WritableUsage is what a container has written to its root file system, in bytes and inodes: what was seen of it, even with an error.
func (s *Store) WritableUsage(containerID string) (bytes, inodes int64, err error) {
	size, err := du.Measure(s.path(containersDir, containerID, upperDir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, fmt.Errorf("root file system of container %s: %w", containerID, ErrNotFound)
	}
	return size.Bytes, size.Inodes, err
}
