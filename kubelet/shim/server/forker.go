package server

import (
	"runtime"
)

// forkThreads is how many containers or exec'd processes can be in the making at once: podshim uses one CPU, and a thread costs some 30 KiB.
const forkThreads = 1

// forker runs functions on threads that live as long as the process.
//
// A container's first process has SIGKILL as its parent-death signal. The kernel sends that when the *thread* that
// forked it ends, and the Go runtime ends threads (libcontainer makes it do so). So whatever forks must be done here.
type forker chan func()

func newForker() forker {
	f := make(forker)
	for range forkThreads {
		go func() {
			runtime.LockOSThread() // and never unlock, nor return: see above
			for fn := range f {
				fn()
			}
			select {}
		}()
	}
	return f
}

// do runs fn and returns when it has.
func (f forker) do(fn func()) {
	done := make(chan struct{})
	f <- func() {
		defer close(done)
		fn()
	}
	<-done
}
