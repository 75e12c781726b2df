package reach

import (
	"net/netip"

	"github.com/vishvananda/netlink"
)

// routed reports whether the host has a route to an address beyond its default route. The kernel is asked for the entry of its
// table that it would use (RTM_F_FIB_MATCH, since Linux 4.13); its error says that there is none.
func routed(a netip.Addr) bool {
	routes, err := netlink.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(routes) == 0 || routes[0].Dst == nil {
		return false
	}
	dst := routes[0].Dst
	ones, _ := dst.Mask.Size()
	return ones > 0
}
