package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// StartTime reads when a process started, in clock ticks since boot (proc_pid_stat(5), field 22): with its ID, that identifies it.
func StartTime(pid int) (uint64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses, which may contain anything: count from the last parenthesis.
	_, rest, ok := bytes.Cut(data[max(bytes.LastIndexByte(data, ')'), 0):], []byte(" "))
	fields := bytes.Fields(rest)
	const startTime = 22 - 3 // rest begins with field 3
	if !ok || len(fields) <= startTime {
		return 0, fmt.Errorf("/proc/%d/stat: malformed", pid)
	}
	return strconv.ParseUint(string(fields[startTime]), 10, 64)
}

// alive says whether this very process exists and is not a zombie.
func alive(p Process) bool {
	fd, ok := open(p)
	if !ok {
		return false
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) // readable once the process has ended
		if !errors.Is(err, unix.EINTR) {
			return n == 0
		}
	}
}

// open gets a pidfd for this very process.
func open(p Process) (int, bool) {
	if p.PID <= 0 {
		return -1, false
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, false
	}
	if start, err := StartTime(p.PID); err != nil || start != p.StartTime {
		_ = unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// awaitExit returns when the process has ended, or with ctx's error.
func awaitExit(ctx context.Context, p Process) error {
	fd, ok := open(p)
	if !ok {
		return nil
	}
	_ = unix.SetNonblock(fd, true)
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// killProcess ends this very process and waits for it.
func killProcess(ctx context.Context, p Process) error {
	fd, ok := open(p)
	if !ok {
		return nil
	}
	err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	_ = unix.Close(fd)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return awaitExit(ctx, p)
}
