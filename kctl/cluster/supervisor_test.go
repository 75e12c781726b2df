package cluster

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeLayout is a layout whose daemons are shell scripts.
func fakeLayout(t *testing.T, script string) Layout {
	t.Helper()
	dir := t.TempDir()
	l := Layout{Etc: dir + "/etc", State: dir + "/state", Kubelet: dir + "/kubelet", Run: dir + "/run", Log: dir + "/log", Lib: dir + "/lib"}
	for _, d := range Daemons() {
		unit := "[Unit]\nDescription=x\n[Service]\nEnvironment=NAME=" + d + "\nExecStart=" + installedLib + "/bin/" + d + " --config=x\n"
		for path, content := range map[string]string{"/systemd/" + unitName(d): unit, "/bin/" + d: "#!/bin/sh\n" + script} {
			if err := os.MkdirAll(filepath.Dir(l.Lib+path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(l.Lib+path, []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return l
}

// supervise runs a supervisor until the test ends and returns a function that stops it.
func supervise(t *testing.T, l Layout) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Supervise(ctx, l) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Supervise: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// until waits for a condition that another process brings about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(poll) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// TestSupervisorRestartsADaemon shows that a killed daemon is started again with the unit's arguments, and that stopping ends them all.
func TestSupervisorRestartsADaemon(t *testing.T) {
	l := fakeLayout(t, "echo started $NAME $1\nexec sleep 1000\n")
	stop := supervise(t, l)
	pid := func(d string) int { st, _ := Status(l, d); return st.PID }
	var pids []int
	for _, d := range Daemons() {
		until(t, d+" starting", func() bool { return pid(d) != 0 })
		pids = append(pids, pid(d))
	}
	started := func(times int) func() bool {
		return func() bool {
			log, _ := os.ReadFile(l.Log + "/proxy.log")
			return strings.Count(string(log), "started proxy --config=x") == times
		}
	}
	until(t, "the proxy's first words", started(1))
	first := pid("proxy")
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the proxy's restart", func() bool { return pid("proxy") != 0 && pid("proxy") != first })
	if st, _ := Status(l, "proxy"); st.Ended != 1 {
		t.Errorf("the proxy ended %d times, want 1", st.Ended)
	}
	pids = append(pids, pid("proxy"))
	until(t, "the proxy's words after its restart", started(2))
	stop()
	for _, p := range pids {
		if syscall.Kill(p, 0) == nil {
			t.Errorf("process %d is left", p)
		}
	}
	if supervisorPID(l) != 0 {
		t.Error("the supervisor's lock is still held")
	}
}

// TestSupervisorKnowsReadiness shows that READY=1 on the notification socket marks a daemon ready, and that its last words are kept.
func TestSupervisorKnowsReadiness(t *testing.T) {
	if _, err := os.Stat("/usr/bin/systemd-notify"); err != nil {
		t.Fatal("this test needs systemd-notify; install it with: apt-get install systemd")
	}
	l := fakeLayout(t, "case $NAME in dns) echo the port is taken >&2; exit 1;; esac\nsystemd-notify --ready --no-block 2>/dev/null || systemd-notify --ready\nexec sleep 1000\n")
	supervise(t, l)
	until(t, "the scheduler's readiness", (&background{l: l}).readyOf("scheduler"))
	until(t, "the dns daemon's second end", func() bool { _, failed := (&background{l: l}).failed(); return failed })
	if words, _ := (&background{l: l}).failed(); !strings.Contains(words, "dns") || !strings.Contains(words, "the port is taken") {
		t.Errorf("last words = %q", words)
	}
}

func (b *background) readyOf(d string) func() bool { return func() bool { return b.ready(d) } }

// TestOneSupervisor shows that a second supervisor refuses to run, and that its lock ends with the first.
func TestOneSupervisor(t *testing.T) {
	l := fakeLayout(t, "exec sleep 1000\n")
	stop := supervise(t, l)
	until(t, "the supervisor's start", func() bool { return supervisorPID(l) != 0 })
	if err := Supervise(t.Context(), l); err == nil {
		t.Error("a second supervisor ran")
	}
	stop()
	if supervisorPID(l) != 0 {
		t.Error("the lock outlived the supervisor")
	}
}
