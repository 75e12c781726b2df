package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks the routes that we made (RFC 3549 calls it the routing protocol; /etc/iproute2/rt_protos names none for 66).
const routeProtocol = 66

// SyncRoutes makes the routes to other nodes' pods exactly these. A route whose gateway is not on a directly connected
// segment is an error, named in it; the others are set all the same.
func (n *Network) SyncRoutes(_ context.Context, routes []Route) error {
	have, err := ourRoutes(n.host)
	if err != nil {
		return err
	}
	var all error
	want := map[netip.Prefix]bool{}
	for _, r := range routes {
		dst := r.Destination.Masked()
		want[dst] = true
		if old, ok := have[dst]; ok && old.Gw.Equal(r.Gateway.AsSlice()) {
			continue
		}
		err := n.host.RouteReplace(&netlink.Route{Dst: ipNet(dst), Gw: r.Gateway.AsSlice(), Protocol: routeProtocol})
		switch {
		case errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EINVAL):
			all = errors.Join(all, fmt.Errorf("route to pods %s: node %s is not on a directly connected network", dst, r.Gateway))
		case err != nil:
			all = errors.Join(all, fmt.Errorf("route to pods %s through %s: %w", dst, r.Gateway, err))
		}
	}
	for dst, r := range have {
		if !want[dst] {
			if err := n.host.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				all = errors.Join(all, fmt.Errorf("remove route to %s: %w", dst, err))
			}
		}
	}
	return all
}

func ourRoutes(h *netlink.Handle) (map[netip.Prefix]netlink.Route, error) {
	list, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, err
	}
	routes := map[netip.Prefix]netlink.Route{}
	for _, r := range list {
		if p, ok := prefixOf(r.Dst); ok {
			routes[p] = r
		}
	}
	return routes, nil
}
