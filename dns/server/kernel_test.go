package server_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"bareboat.dev/dns/address"
	"bareboat.dev/dns/server"
)

// sink is a client that nobody listens to.
type sink struct{ dns.ResponseWriter }

func (sink) RemoteAddr() net.Addr      { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (sink) WriteMsg(m *dns.Msg) error { return nil }

// host is a network namespace.
type host struct {
	t  testing.TB
	ns netns.NsHandle
}

func newHost(t testing.TB) host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces and needs root")
	}
	made := make(chan netns.NsHandle, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err != nil {
			t.Error(err)
		} else if lo, err := netlink.LinkByName("lo"); err != nil || netlink.LinkSetUp(lo) != nil {
			t.Error("lo does not come up", err)
		}
		made <- ns
	}()
	h := host{t, <-made}
	t.Cleanup(func() { h.ns.Close() })
	return h
}

// do runs f inside; sockets that it makes belong there.
func (h host) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(h.ns); err != nil {
			h.t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// link joins a bridge br0 on the node, 10.244.0.1/24, with a pod's eth0, 10.244.0.2/24.
func link(t testing.TB, node, pod host) {
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Error(err)
		}
	}
	up := func(name, cidr string) {
		l, err := netlink.LinkByName(name)
		must(err)
		if cidr != "" {
			a, err := netlink.ParseAddr(cidr)
			must(err)
			must(netlink.AddrAdd(l, a))
		}
		must(netlink.LinkSetUp(l))
	}
	node.do(func() {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		must(netlink.LinkAdd(br))
		must(netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "veth0", MasterIndex: br.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod.ns),
		}))
		up("br0", "10.244.0.1/24")
		up("veth0", "")
	})
	pod.do(func() {
		up("eth0", "10.244.0.2/24")
		must(netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("10.244.0.1")}))
	})
}

// A pod asks the cluster DNS address over UDP and TCP through its node's bridge, and is answered from that address; a
// truncated answer is complete over TCP; the address goes away with the daemon that added it.
func TestPodAsks(t *testing.T) {
	defer goleak.VerifyNone(t)
	node, pod := newHost(t), newHost(t)
	link(t, node, pod)
	addr := netip.MustParseAddr("10.96.0.10")
	s := start(t)
	var have address.Address
	var sockets server.Listener
	node.do(func() {
		var err error
		if have, err = address.Ensure(addr); err != nil {
			t.Error(err)
			return
		}
		if sockets, err = server.Listen(netip.AddrPortFrom(addr, 53)); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, []server.Listener{sockets}) }()

	ask := func(network, name string, size uint16) *dns.Msg {
		t.Helper()
		var m *dns.Msg
		pod.do(func() {
			// The socket is connected: an answer from any other address would never arrive.
			c := dns.Client{Net: network, Timeout: 5 * time.Second}
			q := query(name, dns.TypeA)
			if size > 0 {
				q.SetEdns0(size, false)
			}
			conn, err := net.Dial(network, "10.96.0.10:53")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if m, _, err = c.ExchangeWithConn(q, &dns.Conn{Conn: conn, UDPSize: size}); err != nil {
				t.Error(err)
				m = new(dns.Msg)
			}
		})
		return m
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := brief(ask(network, "web.shop.svc.cluster.local.", 0)); got != "NOERROR aa A 10.96.0.7" {
			t.Errorf("%s: %s", network, got)
		}
		if got := brief(ask(network, "www.example.org.", 1232)); got != "NOERROR A 192.0.2.80" {
			t.Errorf("%s: %s", network, got)
		}
	}
	if m := ask("udp", "big.shop.svc.cluster.local.", 1232); !m.Truncated {
		t.Error("200 addresses came in one datagram")
	}
	if m := ask("tcp", "big.shop.svc.cluster.local.", 1232); m.Truncated || len(m.Answer) != 200 {
		t.Errorf("%d of 200 addresses over TCP, truncated %v", len(m.Answer), m.Truncated)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	node.do(func() {
		if err := have.Remove(); err != nil {
			t.Error(err)
		}
		if got := hostAddrs(t); strings.Contains(got, "10.96.0.10") || strings.Contains(got, "bareboat") {
			t.Errorf("left behind: %s", got)
		}
	})
}

// hostAddrs lists addresses with their interfaces.
func hostAddrs(t *testing.T) string {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Error(err)
	}
	var out []string
	for _, a := range addrs {
		l, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil {
			t.Error(err)
			continue
		}
		out = append(out, l.Attrs().Name+" "+a.IPNet.String())
	}
	return strings.Join(out, ", ")
}

// Somebody else's address is used, and stays; one's own is recognized by a later daemon, and by cleanup.
func TestAddressOwnership(t *testing.T) {
	h := newHost(t)
	h.do(func() {
		theirs, ours, six := netip.MustParseAddr("10.96.0.11"), netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::a")
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Error(err)
			return
		}
		a, _ := netlink.ParseAddr("10.96.0.11/32")
		if err := netlink.AddrAdd(lo, a); err != nil {
			t.Error(err)
		}
		before := hostAddrs(t)
		have, err := address.Ensure(theirs)
		if err != nil || have.Ours() || have.Remove() != nil {
			t.Errorf("theirs: %v %v", have, err)
		}
		for _, addr := range []netip.Addr{ours, six} {
			for range 2 { // the second time stands for a daemon after a kill
				if have, err := address.Ensure(addr); err != nil || !have.Ours() {
					t.Errorf("ours: %v %v", have, err)
				}
			}
		}
		for range 2 {
			if err := address.Cleanup([]netip.Addr{ours, theirs, six}); err != nil {
				t.Error(err)
			}
			if after := hostAddrs(t); after != before {
				t.Errorf("before: %s\nafter:  %s", before, after)
			}
		}
	})
}
