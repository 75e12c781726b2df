package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
)

// Shows that pods of a node reach each other and the node under their own addresses, also those that are given out first and last.
func TestPodsReachEachOther(t *testing.T) {
	node := newNode(t)
	n := openNetwork(t, config(t, node, "10.244.7.0/24"))
	a, nsA := setup(t, n, "pod-a")
	b, nsB := setup(t, n, "pod-b")
	if a.IPs[0] != netip.MustParseAddr("10.244.7.2") || b.IPs[0] != netip.MustParseAddr("10.244.7.3") {
		t.Errorf("addresses %v and %v", a.IPs, b.IPs)
	}
	serve(t, nsB, "10.244.7.3:80")
	serve(t, node, "10.244.7.1:80")
	for _, c := range []struct{ from, to, seen string }{
		{nsA, "10.244.7.3:80", "10.244.7.2"}, // pod to pod
		{node, "10.244.7.3:80", "10.244.7.1"},
		{nsA, "10.244.7.1:80", "10.244.7.2"}, // pod to node
		{nsB, "10.244.7.3:80", "10.244.7.3"}, // to itself
	} {
		seen, err := ask(c.from, c.to)
		if err != nil || seen != c.seen {
			t.Errorf("ask %s: %q, %v; want %q", c.to, seen, err, c.seen)
		}
	}
	stats, err := n.Stats("pod-a")
	if err != nil || stats.SentPackets == 0 || stats.ReceivedPackets == 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
}

// Shows that traffic to the outside bears the node's address, traffic to other nodes' pods the pod's own, and that routes follow SyncRoutes.
func TestOutsideAndOtherNodes(t *testing.T) {
	one, two := newNode(t), newNode(t)
	joinNodes(t, one, two, "192.168.50.1/24", "192.168.50.2/24")
	c1, c2 := config(t, one, "10.244.1.0/24"), config(t, two, "10.244.2.0/24")
	cluster := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	c1.ClusterCIDRs, c2.ClusterCIDRs = cluster, cluster
	n1, n2 := openNetwork(t, c1), openNetwork(t, c2)
	_, pod1 := setup(t, n1, "pod-1")
	_, pod2 := setup(t, n2, "pod-2")
	to := func(prefix, via string) []Route {
		return []Route{{Destination: netip.MustParsePrefix(prefix), Gateway: netip.MustParseAddr(via)}}
	}
	if err := n1.SyncRoutes(t.Context(), to("10.244.2.0/24", "192.168.50.2")); err != nil {
		t.Fatal(err)
	}
	if err := n2.SyncRoutes(t.Context(), to("10.244.1.0/24", "192.168.50.1")); err != nil {
		t.Fatal(err)
	}
	serve(t, two, "192.168.50.2:80")
	serve(t, pod2, "10.244.2.2:80")
	if seen, err := ask(pod1, "192.168.50.2:80"); err != nil || seen != "192.168.50.1" {
		t.Errorf("outside: seen as %q, %v; want the node's address", seen, err)
	}
	if seen, err := ask(pod1, "10.244.2.2:80"); err != nil || seen != "10.244.1.2" {
		t.Errorf("other node's pod: seen as %q, %v; want the pod's address", seen, err)
	}
	if err := n1.SyncRoutes(t.Context(), to("10.244.9.0/24", "172.31.0.1")); err == nil {
		t.Error("a gateway that is not on the link was accepted")
	}
	withHandle(t, one, func(h *netlink.Handle) {
		if left, err := ourRoutes(h); err != nil || len(left) != 0 {
			t.Errorf("routes %v, %v; want none left", left, err)
		}
	})
}

// Shows that a host port leads to its pod from other nodes, from the node and from the pod itself, is refused to a second pod, and is
// free again after Teardown.
func TestHostPort(t *testing.T) {
	node, client := newNode(t), newNode(t)
	joinNodes(t, node, client, "192.168.60.1/24", "192.168.60.2/24")
	n := openNetwork(t, config(t, node, "10.244.3.0/24"))
	port := HostPort{Protocol: TCP, HostPort: 8080, ContainerPort: 80}
	_, ns := setup(t, n, "web", port)
	serve(t, ns, ":80")
	for who, from := range map[string]string{"client": client, "node": node, "itself": ns} {
		if _, err := ask(from, "192.168.60.1:8080"); err != nil {
			t.Errorf("%s cannot use the host port: %v", who, err)
		}
	}
	if seen, _ := ask(client, "192.168.60.1:8080"); seen != "192.168.60.2" {
		t.Errorf("the client is seen as %q, want its own address", seen)
	}
	_, err := n.Setup(t.Context(), Attachment{PodUID: "web-2", NetNSPath: newNamespace(t), HostPorts: []HostPort{port}})
	if !errors.Is(err, ErrPortTaken) {
		t.Errorf("second pod on the port: %v", err)
	}
	if err := n.Teardown(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(client, "192.168.60.1:8080"); err == nil {
		t.Error("the host port still answers after the pod is gone")
	}
	setup(t, n, "web-2", port)
}

// Shows that a client that sends datagrams from one port, without a pause, is heard by whichever pod has the host port now.
func TestHostPortOfDatagrams(t *testing.T) {
	node, client := newNode(t), newNode(t)
	joinNodes(t, node, client, "192.168.60.1/24", "192.168.60.2/24")
	n := openNetwork(t, config(t, node, "10.244.3.0/24"))
	port := HostPort{Protocol: UDP, HostPort: 5353, ContainerPort: 53}
	var c net.Conn
	err := in(client, func() (err error) {
		c, err = net.Dial("udp4", "192.168.60.1:5353")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Nobody is there; the kernel notes the flow all the same.
	if _, err := exchange(c); !isRefused(err) {
		t.Fatalf("without a pod: %v", err)
	}
	for _, name := range []string{"first", "second"} {
		_, ns := setup(t, n, name, port)
		echo(t, ns, ":53", name)
		if got, err := exchange(c); got != name {
			t.Errorf("answered by %q, %v; want %s", got, err, name)
		}
		if err := n.Teardown(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := exchange(c); !isRefused(err) {
		t.Errorf("answered by %q, %v; both pods are gone", got, err)
	}
}

// Shows that a host port of a loopback address leads to its pod for who connects from the node's own address, and nobody
// outside can use it.
func TestHostPortOfLoopback(t *testing.T) {
	node, client := newNode(t), newNode(t)
	joinNodes(t, node, client, "192.168.60.1/24", "192.168.60.2/24")
	n := openNetwork(t, config(t, node, "10.244.3.0/24"))
	_, ns := setup(t, n, "web", HostPort{Protocol: TCP, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, ContainerPort: 80})
	serve(t, ns, ":80")
	if _, err := askFrom(node, net.IPv4(192, 168, 60, 1), "127.0.0.1:8080"); err != nil {
		t.Errorf("from the node's address: %v", err)
	}
	if _, err := ask(client, "192.168.60.1:8080"); err == nil {
		t.Error("the port answers at the node's other address")
	}
}

// Shows that a restarted kubelet finds the addresses as they were, that Setup repeats, and that what belongs to nobody is removed.
func TestRestart(t *testing.T) {
	node := newNode(t)
	c := config(t, node, "10.244.4.0/24")
	n := openNetwork(t, c)
	first, ns := setup(t, n, "stays", HostPort{Protocol: UDP, HostPort: 53, ContainerPort: 53})
	setup(t, n, "stray")
	// As after a crash between the removal of the file and of the interface.
	if err := os.Remove(podFile(c.StateDir, "stray")); err != nil {
		t.Fatal(err)
	}
	// And a file cut short by a crash of the machine.
	if err := os.WriteFile(podFile(c.StateDir, "broken"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := openNetwork(t, c)
	if list := again.List(); len(list) != 1 || list[0].PodUID != "stays" || list[0].IPs[0] != first.IPs[0] || len(list[0].HostPorts) != 1 {
		t.Errorf("pods after restart: %+v", list)
	}
	withHandle(t, node, func(h *netlink.Handle) {
		if _, err := h.LinkByName(hostName("stray")); !isNotFound(err) {
			t.Errorf("the stray interface is still there: %v", err)
		}
	})
	repeated, err := again.Setup(t.Context(), Attachment{PodUID: "stays", NetNSPath: ns})
	if err != nil || repeated.IPs[0] != first.IPs[0] {
		t.Errorf("repeated setup: %+v, %v", repeated, err)
	}
	next, _ := setup(t, again, "new")
	if next.IPs[0] == first.IPs[0] {
		t.Errorf("address %s given out twice", next.IPs[0])
	}
	if err := again.Retain(t.Context(), func(uid string) bool { return uid == "new" }); err != nil {
		t.Fatal(err)
	}
	if list := again.List(); len(list) != 1 || list[0].PodUID != "new" {
		t.Errorf("retained %+v", list)
	}
}

// Shows that a pod whose namespace was made anew (the machine or its podshim was restarted) gets a new interface, with the same address.
func TestSetupReplacesInterfaceOfOldNamespace(t *testing.T) {
	n := openNetwork(t, config(t, newNode(t), "10.244.4.0/24"))
	first, _ := setup(t, n, "pod")
	ns := newNamespace(t)
	second, err := n.Setup(t.Context(), Attachment{PodUID: "pod", NetNSPath: ns})
	if err != nil || second.IPs[0] != first.IPs[0] {
		t.Fatalf("setup in the new namespace: %+v, %v", second, err)
	}
	if _, err := ask(ns, "10.244.4.1:9"); !isRefused(err) {
		t.Errorf("the gateway does not answer from the new namespace: %v", err)
	}
}

// Shows that an IPv6 range works next to an IPv4 one, in the order configured.
func TestDualStack(t *testing.T) {
	node := newNode(t)
	n := openNetwork(t, config(t, node, "10.244.5.0/24", "fd00:10:244:5::/64"))
	a, nsA := setup(t, n, "a")
	_, nsB := setup(t, n, "b")
	if len(a.IPs) != 2 || !a.IPs[0].Is4() || !a.IPs[1].Is6() {
		t.Fatalf("addresses %v", a.IPs)
	}
	serve(t, nsA, "[::]:80")
	seen, err := ask(nsB, netip.AddrPortFrom(a.IPs[1], 80).String())
	if err != nil || seen != "fd00:10:244:5::3" {
		t.Errorf("over IPv6: seen as %q, %v", seen, err)
	}
}

// Shows that a failed Setup leaves nothing: no address, no file, no interface.
func TestFailedSetupLeavesNothing(t *testing.T) {
	node := newNode(t)
	c := config(t, node, "10.244.6.0/30")
	n := openNetwork(t, c)
	before := inventory(t, node)
	if _, err := n.Setup(t.Context(), Attachment{PodUID: "p", NetNSPath: "/nonexistent"}); err == nil {
		t.Fatal("set up in a namespace that does not exist")
	}
	if after := inventory(t, node); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
	if files, _ := os.ReadDir(filepath.Join(c.StateDir, podsDir)); len(files) != 0 {
		t.Errorf("files %v", files)
	}
	setup(t, n, "only") // of a /30 one address can be given out, which was freed
	if _, err := n.Setup(t.Context(), Attachment{PodUID: "q", NetNSPath: newNamespace(t)}); !errors.Is(err, ErrNoAddress) {
		t.Errorf("one pod too many: %v", err)
	}
}

// Shows that Cleanup leaves a node as it was before Open, and can be repeated.
func TestCleanup(t *testing.T) {
	node := newNode(t)
	c := config(t, node, "10.244.8.0/24")
	before := inventory(t, node)
	n := openNetwork(t, c)
	setup(t, n, "web", HostPort{Protocol: TCP, HostPort: 8080, ContainerPort: 80})
	if err := n.SyncRoutes(t.Context(), []Route{{Destination: netip.MustParsePrefix("10.244.9.0/24"), Gateway: netip.MustParseAddr("10.244.8.9")}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Cleanup(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if after := inventory(t, node); after != before {
			t.Errorf("before:\n%safter:\n%s", before, after)
		}
	}
	if _, err := os.Stat(c.StateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory is still there: %v", err)
	}
}

// Shows that an interface of that name that somebody else made is neither used nor removed.
func TestForeignBridgeIsLeftAlone(t *testing.T) {
	node := newNode(t)
	withHandle(t, node, func(h *netlink.Handle) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = DefaultBridge
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			t.Fatal(err)
		}
	})
	c := config(t, node, "10.244.8.0/24")
	if _, err := Open(c); !errors.Is(err, ErrInvalid) {
		t.Errorf("open: %v", err)
	}
	if err := Cleanup(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	withHandle(t, node, func(h *netlink.Handle) {
		if _, err := h.LinkByName(DefaultBridge); err != nil {
			t.Errorf("the foreign bridge: %v", err)
		}
	})
}

// Shows that bandwidth limits are set on both ends, and that a limited pod still talks.
func TestBandwidth(t *testing.T) {
	node := newNode(t)
	n := openNetwork(t, config(t, node, "10.244.9.0/24"))
	ns := newNamespace(t)
	a := Attachment{PodUID: "slow", NetNSPath: ns, IngressBandwidth: 10_000_000, EgressBandwidth: 5_000_000}
	for range 2 {
		if _, err := n.Setup(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for path, name := range map[string]string{node: hostName("slow"), ns: podInterface} {
		withHandle(t, path, func(h *netlink.Handle) {
			link, err := h.LinkByName(name)
			if err != nil {
				t.Fatal(err)
			}
			qdiscs, err := h.QdiscList(link)
			if err != nil || len(qdiscs) == 0 || qdiscs[0].Type() != "tbf" {
				t.Errorf("%s: %v, %v", name, qdiscs, err)
			}
		})
	}
	serve(t, ns, ":80")
	if _, err := ask(node, "10.244.9.2:80"); err != nil {
		t.Error(err)
	}
}

// BenchmarkSetup measures connecting a pod; disconnecting it is not counted.
func BenchmarkSetup(b *testing.B) {
	node := newNode(b)
	n := openNetwork(b, config(b, node, "10.244.0.0/24"))
	ns := newNamespace(b)
	for b.Loop() {
		if _, err := n.Setup(b.Context(), Attachment{PodUID: "p", NetNSPath: ns}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := n.Teardown(b.Context(), "p"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
