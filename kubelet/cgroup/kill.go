package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// killRounds bounds Kill: each round kills all that was there when it began, and a frozen group cannot fork meanwhile.
	// More than a few rounds means that something is put into the group from outside as fast as we kill.
	killRounds = 50
	// removeTries and removePause bound how long a group's removal is tried again: the kernel counts a process that has been killed as a
	// member until it has ended, which takes a busy host seconds. 1,000 × 5 ms = 5 s.
	removeTries = 1000
	removePause = 5 * time.Millisecond
)

// Procs lists the processes in the group and below, in all hierarchies, each once.
func (h *Hierarchy) Procs(path string) ([]int, error) {
	rel, err := clean(path)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, root := range h.distinct {
		err := walk(filepath.Join(root, rel), func(dir string) error {
			data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				return err
			}
			for _, line := range bytes.Fields(data) {
				if pid, err := strconv.Atoi(string(line)); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// walk calls fn for the group and all below it, children first. What disappears meanwhile is passed over.
func walk(dir string, fn func(dir string) error) error {
	entries, err := os.ReadDir(dir)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(dir, e.Name()), fn); err != nil {
				return err
			}
		}
	}
	if err := fn(dir); !gone(err) {
		return err
	}
	return nil
}

// gone recognizes a group that was removed while we looked at it.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// Kill ends every process in the group and below it, and returns when they are dead. An empty or missing group is fine.
func (h *Hierarchy) Kill(ctx context.Context, path string) error {
	rel, err := clean(path)
	if err != nil {
		return err
	}
	for range killRounds {
		pids, err := h.Procs(rel)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		if err := h.killOnce(ctx, rel, pids); err != nil {
			return err
		}
	}
	return fmt.Errorf("cgroup %s keeps getting new processes while they are killed", rel)
}

// killOnce kills what is in the group and waits for the ends of pids.
func (h *Hierarchy) killOnce(ctx context.Context, rel string, pids []int) error {
	handles := make([]unix.PollFd, 0, len(pids))
	defer func() {
		for _, p := range handles {
			_ = unix.Close(int(p.Fd))
		}
	}()
	frozen := h.version == V1 && h.setFrozen(rel, true) == nil
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			handles = append(handles, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			if h.version == V1 {
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
		}
	}
	if frozen {
		if err := h.setFrozen(rel, false); err != nil {
			return err
		}
	}
	if h.version == V2 {
		if err := h.killV2(rel, handles); err != nil {
			return err
		}
	}
	return awaitAll(ctx, handles)
}

// killV2 uses cgroup.kill (Linux 5.14), or signals one by one.
func (h *Hierarchy) killV2(rel string, handles []unix.PollFd) error {
	err := write(h.dir("", rel), "cgroup.kill", "1")
	if err == nil || gone(err) && !h.Exists(rel) {
		return nil
	}
	if !gone(err) {
		return err
	}
	for _, p := range handles {
		_ = unix.PidfdSendSignal(int(p.Fd), unix.SIGKILL, nil, 0)
	}
	return nil
}

// setFrozen stops or continues a v1 group, with all below it.
func (h *Hierarchy) setFrozen(rel string, frozen bool) error {
	dir := h.dir("freezer", rel)
	if dir == "" {
		return ErrUnavailable
	}
	state := "THAWED"
	if frozen {
		state = "FROZEN"
	}
	if err := write(dir, "freezer.state", state); err != nil && !gone(err) {
		return err
	}
	return nil
}

// awaitAll returns when all processes have ended, or with ctx's error. ctx is looked at every 100 ms at most, since poll(2) knows no
// contexts and this is no hot path.
func awaitAll(ctx context.Context, handles []unix.PollFd) error {
	const slice = 100 // milliseconds
	for _, p := range handles {
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := unix.Poll([]unix.PollFd{p}, slice)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			if n > 0 {
				break
			}
		}
	}
	return nil
}

// Remove removes the group and all below it. It fails if a process is in one of them; a missing group is fine.
func (h *Hierarchy) Remove(path string) error {
	rel, err := clean(path)
	if err != nil {
		return err
	}
	for _, root := range h.distinct {
		if err := walk(filepath.Join(root, rel), removeDir); err != nil {
			return err
		}
	}
	return nil
}

// RemoveChildren removes all groups below the given one, which stays.
func (h *Hierarchy) RemoveChildren(path string) error {
	rel, err := clean(path)
	if err != nil {
		return err
	}
	for _, root := range h.distinct {
		top := filepath.Join(root, rel)
		err := walk(top, func(dir string) error {
			if dir == top {
				return nil
			}
			return removeDir(dir)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func removeDir(dir string) error {
	var err error
	for range removeTries {
		err = unix.Rmdir(dir)
		if err == nil || gone(err) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(removePause)
	}
	return &os.PathError{Op: "rmdir", Path: dir, Err: err}
}
