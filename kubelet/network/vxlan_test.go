package network

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// apart makes two nodes with a router between them, for both families.
func apart(t *testing.T) (one, two string) {
	t.Helper()
	one, two = newNode(t), newNode(t)
	router := newNode(t)
	cable(t, "left", one, router, "192.168.51.10/24", "192.168.51.1/24")
	cable(t, "right", two, router, "192.168.52.10/24", "192.168.52.1/24")
	for _, end := range []struct{ ns, link, addr, gateway string }{
		{router, "left", "fd51::1/64", ""}, {router, "right", "fd52::1/64", ""},
		{one, "left", "fd51::10/64", "fd51::1"}, {two, "right", "fd52::10/64", "fd52::1"},
	} {
		withHandle(t, end.ns, func(h *netlink.Handle) {
			link, err := h.LinkByName(end.link)
			if err != nil {
				t.Fatal(err)
			}
			addr, _ := netlink.ParseAddr(end.addr)
			addr.Flags = 0x02 // IFA_F_NODAD
			if err := h.AddrAdd(link, addr); err != nil {
				t.Fatal(err)
			}
			if end.gateway == "" {
				return
			}
			for _, gw := range []string{end.gateway, map[string]string{"left": "192.168.51.1", "right": "192.168.52.1"}[end.link]} {
				if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gw)}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if err := in(router, func() error {
		for _, ipv6 := range []bool{false, true} {
			if _, err := setSysctl(forwardSysctl(ipv6), "1"); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return one, two
}

// TestNodesApart shows that pods of nodes that share no segment reach each other under their own addresses, in both families, also with
// packets as large as there are; that nodes reach far pods; that the way changes when the nodes do; and that nothing is left.
func TestNodesApart(t *testing.T) {
	one, two := apart(t)
	before := inventory(t, one)
	make := func(node string, ips, cidrs []string) *Network {
		c := config(t, node, cidrs...)
		c.MTU = 1500
		c.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd10:244::/32")}
		for _, ip := range ips {
			c.NodeIPs = append(c.NodeIPs, netip.MustParseAddr(ip))
		}
		return openNetwork(t, c)
	}
	n1 := make(one, []string{"192.168.51.10", "fd51::10"}, []string{"10.244.1.0/24", "fd10:244:1::/64"})
	n2 := make(two, []string{"192.168.52.10", "fd52::10"}, []string{"10.244.2.0/24", "fd10:244:2::/64"})
	routes := func(v4, v6, gw4, gw6 string) []Route {
		return []Route{
			{netip.MustParsePrefix(v4), netip.MustParseAddr(gw4)}, {netip.MustParsePrefix(v6), netip.MustParseAddr(gw6)},
		}
	}
	for range 2 { // the second time finds everything as it should be
		if err := n1.SyncRoutes(t.Context(), routes("10.244.2.0/24", "fd10:244:2::/64", "192.168.52.10", "fd52::10")); err != nil {
			t.Fatal(err)
		}
		if err := n2.SyncRoutes(t.Context(), routes("10.244.1.0/24", "fd10:244:1::/64", "192.168.51.10", "fd51::10")); err != nil {
			t.Fatal(err)
		}
	}
	_, pod1 := setup(t, n1, "pod-1")
	_, pod2 := setup(t, n2, "pod-2")
	serve(t, pod2, "10.244.2.2:80")
	serve(t, pod2, "[fd10:244:2::2]:80")
	for _, c := range []struct{ from, to, seen string }{
		{pod1, "10.244.2.2:80", "10.244.1.2"}, {pod1, "[fd10:244:2::2]:80", "fd10:244:1::2"},
		{one, "10.244.2.2:80", "10.244.1.0"}, // the tunnel's own address, so that answers come back through it
	} {
		if seen, err := ask(c.from, c.to); err != nil || seen != c.seen {
			t.Errorf("ask %s: %q, %v; want %q", c.to, seen, err, c.seen)
		}
	}
	carry(t, pod1, pod2, "10.244.2.2:81")

	// The far node moves to another address: the entries of the old one go.
	if err := n1.SyncRoutes(t.Context(), routes("10.244.2.0/24", "fd10:244:2::/64", "192.168.52.11", "fd52::11")); err != nil {
		t.Fatal(err)
	}
	withHandle(t, one, func(h *netlink.Handle) {
		link, err := h.LinkByName(vxlanName4)
		if err != nil {
			t.Fatal(err)
		}
		neighbours, err := h.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
		if err != nil || len(neighbours) != 1 || neighbours[0].HardwareAddr.String() != vxlanMAC(netip.MustParseAddr("192.168.52.11")).String() {
			t.Errorf("neighbours: %v, %v", neighbours, err)
		}
	})
	if err := n1.SyncRoutes(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	withHandle(t, one, func(h *netlink.Handle) {
		for _, name := range []string{vxlanName4, vxlanName6} {
			if _, err := h.LinkByName(name); !isNotFound(err) {
				t.Errorf("%s is left without need: %v", name, err)
			}
		}
	})
	if err := n1.SyncRoutes(t.Context(), routes("10.244.2.0/24", "fd10:244:2::/64", "192.168.52.10", "fd52::10")); err != nil {
		t.Fatal(err)
	}
	if err := Cleanup(t.Context(), n1.config); err != nil {
		t.Fatal(err)
	}
	if after := inventory(t, one); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

// carry sends more than fits into a few packets, from one namespace to another.
func carry(t *testing.T, from, to, address string) {
	t.Helper()
	const size = 1 << 20
	var l net.Listener
	if err := in(to, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		got <- n
	}()
	if err := in(from, func() error {
		c, err := net.DialTimeout("tcp", address, testLimit)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(testLimit))
		_, err = c.Write(make([]byte, size))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes of %d arrived", n, size)
	}
}
