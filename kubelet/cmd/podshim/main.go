// Command podshim holds one pod: see bareboat.dev/kubelet/shim/server. The kubelet starts it with the pod's state directory as its
// argument; libcontainer starts it as "init", to become a container's process.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"

	_ "github.com/opencontainers/cgroups/devices" // device rules
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins namespaces before the Go runtime starts
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/shim/server"
)

// readyFD is where the kubelet waits to hear that podshim listens.
const readyFD = 3

func main() {
	if len(os.Args) == 2 && os.Args[1] == "init" {
		become()
	}
	if len(os.Args) != 2 || os.Args[1] == "" || os.Args[1][0] == '-' {
		fmt.Fprintln(os.Stderr, "podshim is started by the kubelet: podshim <state directory of a pod>")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "podshim: %v\n", err)
		os.Exit(1)
	}
}

// become turns this process into a container's. It must not outlive podshim: the kernel sees to that, from this thread on, which is the
// one that libcontainer execs the user's program from.
func become() {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		fmt.Fprintf(os.Stderr, "podshim: set the parent-death signal: %v\n", err)
		os.Exit(1)
	}
	libcontainer.Init()
}

func run(dir string) error {
	logrus.SetOutput(os.Stderr)
	logrus.SetLevel(logrus.WarnLevel)
	// A pod does not end with a terminal. These signals are caught and dropped, not ignored: a process hands what it ignores down to those
	// it execs.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT)
	ready := os.NewFile(readyFD, "ready")
	if ready == nil {
		return fmt.Errorf("descriptor %d is not open", readyFD)
	}
	unix.CloseOnExec(readyFD)
	return server.Run(dir, ready, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}
