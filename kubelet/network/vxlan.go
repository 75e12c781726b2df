package network

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Nodes that share no segment reach each other's pods through VXLAN (RFC 7348): a device per address family, without learning or
// multicast. Everything that a packet needs on its way is known from the Node objects: a device's hardware address follows from its
// node's address, so a neighbour entry and a forwarding entry per node are all there is, and nodes exchange nothing.
const (
	vxlanName4, vxlanName6 = "bareboat-vx4", "bareboat-vx6"
	vxlanID                = 1
	vxlanPort              = 4789 // IANA's
	// vxlanOverhead is what a packet grows by: outer IP, UDP, VXLAN and inner Ethernet headers.
	vxlanOverhead4, vxlanOverhead6 = 20 + 8 + 8 + 14, 40 + 8 + 8 + 14
)

func vxlanName(ipv6 bool) string {
	if ipv6 {
		return vxlanName6
	}
	return vxlanName4
}

// vxlanMAC is the hardware address of a node's device: any node can tell it from the node's address.
func vxlanMAC(node netip.Addr) net.HardwareAddr {
	sum := sha256.Sum256([]byte("bareboat vxlan " + node.String()))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&0xfe | 0x02 // unicast, locally administered
	return mac
}

// isOurVxlan says whether we made a device: its hardware address is of our making from the instant that it exists.
func isOurVxlan(l netlink.Link, name string) bool {
	v, ok := l.(*netlink.Vxlan)
	return ok && v.Name == name && v.VxlanId == vxlanID && len(v.HardwareAddr) == 6 && v.HardwareAddr[0]&0x03 == 0x02
}

// tunnel is a family's device, as SyncRoutes wants it.
type tunnel struct {
	ipv6  bool
	local netip.Addr
	index int
	// far are the nodes behind it: the hop of their route, by their address.
	far map[netip.Addr]netip.Addr
}

// direct says whether a node is on a directly connected segment.
func (n *Network) direct(node netip.Addr) (bool, error) {
	routes, err := n.host.RouteGet(node.AsSlice())
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, fmt.Errorf("node %s cannot be reached", node)
	}
	if err != nil {
		return false, fmt.Errorf("look up the way to node %s: %w", node, err)
	}
	for _, r := range routes {
		if len(r.Gw) == 0 || r.Gw.IsUnspecified() {
			return true, nil
		}
	}
	return false, nil
}

// nodeIP is this node's own address of a family.
func (n *Network) nodeIP(ipv6 bool) (netip.Addr, bool) {
	for _, ip := range n.config.NodeIPs {
		if ip.Is6() == ipv6 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// ensureTunnel makes a family's device, or brings it to the state that it should have.
func (n *Network) ensureTunnel(ipv6 bool) (*tunnel, error) {
	local, ok := n.nodeIP(ipv6)
	if !ok {
		return nil, fmt.Errorf("%w: this node has no address of the other's family to send from", ErrInvalid)
	}
	name := vxlanName(ipv6)
	link, err := n.host.LinkByName(name)
	if err == nil && isOurVxlan(link, name) && !bytes.Equal(link.Attrs().HardwareAddr, vxlanMAC(local)) {
		// The node has another address now.
		if err := n.host.LinkDel(link); err != nil {
			return nil, err
		}
		link, err = n.host.LinkByName(name)
	}
	if isNotFound(err) {
		if err := n.host.LinkAdd(n.vxlan(ipv6, local)); err != nil {
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
		link, err = n.host.LinkByName(name)
	}
	if err != nil {
		return nil, err
	}
	if !isOurVxlan(link, name) {
		return nil, fmt.Errorf("%w: interface %s exists and is not ours", ErrInvalid, name)
	}
	// The first address of the pod range, which no pod has, is where the node's own packets to far pods come from: answers to it take
	// the same way back.
	if source, ok := n.tunnelSource(ipv6); ok {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(source, source.BitLen()))}
		if ipv6 {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := n.host.AddrReplace(link, addr); err != nil {
			return nil, fmt.Errorf("address of %s: %w", name, err)
		}
	}
	if err := in(n.config.NetNSPath, func() error { return distrust(name) }); err != nil {
		return nil, err
	}
	return &tunnel{ipv6: ipv6, local: local, index: link.Attrs().Index, far: map[netip.Addr]netip.Addr{}}, n.host.LinkSetUp(link)
}

func (n *Network) tunnelSource(ipv6 bool) (netip.Addr, bool) {
	for _, c := range ofFamily(n.config.PodCIDRs, ipv6) {
		return c.Masked().Addr(), true
	}
	return netip.Addr{}, false
}

func (n *Network) vxlan(ipv6 bool, local netip.Addr) *netlink.Vxlan {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = vxlanName(ipv6), vxlanMAC(local)
	attrs.MTU = n.config.MTU - vxlanOverhead4
	if ipv6 {
		attrs.MTU = n.config.MTU - vxlanOverhead6
	}
	return &netlink.Vxlan{LinkAttrs: attrs, VxlanId: vxlanID, SrcAddr: local.AsSlice(), Port: vxlanPort}
}

// route is the way to another node's pods through the tunnel: by way of the first address of their range, which no pod has.
func (t *tunnel) route(r Route) *netlink.Route {
	dst := r.Destination.Masked()
	t.far[r.Gateway] = dst.Addr()
	return &netlink.Route{Dst: ipNet(dst), Gw: dst.Addr().AsSlice(), LinkIndex: t.index, Flags: int(netlink.FLAG_ONLINK), Protocol: routeProtocol}
}

// syncNeighbours makes the tunnel's neighbour and forwarding entries exactly those of the nodes behind it.
func (t *tunnel) syncNeighbours(h *netlink.Handle) error {
	want := map[string]netlink.Neigh{}
	for node, hop := range t.far {
		mac := vxlanMAC(node)
		for _, e := range []netlink.Neigh{
			{LinkIndex: t.index, Family: family(t.ipv6), State: netlink.NUD_PERMANENT, IP: hop.AsSlice(), HardwareAddr: mac},
			{LinkIndex: t.index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF, IP: node.AsSlice(), HardwareAddr: mac},
		} {
			want[neighbourKey(&e)] = e
		}
	}
	var all error
	for _, f := range []int{family(t.ipv6), unix.AF_BRIDGE} {
		have, err := h.NeighList(t.index, f)
		if err != nil {
			return err
		}
		for i := range have {
			e := &have[i]
			e.Family = f
			if _, ok := want[neighbourKey(e)]; ok {
				delete(want, neighbourKey(e))
			} else if e.State&netlink.NUD_PERMANENT != 0 && len(e.IP) > 0 {
				if err := h.NeighDel(e); err != nil && !errors.Is(err, unix.ENOENT) {
					all = errors.Join(all, err)
				}
			}
		}
	}
	for _, e := range want {
		if err := h.NeighSet(&e); err != nil {
			all = errors.Join(all, fmt.Errorf("neighbour %s of %s: %w", e.IP, vxlanName(t.ipv6), err))
		}
	}
	return all
}

func neighbourKey(e *netlink.Neigh) string {
	return fmt.Sprint(e.Family == unix.AF_BRIDGE, e.IP, e.HardwareAddr)
}

func family(ipv6 bool) int {
	if ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// removeTunnel removes a family's device, if it is ours.
func removeTunnel(h *netlink.Handle, ipv6 bool) error {
	name := vxlanName(ipv6)
	link, err := h.LinkByName(name)
	if isNotFound(err) || err == nil && !isOurVxlan(link, name) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
