package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// TestDiskFull shows a cluster whose disk fills up: what is written is refused with one sentence that says why, what is read is answered,
// writes go on as soon as there is room, with no daemon started again, and whatever was acknowledged is there after a crash.
func TestDiskFull(t *testing.T) {
	needBuild(t)
	h := host.New(t, "disk")
	h.Must("sh", "-c", "umount /var/lib/bareboat && mount -t tmpfs -o size=192m small /var/lib/bareboat")
	h.Must("kctl", "up")
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, h)
		}
		if _, err := h.Run("kctl", "down"); err != nil {
			t.Errorf("kctl down: %v", err)
		}
	})
	server := guestbook{t: t, Host: h}.daemonPID("apiserver")
	acknowledged := []string{write(t, h, 0)}

	// All room but none is taken; the write-ahead log may have some of its own left.
	if out, err := h.Run("sh", "-c", "cat /dev/zero > /var/lib/bareboat/ballast"); err == nil || !strings.Contains(out, "No space left") {
		t.Fatalf("fill the disk: %v: %s", err, out)
	}
	acknowledged = append(acknowledged, writeUntilRefused(t, h)...)
	holds(t, h, acknowledged)
	h.Must("kctl", "get", "nodes")

	h.Must("rm", "/var/lib/bareboat/ballast")
	acknowledged = append(acknowledged, write(t, h, 1000))
	holds(t, h, acknowledged)
	if now := (guestbook{t: t, Host: h}).daemonPID("apiserver"); now != server {
		t.Errorf("the server was process %d and is %d", server, now)
	}

	h.Must("kill", "-9", strconv.Itoa(server))
	h.Eventually("the server's return", func() error {
		if now := (guestbook{t: t, Host: h}).daemonPID("apiserver"); now == 0 || now == server {
			return errors.New("it is not there")
		}
		_, err := h.Run("kctl", "get", "nodes")
		return err
	})
	holds(t, h, acknowledged)
}

// bigMap is a ConfigMap of 100 KB.
func bigMap(i int) (name, manifest string) {
	name = "big-" + strconv.Itoa(i)
	return name, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {blob: " + strings.Repeat("x", 100_000) + "}\n"
}

// write stores one map, which must succeed.
func write(t *testing.T, h *host.Host, i int) string {
	t.Helper()
	name, manifest := bigMap(i)
	if out, err := h.Input(manifest, "kctl", "create", "-f", "-"); err != nil {
		t.Fatalf("write %s: %v: %s", name, err, out)
	}
	return name
}

// writeUntilRefused stores maps until one is refused for want of room, and returns those that were taken.
func writeUntilRefused(t *testing.T, h *host.Host) (taken []string) {
	t.Helper()
	for i := 1; i < 100; i++ { // 10 MB, more than the log keeps for itself
		name, manifest := bigMap(i)
		out, err := h.Input(manifest, "kctl", "create", "-f", "-")
		if err == nil {
			taken = append(taken, name)
			continue
		}
		if out = strings.TrimSpace(out); strings.Contains(out, "\n") || !strings.Contains(out, "no space left for /var/lib/bareboat/state.db") || !strings.Contains(out, "free some") {
			t.Errorf("a write without room says:\n%s", out)
		}
		t.Logf("after %d more writes: %s", len(taken), out)
		return taken
	}
	t.Fatalf("%d writes were taken on a full disk", len(taken))
	return nil
}

// holds requires all of the maps that were acknowledged and none that was refused.
func holds(t *testing.T, h *host.Host, acknowledged []string) {
	t.Helper()
	there := strings.Fields(h.Must("kctl", "get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"))
	for _, name := range acknowledged {
		if !slices.Contains(there, name) {
			t.Errorf("%s was acknowledged and is lost; there are %v", name, there)
		}
	}
	extra := 0
	for _, name := range there {
		if strings.HasPrefix(name, "big-") && !slices.Contains(acknowledged, name) {
			extra++
		}
	}
	if extra > 0 {
		t.Error(fmt.Sprint(extra, " maps are there that were refused: ", there))
	}
}
