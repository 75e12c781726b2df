package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Open file description locks, fcntl_locking(2): unlike flock(2) they can be asked about without being taken, so that a look
// never keeps anybody out; unlike process-wide record locks they are not dropped when another descriptor of the file is closed.
const (
	ofdGetLock = 36
	ofdSetLock = 37
)

// errLocked says that another process holds a lock.
var errLocked = errors.New("locked by another process")

// tryLock takes the write lock of a file, making the file if need be. It fails with errLocked if another holds it; the kernel
// releases it however this process ends.
func tryLock(path string) (*os.File, error) {
	for {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue // the folder went between the two calls
		}
		if err != nil {
			return nil, err
		}
		err = syscall.FcntlFlock(f.Fd(), ofdSetLock, &syscall.Flock_t{Type: syscall.F_WRLCK})
		switch {
		case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES):
			f.Close()
			return nil, errLocked
		case err != nil:
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case same(f, path):
			return f, nil
		}
		// The holder before us removed the file: the lock that we got is on a name that is no more.
		f.Close()
	}
}

// same reports whether path still names the open file.
func same(f *os.File, path string) bool {
	opened, err1 := f.Stat()
	named, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(opened, named)
}

// lockHeld reports whether a process holds the lock of path, without taking it.
func lockHeld(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK}
	return syscall.FcntlFlock(f.Fd(), ofdGetLock, &lock) == nil && lock.Type != syscall.F_UNLCK
}

// lockFile is what Up and Down hold, so that two of them never work on one machine at once.
func (l Layout) lockFile() string { return filepath.Join(l.Run, "kctl.lock") }

// lockHost waits for its turn to change this machine's cluster, and says so if it has to wait.
func lockHost(ctx context.Context, l Layout, out io.Writer) (*os.File, error) {
	for waited := false; ; waited = true {
		f, err := tryLock(l.lockFile())
		if !errors.Is(err, errLocked) {
			return f, err
		}
		if !waited {
			fmt.Fprintln(out, "Another kctl up or down is at work on this machine; waiting for it.")
		}
		if !sleep(ctx, poll) {
			return nil, fmt.Errorf("another kctl up or down is still at work on this machine: %w", context.Cause(ctx))
		}
	}
}

// sleep waits for d and reports whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
