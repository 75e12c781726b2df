package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Pods share a segment with each other and with the node's end of the bridge, and may send any frame (CAP_NET_RAW is among a container's
// usual capabilities). So nobody on it believes what a pod says of routes, addresses or ports: advertised routers and redirects are not
// followed, and who has which address, and behind which port, is written down when the pod is connected.

// distrust has an interface follow neither router advertisements nor redirects; in its network namespace, before it is up. A kernel
// without IPv6 has nothing to be told.
func distrust(link string) error {
	for _, name := range []string{"ipv6/conf/%s/accept_ra", "ipv6/conf/%s/accept_redirects", "ipv4/conf/%s/accept_redirects"} {
		if _, err := setSysctl("net/"+fmt.Sprintf(name, link), "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("distrust %s: %w", link, err)
		}
	}
	return nil
}

// distrustPod does so in a pod, where the kernel follows redirects that one of the interface and all interfaces accept.
func distrustPod() error {
	if _, err := setSysctl("net/ipv4/conf/all/accept_redirects", "0"); err != nil {
		return err
	}
	return distrust(podInterface)
}

// pin ties a pod's hardware address to its port, and its addresses to that on the node; in the pod, the gateways' to the bridge.
func (n *Network) pin(port netlink.Link, inside *netlink.Handle, pod Attached) error {
	link, err := inside.LinkByName(podInterface)
	if err != nil {
		return err
	}
	mac := link.Attrs().HardwareAddr
	if err := n.host.LinkSetLearning(port, false); err != nil {
		return fmt.Errorf("stop %s from learning: %w", pod.HostInterface, err)
	}
	behind := netlink.Neigh{LinkIndex: port.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: mac}
	if err := n.host.NeighSet(&behind); err != nil {
		return fmt.Errorf("tie %s to %s: %w", mac, pod.HostInterface, err)
	}
	for _, ip := range pod.IPs {
		if err := n.host.NeighSet(permanent(n.bridge, ip, mac)); err != nil {
			return fmt.Errorf("tie %s to %s: %w", ip, mac, err)
		}
		if err := inside.NeighSet(permanent(link.Attrs().Index, n.gatewayFor(ip), bridgeMAC(n.config.Bridge))); err != nil {
			return fmt.Errorf("tie the gateway to the bridge: %w", err)
		}
	}
	return nil
}

func permanent(link int, ip netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: link, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac}
}

// unpin forgets a pod's addresses; its port takes the rest along.
func (n *Network) unpin(pod Attached) error {
	for _, ip := range pod.IPs {
		err := n.host.NeighDel(&netlink.Neigh{LinkIndex: n.bridge, IP: ip.AsSlice()})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget %s: %w", ip, err)
		}
	}
	return nil
}

// gatewayFor is the gateway of an address: that of the range of its family, of which there is one. Ranges may have changed since the
// address was given.
func (n *Network) gatewayFor(ip netip.Addr) netip.Addr {
	for _, c := range ofFamily(n.config.PodCIDRs, ip.Is6()) {
		return gatewayOf(c)
	}
	return netip.Addr{}
}
