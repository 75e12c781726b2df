package server

import (
	"runtime"
)

// forker runs functions on one thread that lives as long as the process.
//
// A container's first process has SIGKILL as its parent-death signal. The kernel sends that when the *thread* that
// forked it ends, and the Go runtime ends threads (libcontainer makes it do so). So whatever forks must be done here.
// One thread is enough: podshim uses one CPU, and each thread costs some 30 KiB.
type forker chan func()

// run makes the calling goroutine's thread the one that forks, until work elsewhere ends; then the process must end.
func (f forker) run(ended <-chan error) error {
	runtime.LockOSThread() // and never unlock: see above
	for {
		select {
		case fn := <-f:
			fn()
		case err := <-ended:
			return err
		}
	}
}

// do runs fn on that thread and returns when it has.
func (f forker) do(fn func()) {
	done := make(chan struct{})
	f <- func() {
		defer close(done)
		fn()
	}
	<-done
}
