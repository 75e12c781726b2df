package e2e

import (
	"context"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// TestUpInTrouble shows that each thing that keeps a cluster from starting gives one clear sentence, leaves no process and destroys nothing.
func TestUpInTrouble(t *testing.T) {
	needBuild(t)
	refused := func(t *testing.T, h *host.Host, want ...string) {
		t.Helper()
		out, err := h.Run("kctl", "up", "--timeout=60s")
		if err == nil {
			t.Fatalf("kctl up succeeded:\n%s", out)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%q is missing in:\n%s", w, out)
			}
		}
		if left, _ := h.Run("pgrep", "-a", "-f", "build/bin/"); left != "" {
			t.Errorf("processes are left:\n%s", left)
		}
	}
	t.Run("PortTaken", func(t *testing.T) {
		h := host.New(t, "port")
		holder := h.Command(context.Background(), "busybox", "nc", "-l", "-p", "6443")
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
		h.Eventually("the port being taken", func() error { _, err := h.Run("sh", "-c", "ss -ltn | grep -q :6443"); return err })
		refused(t, h, "port 6443", "apiserver", "busybox")
	})
	t.Run("NotRoot", func(t *testing.T) {
		h := host.New(t, "user")
		out, err := h.Run("setpriv", "--reuid=65534", "--clear-groups", "--", host.Root()+"/build/bin/kctl", "up")
		if err == nil || !strings.Contains(out, "needs root") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("PackageMissing", func(t *testing.T) {
		h := host.New(t, "missing")
		h.Must("sh", "-c", "for f in /usr/sbin/iptables*; do mount --bind /dev/null $f; done")
		refused(t, h, "iptables", "apt-get install iptables")
	})
	t.Run("DiskFull", func(t *testing.T) {
		h := host.New(t, "full")
		h.Must("sh", "-c", "umount /var/lib/bareboat && mount -t tmpfs -o size=1m full /var/lib/bareboat")
		refused(t, h, "/var/lib/bareboat", "make room")
	})
	t.Run("CorruptDatabase", func(t *testing.T) {
		h := host.New(t, "corrupt")
		const garbage = "this is not a database, but it is somebody's data\n"
		h.WriteFile("/var/lib/bareboat/state.db", strings.Repeat(garbage, 200))
		refused(t, h, "/var/lib/bareboat/state.db")
		if content, err := h.ReadFile("/var/lib/bareboat/state.db"); err != nil || content != strings.Repeat(garbage, 200) {
			t.Errorf("the file was changed: %v", err)
		}
	})
}
