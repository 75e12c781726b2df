package host

import (
	"strings"
	"testing"
)

// TestHostIsApart shows that a host has its own name, address, folders and processes, and that a snapshot tells a change.
func TestHostIsApart(t *testing.T) {
	h := New(t, "apart")
	if got := strings.TrimSpace(h.Must("hostname")); got != "apart" {
		t.Errorf("hostname = %q", got)
	}
	if out := h.Must("ip", "-o", "address"); strings.Contains(out, "eth0") || !strings.Contains(out, h.IP) {
		t.Errorf("the host shares the machine's interfaces or has no address:\n%s", out)
	}
	if out := h.Must("ps", "-e"); strings.Count(out, "\n") > 6 {
		t.Errorf("the host sees the machine's processes:\n%s", out)
	}
	before := h.Snapshot()
	if d := before.Diff(h.Snapshot()); d != "" {
		t.Errorf("two snapshots of an idle host differ:\n%s", d)
	}
	h.Must("ip", "link", "add", "left", "type", "bridge")
	h.Must("ip", "address", "add", "10.1.2.3/32", "dev", "left")
	if d := before.Diff(h.Snapshot()); !strings.Contains(d, "10.1.2.3") {
		t.Errorf("the snapshot does not tell a new address: %q", d)
	}
}
