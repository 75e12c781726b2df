package e2e

import (
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// TestUnderSystemd shows the cluster as hardened units of a real systemd: all of them active at the first try, the application answering,
// pods that outlive a restart of the kubelet's unit, and nothing left when it is taken down.
func TestUnderSystemd(t *testing.T) {
	needBuild(t)
	h := host.NewSystemd(t, "systemd")
	h.Must("kctl", "up")
	down := false
	t.Cleanup(func() {
		if t.Failed() {
			for _, d := range []string{"apiserver", "scheduler", "controllermanager", "kubelet", "proxy", "dns"} {
				out, _ := h.Run("journalctl", "--no-pager", "--lines=30", "--output=cat", "--unit=bareboat-"+d)
				t.Logf("--- %s\n%s", d, out)
			}
		}
		if !down {
			_, _ = h.Run("kctl", "down")
		}
	})
	g := deploy(t, h)
	if err := g.sign("through units"); err != nil {
		t.Fatal(err)
	}
	units := strings.Fields("bareboat-apiserver bareboat-scheduler bareboat-controllermanager bareboat-kubelet bareboat-proxy bareboat-dns")
	h.Must("systemctl", append([]string{"is-active"}, units...)...)
	if out := h.Must("systemctl", append([]string{"show", "--property=NRestarts", "--value"}, units...)...); strings.Trim(out, "0\n") != "" {
		t.Errorf("units were restarted: %q", out)
	}
	pids := g.containerPIDs()
	h.Must("systemctl", "restart", "bareboat-kubelet")
	h.Must("kctl", "-n", "guestbook", "exec", "deploy/redis", "--", "/bin/busybox", "true")
	if after := g.containerPIDs(); after != pids {
		t.Errorf("containers' processes were\n%s\nand are\n%s", pids, after)
	}
	g.mustHold("through units")
	h.Must("kctl", "down")
	down = true
	if out, _ := h.Run("systemctl", "list-unit-files", "--no-legend", "bareboat-*"); out != "" { // it fails if there are none
		t.Errorf("units are left:\n%s", out)
	}
	for _, left := range []string{"pgrep -a podshim", "ip -o link | grep bareboat", "nft list ruleset", "grep /var/lib/kubelet/ /proc/mounts"} {
		if out, _ := h.Run("sh", "-c", left); out != "" {
			t.Errorf("%s:\n%s", left, out)
		}
	}
}
