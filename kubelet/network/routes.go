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

// SyncRoutes makes the routes to other nodes' pods exactly these: through the nodes themselves where they are on a directly connected
// segment, through VXLAN otherwise. A node that cannot be reached is an error, which names it; the other routes are set all the same.
func (n *Network) SyncRoutes(_ context.Context, routes []Route) error {
	n.routesMu.Lock()
	defer n.routesMu.Unlock()
	have, err := ourRoutes(n.host)
	if err != nil {
		return err
	}
	var all error
	want, tunnels := map[netip.Prefix]bool{}, map[bool]*tunnel{}
	for _, r := range routes {
		dst := r.Destination.Masked()
		want[dst] = true
		route, err := n.route(r, tunnels)
		if err == nil {
			if old, ok := have[dst]; ok && old.Gw.Equal(route.Gw) && (route.LinkIndex == 0 || route.LinkIndex == old.LinkIndex) {
				continue
			}
			err = n.host.RouteReplace(route)
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("route to pods %s: %w", dst, err))
		}
	}
	for dst, r := range have {
		if !want[dst] {
			if err := n.host.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				all = errors.Join(all, fmt.Errorf("remove route to %s: %w", dst, err))
			}
		}
	}
	return errors.Join(all, n.finishTunnels(tunnels))
}

// route is the way to another node's pods. tunnels are those that are needed so far, by whether they are for IPv6.
func (n *Network) route(r Route, tunnels map[bool]*tunnel) (*netlink.Route, error) {
	direct, err := n.direct(r.Gateway)
	if err != nil {
		return nil, err
	}
	if direct {
		return &netlink.Route{Dst: ipNet(r.Destination.Masked()), Gw: r.Gateway.AsSlice(), Protocol: routeProtocol}, nil
	}
	t := tunnels[r.Gateway.Is6()]
	if t == nil {
		if t, err = n.ensureTunnel(r.Gateway.Is6()); err != nil {
			return nil, fmt.Errorf("node %s is not on a directly connected network: %w", r.Gateway, err)
		}
		tunnels[r.Gateway.Is6()] = t
	}
	return t.route(r), nil
}

// finishTunnels tells the tunnels that are needed of the nodes behind them, and removes those that are not.
func (n *Network) finishTunnels(needed map[bool]*tunnel) error {
	var all error
	for _, ipv6 := range []bool{false, true} {
		if t := needed[ipv6]; t != nil {
			all = errors.Join(all, t.syncNeighbours(n.host))
		} else {
			all = errors.Join(all, removeTunnel(n.host, ipv6))
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
