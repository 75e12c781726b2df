// Package conntrack removes tracked UDP flows that the rules would not make any more. The decision is
// plan.Set.Stale; here it is only carried out, over netlink, in the network namespace of the calling thread.
package conntrack

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bareboat.dev/proxy/plan"
)

// Sweep walks the tracked flows of the set's family once, deletes the stale UDP ones and returns how many they were.
func Sweep(set *plan.Set) (int, error) {
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("conntrack: %w", err)
	}
	defer h.Close()
	family := netlink.InetFamily(unix.AF_INET)
	if set.Family == plan.IPv6 {
		family = unix.AF_INET6
	}
	addrs, err := h.AddrList(nil, int(family))
	if err != nil {
		return 0, fmt.Errorf("conntrack: addresses of this host: %w", err)
	}
	f := &staleFilter{set: set, host: map[netip.Addr]bool{}}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			f.host[ip.Unmap()] = true
		}
	}
	n, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
	// A flow that ended between being listed and being deleted is as gone as it should be.
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return int(n), fmt.Errorf("conntrack: %w", err)
	}
	return int(n), nil
}

type staleFilter struct {
	set  *plan.Set
	host map[netip.Addr]bool
}

// MatchConntrackFlow says whether to delete the flow.
func (s *staleFilter) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok1 := netip.AddrFromSlice(f.Forward.DstIP)
	from, ok2 := netip.AddrFromSlice(f.Reverse.SrcIP)
	if !ok1 || !ok2 {
		return false
	}
	to, from = to.Unmap(), from.Unmap()
	return s.set.Stale(plan.Flow{
		Protocol: "UDP", ToHost: s.host[to],
		To: netip.AddrPortFrom(to, f.Forward.DstPort), From: netip.AddrPortFrom(from, f.Reverse.SrcPort),
	})
}
