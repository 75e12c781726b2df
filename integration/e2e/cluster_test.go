// Package e2e runs whole clusters on hosts made of namespaces, with the binaries in build/bin, and uses them as a user would.
package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// up makes a host and starts a cluster on it, with kctl up's flags; the test's end stops both.
func up(t *testing.T, name string, flags ...string) *host.Host {
	t.Helper()
	needBuild(t)
	h := host.New(t, name)
	h.Must("kctl", append([]string{"up"}, flags...)...)
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, h)
		}
		if _, err := h.Run("kctl", "down"); err != nil {
			t.Errorf("kctl down: %v", err)
		}
	})
	return h
}

// accounts waits for namespaces' service accounts, which the controllers make and without which a bare pod is refused.
func accounts(h *host.Host, namespaces ...string) {
	for _, n := range namespaces {
		h.Eventually("the service account of namespace "+n, func() error { _, err := h.Run("kctl", "-n", n, "get", "serviceaccount", "default"); return err })
	}
}

// needBuild fails the test unless everything that it starts has been built.
func needBuild(t *testing.T) {
	t.Helper()
	for _, file := range []string{"bin/kctl", "bin/apiserver", "bin/kubelet", "bin/podshim", "images/web.tar", "images/redis.tar"} {
		if _, err := os.Stat(filepath.Join(host.Root(), "build", file)); err != nil {
			t.Fatalf("%v; build first: make build images", err)
		}
	}
	host.Require(t, map[string]string{"curl": "curl", "iptables": "iptables", "nft": "nftables"})
}

func dumpLogs(t *testing.T, h *host.Host) {
	for _, d := range []string{"apiserver", "scheduler", "controllermanager", "kubelet", "proxy", "dns"} {
		out, _ := h.Run("tail", "-n", "40", "/var/log/bareboat/"+d+".log")
		t.Logf("--- %s\n%s", d, out)
	}
	out, _ := h.Run("sh", "-c", "ls -la /etc/bareboat; echo $(grep -c bareboat /proc/mounts) mounts")
	t.Logf("--- /etc/bareboat\n%s", out)
	for _, args := range [][]string{{"get", "pods", "-A", "-o", "wide"}, {"events", "-A"}} {
		out, _ := h.Run("kctl", args...)
		t.Logf("--- kctl %s\n%s", strings.Join(args, " "), out)
	}
}

// guestbook is the example application on a cluster.
type guestbook struct {
	t *testing.T
	*host.Host
	url string
}

// deploy loads the example's images and applies its manifests.
func deploy(t *testing.T, h *host.Host) guestbook {
	t.Helper()
	build := filepath.Join(host.Root(), "build", "images")
	h.Must("kctl", "image", "load", build+"/web.tar", build+"/api.tar", build+"/redis.tar")
	h.Must("kctl", "apply", "-f", filepath.Join(host.Root(), "deploy/examples/guestbook/guestbook.yaml"))
	for _, d := range []string{"redis", "api", "web"} {
		h.Must("kctl", "-n", "guestbook", "rollout", "status", "deploy/"+d, "--timeout=120s")
	}
	return guestbook{t, h, "http://" + h.IP + ":30080"}
}

func (g guestbook) sign(entry string) error {
	_, err := g.Run("curl", "-sS", "--fail", "--max-time", "5", "-d", entry, g.url+"/api/entries")
	return err
}

// entries reads the book and says which replica of the middle tier answered.
func (g guestbook) entries() (entries []string, servedBy string, err error) {
	out, err := g.Run("curl", "-sS", "--fail", "--max-time", "5", g.url+"/api/entries")
	if err != nil {
		return nil, "", err
	}
	var answer struct {
		Entries  []string
		ServedBy string
	}
	err = json.Unmarshal([]byte(out), &answer)
	return answer.Entries, answer.ServedBy, err
}

func (g guestbook) mustHold(entry string) {
	g.t.Helper()
	g.Eventually("reading "+entry, func() error {
		entries, _, err := g.entries()
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e == entry {
				return nil
			}
		}
		return fmt.Errorf("entries are %q", entries)
	})
}

// TestGuestbook shows the life of an application on one machine: up, entries through every replica, pods that come back, every
// daemon killed under load, and a host that is left as it was.
func TestGuestbook(t *testing.T) {
	needBuild(t)
	h := host.New(t, "guestbook")
	before := h.Snapshot()
	h.Must("kctl", "up")
	down := false
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, h)
		}
		if !down {
			_, _ = h.Run("kctl", "down")
		}
	})
	g := deploy(t, h)

	t.Run("EntriesWrittenThroughOneReplicaAreReadThroughAnother", func(t *testing.T) {
		if err := g.sign("hello"); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		h.Eventually("an answer of each replica", func() error {
			entries, by, err := g.entries()
			if err != nil {
				return err
			}
			if len(entries) != 1 || entries[0] != "hello" {
				t.Fatalf("replica %s holds %q", by, entries)
			}
			seen[by] = true
			if len(seen) < 2 {
				return fmt.Errorf("only %v answered", seen)
			}
			return nil
		})
	})
	t.Run("EntriesOutliveTheWebPods", func(t *testing.T) {
		h.Must("kctl", "-n", "guestbook", "delete", "pods", "-l", "tier=web")
		h.Must("kctl", "-n", "guestbook", "rollout", "status", "deploy/web", "--timeout=60s")
		g.mustHold("hello")
	})
	t.Run("Kctl", func(t *testing.T) { useKctl(t, g) })
	t.Run("EveryDaemonKilled", func(t *testing.T) { killDaemons(t, g) })
	t.Run("SecondUpChangesNothing", func(t *testing.T) {
		pods := h.Must("kctl", "get", "pods", "-A", "-o", "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].containerID}{\"\\n\"}{end}")
		h.Must("kctl", "up")
		if after := h.Must("kctl", "get", "pods", "-A", "-o", "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].containerID}{\"\\n\"}{end}"); after != pods {
			t.Errorf("pods were\n%s\nand are\n%s", pods, after)
		}
	})
	t.Run("DownLeavesTheHostAsItWas", func(t *testing.T) {
		h.Must("kctl", "down")
		down = true
		if d := before.Diff(h.Snapshot()); d != "" {
			t.Errorf("left behind or taken away:\n%s", d)
		}
		h.Must("kctl", "down")
	})
	t.Run("UpAgainGoesOn", func(t *testing.T) {
		h.Must("kctl", "up")
		down = false
		for _, d := range []string{"redis", "api", "web"} {
			h.Must("kctl", "-n", "guestbook", "rollout", "status", "deploy/"+d, "--timeout=120s")
		}
		h.Eventually("signing", func() error { return g.sign("back") })
		g.mustHold("back")
	})
}

// useKctl types what a user types.
func useKctl(t *testing.T, g guestbook) {
	n := func(args ...string) string {
		t.Helper()
		return g.Must("kctl", append([]string{"-n", "guestbook"}, args...)...)
	}
	contains := func(what, out, want string) {
		t.Helper()
		if !strings.Contains(out, want) {
			t.Errorf("%s lacks %q:\n%s", what, want, out)
		}
	}
	contains("get -o wide", n("get", "pods", "-o", "wide"), "Running")
	contains("logs", n("logs", "deploy/redis"), "Ready to accept connections")
	contains("logs --tail", n("logs", "deploy/redis", "--tail=1", "--timestamps"), "Ready to accept connections")
	contains("exec", n("exec", "deploy/redis", "--", "/bin/busybox", "sh", "-c", "echo out; id -u"), "65532")
	if out, err := g.Run("kctl", "-n", "guestbook", "exec", "deploy/redis", "--", "/bin/busybox", "sh", "-c", "exit 42"); err == nil || !strings.Contains(out, "exit code 42") {
		t.Errorf("exec of a failing command: %v: %s", err, out)
	}
	if out, err := g.Input("through stdin", "kctl", "-n", "guestbook", "exec", "-i", "deploy/redis", "--", "/bin/busybox", "cat"); err != nil || out != "through stdin" {
		t.Errorf("exec -i: %q, %v", out, err)
	}
	contains("describe", n("describe", "pods", "-l", "tier=redis"), "Pulled")
	contains("events", n("events"), "Scheduled")
	contains("tree", n("tree", "deploy/web"), "pod/web-")
	contains("why", n("why", "svc/web"), "nothing is wrong")
	contains("apply", n("apply", "-f", filepath.Join(host.Root(), "deploy/examples/guestbook/guestbook.yaml")), "deployment.apps/web unchanged")
	n("scale", "deploy/web", "--replicas=3")
	n("rollout", "status", "deploy/web", "--timeout=60s")
	contains("get", n("get", "deploy/web", "-o", "jsonpath={.status.readyReplicas}"), "3")
	n("patch", "deploy/web", "-p", `{"spec":{"template":{"metadata":{"annotations":{"try":"two"}}}}}`)
	n("rollout", "status", "deploy/web", "--timeout=60s")
	contains("history", n("rollout", "history", "deploy/web"), "2")
	contains("undo", n("rollout", "undo", "deploy/web"), "rolled back")
	n("rollout", "status", "deploy/web", "--timeout=60s")
	if out := n("get", "deploy/web", "-o", "jsonpath={.spec.template.metadata.annotations}"); strings.Contains(out, "two") {
		t.Errorf("undo left the annotation: %s", out)
	}
	n("wait", "deploy/web", "--for=condition=Available", "--timeout=60s")
	n("wait", "pods", "-l", "tier=redis", "--for=condition=Ready", "--timeout=60s") // web's old pods may still be going, and are no longer found
	contains("image list", g.Must("kctl", "image", "list"), "guestbook-redis")
}
