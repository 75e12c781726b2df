package reach

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/server/node"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// Nothing in the cluster can lead the server to loopback, link-local, multicast or unspecified addresses, in either family.
func TestAllowed(t *testing.T) {
	for address, want := range map[string]bool{
		"10.0.0.1:80": true, "[2001:db8::1]:80": true, "[fd00::1]:80": true, "127.0.0.1:80": false, "[::1]:80": false, "169.254.169.254:80": false,
		"[fe80::1]:80": false, "0.0.0.0:80": false, "[::]:80": false, "224.0.0.1:80": false, "[::ffff:127.0.0.1]:80": false, "255.255.255.255:80": false,
	} {
		if got := allowed("tcp", address, nil) == nil; got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// An address is routed if the host has a route to it beyond its default route: seen on the real kernel, in a namespace of its own.
func TestRouted(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread, and with it the namespace, ends with the test's goroutine
	if _, err := netns.New(); err != nil {
		t.Fatalf("this test needs root to make a network namespace: %v", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"link", "add", "d0", "type", "veth", "peer", "name", "d1"}, {"link", "set", "d1", "up"}, {"addr", "add", "192.0.2.2/24", "dev", "d0"}, {"link", "set", "d0", "up"},
		{"route", "add", "default", "via", "192.0.2.1"}, {"route", "add", "10.244.3.0/24", "via", "192.0.2.9"}, {"route", "add", "unreachable", "203.0.113.0/24"},
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v %s", args, err, out)
		}
	}
	for address, want := range map[string]bool{
		"192.0.2.7": true, "10.244.3.5": true, "192.0.2.2": true, "10.244.4.5": false, "198.51.100.1": false, "203.0.113.5": false, "2001:db8::1": false,
	} {
		if got := routed(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// What goes through a kubelet names the pod with its uid, and the address at which it is to be found.
func TestBeginNamesThePod(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.UID, pod.Spec.NodeName = "ns", "p", "u", "n"
	f := &sent{}
	if err := begin(f, targetOf(pod), netip.MustParseAddrPort("[fd00::5]:443")); err != nil {
		t.Fatal(err)
	}
	if s := f.start; s.GetNamespace() != "ns" || s.GetPod() != "p" || s.GetUid() != "u" || s.GetAddress() != "fd00::5" || s.GetPort() != 443 {
		t.Errorf("asked for %v", s)
	}
}

// sent keeps what a connection is asked for by.
type sent struct {
	start *nodev1.PortForwardRequest_Start
}

func (s *sent) Send(r *nodev1.PortForwardRequest) error {
	s.start = r.GetStart()
	return nil
}

func (*sent) Recv() (*nodev1.PortForwardResponse, error) { return &nodev1.PortForwardResponse{}, nil }

// A request through a kubelet gets a connection to the pod that it is for, even if another pod claims the same address.
func TestTunnelsAreOnePodsOwn(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(web.Close)
	n := New(Config{Nodes: &node.Proxy{}, Routed: func(netip.Addr) bool { return false }})
	t.Cleanup(n.Close)
	var reached []string
	n.tunnels.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		to, _ := ctx.Value(targetKey{}).(target)
		reached = append(reached, to.pod)
		return (&net.Dialer{}).DialContext(ctx, network, web.Listener.Addr().String())
	}
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{}
		p.Name, p.Spec.NodeName = name, "n"
		return p
	}
	a := netip.MustParseAddr("198.51.100.7")
	for _, name := range []string{"bad", "good", "bad", "good"} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://198.51.100.7:80/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := n.transport(a, pod(name)).RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if !slices.Equal(reached, []string{"bad", "good", "bad", "good"}) {
		t.Errorf("reached %v", reached)
	}
	onHost := pod("host")
	onHost.Spec.HostNetwork = true
	if n.transport(a, onHost) != http.RoundTripper(n.pods) {
		t.Error("a pod on its host's network is reached through a kubelet")
	}
}
