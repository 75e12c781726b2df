package shim_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
	"golang.org/x/sys/unix"
)

// run creates and starts a container.
func run(t *testing.T, pod *shim.Pod, c shim.ContainerConfig) int {
	t.Helper()
	if err := pod.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	pid, err := pod.Start(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// execIn runs a shell command in a container and returns what it printed.
func execIn(t *testing.T, pod *shim.Pod, id, command string) string {
	t.Helper()
	var out, errs bytes.Buffer
	exit, err := pod.Exec(t.Context(), id, shim.ExecConfig{Args: []string{"/bin/sh", "-c", command}}, shim.Stdio{Stdout: &out, Stderr: &errs}, nil)
	if err != nil || exit.Code != 0 {
		t.Fatalf("exec %q: exit %+v, %v: %s%s", command, exit, err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String())
}

// finishes runs a container to its end.
func finishes(t *testing.T, pod *shim.Pod, c shim.ContainerConfig) shim.ContainerStatus {
	t.Helper()
	run(t, pod, c)
	return shimtest.AwaitExit(t, pod, c.ID)
}

// ended waits until a process has ended, all of its threads. It need not have been collected: for an orphan of the test's machine that is as
// good.
func ended(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	const limit = 10_000 // ms
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, limit)
		switch {
		case errors.Is(err, unix.EINTR):
		case n == 1:
			return
		default:
			t.Fatalf("process %d is still there: %v", pid, err)
		}
	}
}

// groups lists what is left below a pod's cgroup.
func groups(t *testing.T, pod *shim.Pod) []int {
	t.Helper()
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	pids, err := h.Procs(pod.Config().CgroupParent)
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// screen collects output and lets a test wait for something in it.
type screen struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func newScreen() *screen { return &screen{changed: make(chan struct{}, 1)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.text.Write(p)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) await(t *testing.T, want string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !strings.Contains(s.String(), want) {
		select {
		case <-s.changed:
		case <-limit:
			t.Fatalf("waited in vain for %q; have %q", want, s.String())
		}
	}
}
