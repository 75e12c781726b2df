package server

import (
	"errors"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper waits for all children of the process.
//
// Children that somebody waits for are asked for one by one, by process ID. All others are orphans of containers without a PID namespace of
// their own, adopted because podshim is a subreaper; they are swept away, but never while libcontainer is starting a
// process, since it waits for the intermediate ones itself.
type reaper struct {
	// starting is held for reading while libcontainer starts something, and for writing while orphans are swept.
	starting sync.RWMutex

	mu      sync.Mutex
	waiting map[int]func(unix.WaitStatus)
}

func newReaper() *reaper { return &reaper{waiting: map[int]func(unix.WaitStatus){}} }

// start runs fn, which returns a new child, and has ended called, once, when that child has ended: from another goroutine,
// possibly before start returns.
func (r *reaper) start(fn func() (pid int, err error), ended func(unix.WaitStatus)) error {
	r.starting.RLock()
	pid, err := fn()
	if err == nil {
		r.mu.Lock()
		r.waiting[pid] = ended
		r.mu.Unlock()
	}
	r.starting.RUnlock()
	// It may have ended before it was known, and an orphan while it was being started, and their SIGCHLD have come and gone.
	r.reap()
	r.sweep()
	return err
}

// run reaps on SIGCHLD until stop is closed.
func (r *reaper) run(stop <-chan struct{}) {
	signals := make(chan os.Signal, 1) // one pending signal stands for any number
	signal.Notify(signals, unix.SIGCHLD)
	defer signal.Stop(signals)
	for {
		select {
		case <-signals:
			r.reap()
			r.sweep()
		case <-stop:
			return
		}
	}
}

// reap collects the awaited children that have ended.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid, ended := range r.waiting {
		var status unix.WaitStatus
		got, err := wait4(pid, &status)
		if got == 0 && err == nil {
			continue
		}
		delete(r.waiting, pid)
		if err != nil {
			status = lostStatus
		}
		go ended(status)
	}
}

// lostStatus is the wait status for a child that cannot be waited for (ECHILD): as if killed by SIGKILL. It does not happen unless
// somebody else in the process waits for our children.
const lostStatus = unix.WaitStatus(unix.SIGKILL)

// sweep collects orphans, unless something is being started: then the end of that does it.
func (r *reaper) sweep() {
	if !r.starting.TryLock() {
		return
	}
	defer r.starting.Unlock()
	for {
		pid := endedChild()
		if pid == 0 {
			return
		}
		r.mu.Lock()
		_, awaited := r.waiting[pid]
		r.mu.Unlock()
		if awaited {
			r.reap()
			continue
		}
		if _, err := wait4(pid, nil); err != nil {
			return
		}
	}
}

// endedChild returns the process ID of a child that has ended, without collecting it; 0 if there is none.
func endedChild() int {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0
		default:
			return siginfoPid(&info)
		}
	}
}

func wait4(pid int, status *unix.WaitStatus) (int, error) {
	for {
		got, err := unix.Wait4(pid, status, unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return got, err
		}
	}
}
