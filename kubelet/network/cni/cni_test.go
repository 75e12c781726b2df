package cni

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/network"
)

// node is a host with the test's plug-in.
type node struct {
	t   *testing.T
	c   Config
	log string
}

func newNode(t *testing.T) *node {
	t.Helper()
	private(t)
	dir := t.TempDir()
	n := &node{t: t, c: Config{ConfDir: dir + "/net.d", BinDirs: []string{dir + "/bin"}, StateDir: dir + "/state"}, log: dir + "/log"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{n.c.ConfDir, n.c.BinDirs[0]} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(self, filepath.Join(n.c.BinDirs[0], "testveth")); err != nil {
		t.Fatal(err)
	}
	return n
}

// configure writes a configuration whose plug-in gives out one address.
func (n *node) configure(file, address, more string) {
	n.t.Helper()
	text := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "testveth", "log": %q, "address": %q, "capabilities": {"portMappings": true}%s}]}`, n.log, address, more)
	if err := os.WriteFile(filepath.Join(n.c.ConfDir, file), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) open() *Network {
	n.t.Helper()
	net, err := Open(n.c)
	if err != nil {
		n.t.Fatal(err)
	}
	return net
}

// calls are the plug-in's since the last look.
func (n *node) calls() string {
	data, _ := os.ReadFile(n.log)
	_ = os.Remove(n.log)
	return strings.TrimSpace(string(data))
}

func (n *node) links() string {
	n.t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return strings.Join(names, " ")
}

func attachment(uid, ns string) network.Attachment {
	return network.Attachment{PodUID: uid, NetNSPath: ns, Namespace: "default", Name: uid, HostPorts: []network.HostPort{{Protocol: network.TCP, HostPort: 80, ContainerPort: 8080}}}
}

// TestLife shows a pod's life: it is connected once, keeps its address over a restart of the kubelet, and is disconnected by what
// connected it, though another configuration has taken its place, and though its namespace is gone.
func TestLife(t *testing.T) {
	h := newNode(t)
	h.configure("10-net.conflist", "10.88.0.5/16", "")
	n := h.open()
	ns := newNamespace(t)
	for range 2 {
		at, err := n.Setup(t.Context(), attachment("a", ns))
		if err != nil || len(at.IPs) != 1 || at.IPs[0] != netip.MustParseAddr("10.88.0.5") {
			t.Fatalf("connected as %+v, %v", at, err)
		}
	}
	if got, want := h.calls(), "ADD a there eth0 1 ports 10.88.0.5/16"; got != want {
		t.Errorf("called\n%s\nwant\n%s", got, want)
	}
	h.configure("00-other.conflist", "10.99.0.5/16", "")
	n = h.open()
	if at, err := n.Get("a"); err != nil || at.IPs[0] != netip.MustParseAddr("10.88.0.5") {
		t.Errorf("after a restart: %+v, %v", at, err)
	}
	again := newNamespace(t)
	if at, err := n.Setup(t.Context(), attachment("a", again)); err != nil || at.IPs[0] != netip.MustParseAddr("10.99.0.5") {
		t.Errorf("in a new namespace: %+v, %v", at, err)
	}
	if err := unix.Unmount(again, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Teardown(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	want := "DEL a there eth0 1 ports 10.88.0.5/16\nADD a there eth0 1 ports 10.99.0.5/16\nDEL a gone eth0 1 ports 10.99.0.5/16"
	if got := h.calls(); got != want {
		t.Errorf("called\n%s\nwant\n%s", got, want)
	}
	if _, err := n.Get("a"); !errors.Is(err, network.ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
	if got := h.links(); got != "lo" {
		t.Errorf("links left: %s", got)
	}
}

// TestFailure shows that nothing is left of a pod that could not be connected, and that what a kill left half made is taken away.
func TestFailure(t *testing.T) {
	h := newNode(t)
	n := h.open()
	ns := newNamespace(t)
	if _, err := n.Setup(t.Context(), attachment("a", ns)); !errors.Is(err, ErrNoConfig) || !errors.Is(Ready(h.c.ConfDir), ErrNoConfig) {
		t.Errorf("without configuration: %v", err)
	}
	h.configure("10-net.conflist", "10.88.0.5/16", `, "fail": true`)
	if _, err := n.Setup(t.Context(), attachment("a", ns)); err == nil || !strings.Contains(err.Error(), "cannot go on") {
		t.Errorf("a failing plug-in: %v", err)
	}
	if got := h.links(); got != "lo" {
		t.Errorf("links left: %s", got)
	}
	// As after a kill between the plug-in's work and the note of it.
	h.configure("10-net.conflist", "10.88.0.5/16", "")
	if _, err := n.Setup(t.Context(), attachment("b", ns)); err != nil {
		t.Fatal(err)
	}
	s := *n.get("b")
	s.Attached = nil
	if err := n.save(&s); err != nil {
		t.Fatal(err)
	}
	if err := Cleanup(t.Context(), h.c); err != nil {
		t.Fatal(err)
	}
	if got := h.links(); got != "lo" {
		t.Errorf("links left: %s", got)
	}
	if _, err := os.Stat(h.c.StateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state left: %v", err)
	}
}

// TestConfigurations shows which file counts: the first by name that is valid; single plug-ins, too.
func TestConfigurations(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"00-broken.conflist": "{",
		"05-empty.conf":      `{"name": "none"}`,
		"10-one.conf":        `{"cniVersion": "0.4.0", "name": "one", "type": "bridge"}`,
		"20-two.conflist":    `{"cniVersion": "1.0.0", "name": "two", "plugins": [{"type": "ptp"}]}`,
		"00-ignored.txt":     "",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := load(dir)
	if err != nil || list.Name != "one" || len(list.Plugins) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}
