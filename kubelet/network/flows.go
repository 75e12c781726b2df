package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel translates a flow as its first packet was, for as long as it lasts; and a client that sends datagrams from one port is one flow
// for as long as it speaks. So flows to host ports are forgotten when a port gets or loses its pod.

// forgetFlows has the next datagrams to a pod's host ports go where the rules now say: to the pod, or no longer.
func (n *Network) forgetFlows(pod Attached, gone bool) error {
	ports := slices.DeleteFunc(slices.Clone(pod.HostPorts), func(p HostPort) bool { return p.Protocol != UDP })
	if len(ports) == 0 {
		return nil
	}
	addrs, err := n.host.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	f := staleFlows{ports: ports, pod: pod.IPs, gone: gone, node: map[netip.Addr]bool{}}
	for _, a := range addrs {
		f.node[addrOf(a.IP)] = true
	}
	for _, ip := range pod.IPs {
		family := netlink.InetFamily(unix.AF_INET)
		if ip.Is6() {
			family = unix.AF_INET6
		}
		// A flow may end before it is forgotten (ENOENT), and a kernel that cannot be asked for its flows (EINVAL) keeps them.
		_, err := n.host.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("forget flows to host ports: %w", err)
		}
	}
	return nil
}

// staleFlows are those to some host ports that do not go to the pod that has them, or go to it although it is gone.
type staleFlows struct {
	ports []HostPort
	pod   []netip.Addr
	node  map[netip.Addr]bool
	gone  bool
}

// MatchConntrackFlow says whether to forget a flow.
func (s staleFlows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP || !s.node[addrOf(f.Forward.DstIP)] {
		return false
	}
	toPod := slices.Contains(s.pod, addrOf(f.Reverse.SrcIP))
	return toPod == s.gone && slices.ContainsFunc(s.ports, func(p HostPort) bool { return p.HostPort == f.Forward.DstPort })
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
