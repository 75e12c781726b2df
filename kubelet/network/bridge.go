package network

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// aliasMark begins the alias of every interface that we made.
	aliasMark = "bareboat"
	// hostPrefix begins the names of the pods' interfaces on the node; the rest is from the pod's UID.
	hostPrefix   = "bb"
	hostDigits   = 13
	podInterface = "eth0"
	defaultMTU   = 1500
)

// hostName is the name of a pod's interface on the node: 2 + 13 = 15 characters, the longest that Linux allows. 52 bits do not collide on
// one node.
func hostName(podUID string) string {
	sum := sha256.Sum256([]byte(podUID))
	return hostPrefix + hex.EncodeToString(sum[:])[:hostDigits]
}

// ensureBridge makes the bridge with the gateways' addresses, or brings it to that state.
func (n *Network) ensureBridge() error {
	link, err := n.host.LinkByName(n.config.Bridge)
	if isNotFound(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = n.config.Bridge, n.config.MTU
		attrs.HardwareAddr = bridgeMAC(n.config.Bridge)
		if err := n.host.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make bridge %s: %w", n.config.Bridge, err)
		}
		link, err = n.host.LinkByName(n.config.Bridge)
	}
	if err != nil {
		return err
	}
	if !isOurBridge(link, n.config.Bridge) {
		return fmt.Errorf("%w: interface %s exists and is not ours", ErrInvalid, n.config.Bridge)
	}
	if err := n.ensureGateways(link); err != nil {
		return err
	}
	n.bridge = link.Attrs().Index
	if err := in(n.config.NetNSPath, func() error { return distrust(n.config.Bridge) }); err != nil {
		return err
	}
	return n.host.LinkSetUp(link)
}

// bridgeMAC is fixed: otherwise a bridge takes that of its first port, and pods' neighbour entries go stale as pods come and go. It also
// marks the bridge as ours from the instant that it exists.
func bridgeMAC(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("bareboat bridge " + name))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&0xfe | 0x02 // unicast, locally administered
	return mac
}

// ensureGateways gives the bridge exactly the first address of each range.
func (n *Network) ensureGateways(link netlink.Link) error {
	have, err := n.host.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	want := map[netip.Prefix]bool{}
	for _, c := range n.config.PodCIDRs {
		want[netip.PrefixFrom(gatewayOf(c), c.Bits())] = true
	}
	for _, a := range have {
		p, ok := prefixOf(a.IPNet)
		if !ok || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if want[p] {
			delete(want, p)
			continue
		}
		if err := n.host.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove old gateway address %s: %w", p, err)
		}
	}
	for p := range want {
		addr := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := n.host.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add gateway address %s: %w", p, err)
		}
	}
	return nil
}

// defaultRouteMTU is that of the interface that leads outside.
func defaultRouteMTU(h *netlink.Handle) int {
	routes, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return defaultMTU
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
			continue
		}
		if link, err := h.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU > 0 {
			return link.Attrs().MTU
		}
	}
	return defaultMTU
}

func isNotFound(err error) bool {
	var nf netlink.LinkNotFoundError
	return errors.As(err, &nf) || errors.Is(err, unix.ENODEV)
}

func isOurBridge(l netlink.Link, name string) bool {
	return l.Attrs().Name == name && l.Type() == "bridge" && bytes.Equal(l.Attrs().HardwareAddr, bridgeMAC(name))
}

// isOurPort says whether we made a pod's interface: its name is of our kind, and it is a port of our bridge, which it is from the instant that
// it exists, or bears our alias.
func isOurPort(l netlink.Link, bridge int) bool {
	a := l.Attrs()
	digits, ok := strings.CutPrefix(a.Name, hostPrefix)
	if !ok || l.Type() != "veth" || len(digits) != hostDigits || strings.Trim(digits, "0123456789abcdef") != "" {
		return false
	}
	return bridge != 0 && a.MasterIndex == bridge || strings.HasPrefix(a.Alias, aliasMark+" ")
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}
