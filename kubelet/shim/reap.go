package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"bareboat.dev/kubelet/cgroup"
	"golang.org/x/sys/unix"
)

// ReadState reads from disk what podshim recorded, without asking it. After [ErrShimDead], containers that it shows as created or
// running were killed with podshim: nobody knows their exit status. Kubernetes reports such as exit code 137, reason
// ContainerStatusUnknown.
func ReadState(stateDir string) (PodConfig, State, error) {
	var config PodConfig
	if err := readJSON(filepath.Join(stateDir, ConfigFile), &config); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("pod in %s: %w", stateDir, ErrNotFound)
		}
		return config, State{}, err
	}
	config.StateDir = stateDir
	entries, err := os.ReadDir(filepath.Join(stateDir, ContainersDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return config, State{}, err
	}
	var state State
	for _, e := range entries {
		var status ContainerStatus
		err := readJSON(filepath.Join(stateDir, ContainersDir, e.Name(), StatusFile), &status)
		if errors.Is(err, os.ErrNotExist) {
			continue // was being created or deleted
		}
		if err != nil {
			return config, state, err
		}
		state.Containers = append(state.Containers, status)
	}
	slices.SortFunc(state.Containers, func(a, b ContainerStatus) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return config, state, nil
}

// Reap clears away whatever is left of a pod whose podshim is dead or unwanted: podshim, every process in the pod's cgroup, the
// containers' cgroups, the shared-memory mount, the state directory. It may be called again after any failure, and succeeds if
// nothing is there. The pod's own cgroup, volumes, root file systems and network are their makers' to remove.
func Reap(ctx context.Context, stateDir string) error {
	if _, err := os.Lstat(stateDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var process Process
	if err := readJSON(filepath.Join(stateDir, ProcessFile), &process); err == nil {
		if err := killProcess(ctx, process); err != nil {
			return fmt.Errorf("kill podshim: %w", err)
		}
	}
	var config PodConfig
	if err := readJSON(filepath.Join(stateDir, ConfigFile), &config); err == nil && config.Validate() == nil {
		if err := reapCgroup(ctx, config.CgroupParent); err != nil {
			return fmt.Errorf("pod %s: %w", config.UID, err)
		}
	}
	if err := unmount(filepath.Join(stateDir, ShmDir)); err != nil {
		return err
	}
	return removeStateDir(stateDir)
}

// reapCgroup kills all that runs below the pod's cgroup and removes the containers' cgroups.
func reapCgroup(ctx context.Context, parent string) error {
	h, err := cgroup.Detect()
	if err != nil {
		return err
	}
	if err := h.Kill(ctx, parent); err != nil {
		return err
	}
	return h.RemoveChildren(parent)
}

// unmount detaches the mounts stacked at path; not being a mount point, or not existing, is fine.
func unmount(path string) error {
	const stacked = 16 // more mounts on one another than anything here makes
	for range stacked {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	return nil
}

// removeStateDir removes the files that podshim makes. It does not remove recursively what it does not know: a mount that somebody
// made below must never be emptied.
func removeStateDir(dir string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	for _, sub := range []string{ContainersDir, RuntimeDir} {
		if err := root.RemoveAll(sub); err != nil {
			return err
		}
	}
	// The configuration goes last: while it is there, a second Reap can do the rest.
	for _, name := range []string{ShmDir, SocketFile, LogFile, ProcessFile, ConfigFile} {
		if err := root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Remove(dir)
}
