package host

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// slowUnits are services of the machine that have nothing to do with a cluster and would only slow the boot down.
func slowUnits() []string {
	return []string{
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "etcd.service", "fstrim.timer",
		"man-db.timer", "nftables.service", "postgresql.service", "redis-server.service", "ssh.service", "systemd-networkd-wait-online.service",
	}
}

// network is what the shell setup of other hosts does about addresses, and makes the control groups writable, which nspawn
// mounts read-only.
const network = `set -e
ip link set lo up
ip link add uplink type bridge
ip address add "$1/24" dev uplink
ip link set uplink up
ip route add default dev uplink
for c in /sys/fs/cgroup/*/; do mount -o remount,rw,bind "$c" || true; done`

// NewSystemd makes a host that has systemd as its process 1: this machine's files, copied on write, booted by systemd-nspawn.
func NewSystemd(t T, name string) *Host {
	t.Helper()
	Require(t, map[string]string{"systemd-nspawn": "systemd-container"})
	h := &Host{Name: name, IP: "172.31.255.1", t: t}
	root := overlay(t)
	args := []string{
		"--directory=" + root, "--boot", "--private-network", "--machine=" + name, "--hostname=" + name, "--register=no", "--keep-unit", "--capability=all",
		"--bind=" + Root(), // nspawn has a /tmp of its own, where the repository may be
	}
	for _, dir := range []string{"/etc/bareboat", "/var/lib/bareboat", "/var/lib/kubelet", "/var/log/pods", "/var/log/bareboat"} {
		args = append(args, "--tmpfs="+dir)
	}
	cmd := exec.Command("systemd-nspawn", args...)
	// Containers in the container: its kernel interfaces must be writable and no call filtered.
	cmd.Env = append(os.Environ(), "SYSTEMD_SECCOMP=0", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // nspawn then kills what is inside
		_ = cmd.Wait()
	})
	h.boot(cmd.Process.Pid, &console)
	h.Must("sh", "-c", network, "sh", h.IP)
	return h
}

// overlay mounts this machine's root, copied on write, and returns where.
func overlay(t T) string {
	t.Helper()
	// Not below /tmp, which may be a tmpfs without room; and an overlay's upper folder may not lie in another overlay.
	dir, err := os.MkdirTemp("/var/tmp", "bareboat-root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	masked := filepath.Join(dir, "upper/etc/systemd/system")
	for _, d := range []string{masked, filepath.Join(dir, "work"), filepath.Join(dir, "root")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range slowUnits() {
		if err := os.Symlink("/dev/null", filepath.Join(masked, unit)); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	options := "lowerdir=/,upperdir=" + filepath.Join(dir, "upper") + ",workdir=" + filepath.Join(dir, "work")
	if err := syscall.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Fatalf("mount an overlay of /: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, 0); err != nil {
			_ = syscall.Unmount(root, syscall.MNT_DETACH)
		}
	})
	return root
}

// boot waits until systemd has reached its default target.
func (h *Host) boot(nspawn int, console *bytes.Buffer) {
	deadline := time.Now().Add(eventually)
	for {
		if pid, err := child(nspawn); err == nil {
			h.pid = pid
			// "degraded" is fine: units of this machine that have nothing to do with us may fail.
			out, _ := h.Run("systemctl", "is-system-running")
			if state := strings.TrimSpace(out); state == "running" || state == "degraded" {
				return
			}
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("systemd did not boot:\n%s", console.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}
