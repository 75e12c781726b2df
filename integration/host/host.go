// Package host makes hosts out of namespaces, for tests and benchmarks that need a machine of their own: its own network, mounts,
// processes, host name and folders for configuration and state, and one address that is reachable from nowhere else. Everything in it
// ends with it.
//
//	h := host.New(t, "node-1")
//	h.Must("kctl", "up")
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// T is what a host needs of the test or benchmark that it belongs to.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Host is one machine made of namespaces.
type Host struct {
	Name string
	// IP is the host's own address.
	IP  string
	t   T
	pid int
}

// privateDirs are the folders that each host has for itself.
func privateDirs() []string {
	return []string{"/etc/bareboat", "/var/lib/bareboat", "/var/lib/kubelet", "/var/log", "/run", "/tmp"}
}

// setup runs as the first process of the new namespaces and then waits to be killed. The bridge without ports stands in for
// the machine's network card.
const setup = `set -e
mount --make-rprivate /
mkdir -p /etc/bareboat /var/lib/bareboat /var/lib/kubelet /run/bareboat
exec 3< "$REPOSITORY"
for d in "$@"; do mkdir -p "$d"; mount -t tmpfs -o mode=0755 host "$d"; done
chmod 1777 /tmp
# The repository may be in one of them.
if [ ! -e "$REPOSITORY/go.work" ]; then
  mkdir -p "$REPOSITORY"
  mount --no-canonicalize --bind /proc/self/fd/3 "$REPOSITORY"
fi
exec 3<&-
mkdir -p /run/lock /run/bareboat
hostname "$HOST_NAME"
# The same hierarchies as the machine's, seen from the host's own group.
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
  umount -l /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
  hierarchies=$(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2 " " $3 " " $4}' /proc/mounts)
  mount -t tmpfs -o mode=0755 cgroup /sys/fs/cgroup
  echo "$hierarchies" | while read -r dir type options; do
    mkdir -p "$dir"
    case $type in
    cgroup2) mount -t cgroup2 cgroup2 "$dir" ;;
    *) mount -t cgroup -o "$(basename "$dir" | sed 's/^systemd$/none,name=systemd/')" cgroup "$dir" ;;
    esac
  done
fi
ip link set lo up
ip link add uplink type bridge
ip address add "$HOST_IP/24" dev uplink
ip link set uplink up
ip route add default dev uplink
echo ready
# Process 1 reaps what others leave behind; bash does so while it waits.
while :; do sleep 3600 & wait $!; done`

// New makes a host that lives as long as what it belongs to.
func New(t T, name string) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes namespaces and mounts and needs root; run it with sudo")
	}
	h := &Host{Name: name, IP: "172.31.255.1", t: t}
	cmd := exec.Command("unshare", append([]string{"--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child", "--mount-proc", "bash", "-c", setup, "bash"}, privateDirs()...)...)
	cmd.Env = append(os.Environ(), "HOST_NAME="+name, "HOST_IP="+h.IP, "REPOSITORY="+Root())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	groups := newGroups(t, name)
	if err := groups.start(cmd); err != nil {
		t.Fatalf("make a host: %v; is util-linux's unshare there?", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line := make([]byte, 6)
	if _, err := out.Read(line); err != nil || !strings.HasPrefix(string(line), "ready") {
		t.Fatalf("make a host: %v: %s", err, stderr.String())
	}
	h.pid, err = child(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// child returns the process that unshare forked, which is process 1 of the host.
func child(parent int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data))
	if len(fields) != 1 {
		return 0, fmt.Errorf("unshare has %d children, want 1", len(fields))
	}
	return strconv.Atoi(fields[0])
}

// Command prepares a command on the host. Programs of this repository are found in build/bin.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if own := filepath.Join(Root(), "build", "bin", name); exists(own) {
		name = own
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(h.pid), "--mount", "--net", "--uts", "--ipc", "--pid", "--", name}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG=/etc/bareboat/admin.conf", "HOME=/root")
	return cmd
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Run runs a command on the host and returns what it printed, standard error included.
func (h *Host) Run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := h.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// commandTimeout keeps a test that hangs from hanging the whole run; nothing that is tested takes half as long on two busy cores.
const commandTimeout = 4 * time.Minute

// Must is Run for commands that must succeed.
func (h *Host) Must(name string, args ...string) string {
	h.t.Helper()
	out, err := h.Run(name, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// PID is the process id, on this machine, of the host's process 1.
func (h *Host) PID() int { return h.pid }

// Input runs a command with standard input.
func (h *Host) Input(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := h.Command(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// ReadFile reads one of the host's files.
func (h *Host) ReadFile(path string) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", h.pid, path))
	return string(data), err
}

// WriteFile writes one of the host's files.
func (h *Host) WriteFile(path, content string) {
	h.t.Helper()
	full := fmt.Sprintf("/proc/%d/root%s", h.pid, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

// Eventually calls check until it succeeds; the test fails with its last error after a time that is far longer than what is
// waited for takes on a busy machine.
func (h *Host) Eventually(what string, check func() error) {
	h.t.Helper()
	deadline := time.Now().Add(eventually)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s did not come true: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// eventually is long because it bounds failure only: a test that passes never waits for it.
const eventually = 90 * time.Second

// Root is the repository's folder.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if exists(filepath.Join(dir, "go.work")) {
			return dir
		}
	}
	return "."
}
