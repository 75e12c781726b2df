package cluster

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOrphansAreEnded shows that a daemon whose supervisor was killed is ended before its successor starts, and that a process
// that merely has its old number is left alone.
func TestOrphansAreEnded(t *testing.T) {
	l := fakeLayout(t, "while :; do read -r x; done\n")
	start := func(program string) *exec.Cmd {
		cmd := exec.Command(program)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	orphan, stranger := start(l.Bin("dns")), start("/bin/cat")
	for d, pid := range map[string]int{"dns": orphan.Process.Pid, "proxy": stranger.Process.Pid} {
		data, err := json.Marshal(DaemonStatus{Name: d, PID: pid})
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFile(statusFile(l, d), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the orphan's start", func() bool { return runs(orphan.Process.Pid, l.Bin("dns")) })
	if err := endOrphans(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := orphan.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the orphan ended with %v, want a signal", err)
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger is gone: %v", err)
	}
}

// TestDeadSupervisorIsNoticed shows that a supervisor that cannot work is reported in its own words, instead of waited for.
func TestDeadSupervisorIsNoticed(t *testing.T) {
	l := Layout{Log: t.TempDir(), Run: t.TempDir()}
	if err := os.WriteFile(logFile(l, "supervisor"), []byte("old words\nerror: read the daemon's unit: gone\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	b := &background{l: l, supervisor: ended, logStart: int64(len("old words\n"))}
	if _, failed := b.failed(); failed {
		t.Error("a running supervisor counts as failed")
	}
	close(ended)
	if words, failed := b.failed(); !failed || !strings.Contains(words, "the daemon's unit: gone") {
		t.Errorf("failed = %q, %t", words, failed)
	}
	lock, err := lockSupervisor(l)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if words, failed := b.failed(); failed {
		t.Errorf("another supervisor works, but failed = %q", words)
	}
}

// TestGivingUpKeepsOldPods shows that a failed start cleans the host, unless pods ran on it before.
func TestGivingUpKeepsOldPods(t *testing.T) {
	for _, before := range []bool{false, true} {
		l := fakeLayout(t, "echo $0 $* >>"+"$(dirname $0)/called\n")
		for _, d := range []string{"kubelet", "proxy"} {
			if err := writeFile(l.Config(d), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := giveUp(t.Context(), l, &background{l: l}, before, context.Canceled)
		if err == nil || !strings.HasPrefix(err.Error(), ErrInterrupted.Error()) || strings.Contains(err.Error(), "kctl down") != before {
			t.Errorf("pods before %t: %v", before, err)
		}
		called, _ := os.ReadFile(filepath.Join(l.Lib, "bin", "called"))
		if got := strings.Count(string(called), "--cleanup"); got != map[bool]int{false: 2, true: 0}[before] {
			t.Errorf("pods before %t: daemons were called: %s", before, called)
		}
	}
}

// TestLargeLogIsSetAside shows that a daemon's log does not grow for ever.
func TestLargeLogIsSetAside(t *testing.T) {
	l := Layout{Log: t.TempDir()}
	if err := os.WriteFile(logFile(l, "dns"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(logFile(l, "dns"), maxLog+1); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(l, "dns")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if end, err := f.Seek(0, 2); err != nil || end != 0 {
		t.Errorf("the log begins at %d, %v", end, err)
	}
	if info, err := os.Stat(logFile(l, "dns") + ".1"); err != nil || info.Size() != maxLog+1 {
		t.Errorf("the old log: %v", err)
	}
}

// TestComplaint shows that a failed cleanup is told in its sentence, not in its log.
func TestComplaint(t *testing.T) {
	if got := complaint([]byte("time=1 level=INFO msg=x\nkubelet: busy\n")); got != "kubelet: busy" {
		t.Errorf("complaint = %q", got)
	}
	if got := complaint([]byte("time=1 level=ERROR msg=x\n")); got != "time=1 level=ERROR msg=x" {
		t.Errorf("only a log: %q", got)
	}
}

// TestMountsIn shows that a disk of its own is told from something that is mounted inside.
func TestMountsIn(t *testing.T) {
	table := "proc /proc proc rw 0 0\n/dev/sdb /var/lib/bareboat ext4 rw 0 0\noverlay /var/lib/kubelet/pods/x overlay rw 0 0\n/dev/sdc /var/lib/kubelet2 ext4 rw 0 0\n"
	tests := map[string]struct {
		itself bool
		below  string
	}{
		"/var/lib/bareboat":  {true, ""},
		"/var/lib/bareboat/": {true, ""},
		"/var/lib/kubelet":   {false, "/var/lib/kubelet/pods/x"},
		"/etc/bareboat":      {false, ""},
	}
	for dir, want := range tests {
		if itself, below := mountsIn(table, dir); itself != want.itself || below != want.below {
			t.Errorf("%s: %t %q, want %+v", dir, itself, below, want)
		}
	}
}

// TestCountUp shows which of systemd's states mean that a unit is there: one that is still starting is, one that failed is not.
func TestCountUp(t *testing.T) {
	if got := countUp("active\nactivating\ninactive\nfailed\ndeactivating\n"); got != 2 {
		t.Errorf("countUp = %d, want 2", got)
	}
}
