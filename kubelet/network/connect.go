package network

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// connect makes a pod's interface, addresses and routes, or completes them.
//
// The pod's address is alone in its network (/32 or /128) and all its traffic goes through the gateway: so the node routes also
// between pods of its own, and service translation and network policy see both directions without bridge-netfilter.
func (n *Network) connect(ctx context.Context, a Attachment, pod Attached) error {
	ns, err := netns.GetFromPath(a.NetNSPath)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", a.NetNSPath, err)
	}
	defer ns.Close()
	host, err := n.ensureVeth(a, pod, ns)
	if err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := n.configurePod(inside, a.NetNSPath, pod); err != nil {
		return err
	}
	if err := n.pin(host, inside, pod); err != nil {
		return err
	}
	if err := limitBandwidth(n.host, host, inside, a); err != nil {
		return err
	}
	if len(pod.HostPorts) > 0 {
		if err := n.syncRules(ctx, ""); err != nil {
			return err
		}
		return n.forgetFlows(pod, false)
	}
	return nil
}

// ensureVeth makes the pair: the pod's end right in its namespace, the node's a port of the bridge. A pair whose pod's end is in another
// namespace is from an earlier life of the pod, and replaced.
func (n *Network) ensureVeth(a Attachment, pod Attached, ns netns.NsHandle) (netlink.Link, error) {
	if old, err := n.host.LinkByName(pod.HostInterface); err == nil {
		if n.peerIn(old, ns) {
			return old, n.finishPort(old, a)
		}
		if err := n.host.LinkDel(old); err != nil && !isNotFound(err) {
			return nil, err
		}
	} else if !isNotFound(err) {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = pod.HostInterface, n.config.MTU, n.bridge
	attrs.Flags |= net.FlagUp
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podInterface, PeerNamespace: netlink.NsFd(ns), PeerMTU: uint32(n.config.MTU)}
	if err := n.host.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("make interface %s: %w", pod.HostInterface, err)
	}
	link, err := n.host.LinkByName(pod.HostInterface)
	if err != nil {
		return nil, err
	}
	return link, n.finishPort(link, a)
}

// peerIn says whether the other end of a pair is the namespace's eth0.
func (n *Network) peerIn(link netlink.Link, ns netns.NsHandle) bool {
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return false
	}
	defer inside.Close()
	peer, err := inside.LinkByName(podInterface)
	return err == nil && peer.Attrs().ParentIndex == link.Attrs().Index && link.Attrs().ParentIndex == peer.Attrs().Index
}

// finishPort marks the node's end as ours and brings it up. Hairpin lets a pod reach itself through a service.
func (n *Network) finishPort(link netlink.Link, a Attachment) error {
	alias := fmt.Sprintf("%s %s %s/%s", aliasMark, a.PodUID, a.Namespace, a.Name)
	const maxAlias = 255 // IFALIASZ - 1
	if len(alias) > maxAlias {
		alias = alias[:maxAlias]
	}
	if err := n.host.LinkSetAlias(link, alias); err != nil {
		return err
	}
	if link.Attrs().MasterIndex != n.bridge {
		if err := n.host.LinkSetMasterByIndex(link, n.bridge); err != nil {
			return err
		}
	}
	if err := n.host.LinkSetHairpin(link, true); err != nil {
		return err
	}
	return n.host.LinkSetUp(link)
}

// configurePod gives the pod's end its addresses and its way out.
func (n *Network) configurePod(inside *netlink.Handle, path string, pod Attached) error {
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := inside.LinkSetUp(lo); err != nil {
		return err
	}
	link, err := inside.LinkByName(podInterface)
	if err != nil {
		return err
	}
	if err := n.prepareIPv6(path, pod); err != nil {
		return err
	}
	for _, ip := range pod.IPs {
		if !n.gatewayFor(ip).IsValid() {
			return fmt.Errorf("%w: the pod's address %s is of a family that the node has no pods of now", ErrInvalid, ip)
		}
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, ip.BitLen()))}
		if ip.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := inside.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", ip, err)
		}
	}
	if err := in(path, distrustPod); err != nil {
		return err
	}
	if err := inside.LinkSetUp(link); err != nil {
		return err
	}
	for _, ip := range pod.IPs {
		if err := addRoutes(inside, link, n.gatewayFor(ip), ip); err != nil {
			return err
		}
	}
	return nil
}

// prepareIPv6 enables the family in the pod if it has such an address: some hosts disable it for new namespaces.
func (n *Network) prepareIPv6(path string, pod Attached) error {
	if _, ok := addressOf(pod, true); !ok {
		return nil
	}
	return in(path, func() error {
		_, err := setSysctl("net/ipv6/conf/"+podInterface+"/disable_ipv6", "0")
		if errors.Is(err, os.ErrNotExist) {
			return errors.New("this kernel has no IPv6")
		}
		return err
	})
}

// addRoutes leads everything through the gateway, which is told to be on the link although no network says so.
func addRoutes(inside *netlink.Handle, link netlink.Link, gateway, source netip.Addr) error {
	index := link.Attrs().Index
	toGateway := &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: ipNet(netip.PrefixFrom(gateway, gateway.BitLen())), Src: source.AsSlice()}
	if err := inside.RouteReplace(toGateway); err != nil {
		return fmt.Errorf("route to gateway %s: %w", gateway, err)
	}
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gateway.Is6() {
		everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if err := inside.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(everywhere), Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("default route through %s: %w", gateway, err)
	}
	return nil
}

// limitBandwidth shapes what leaves either end: the node's towards the pod, the pod's towards the node.
func limitBandwidth(host *netlink.Handle, hostLink netlink.Link, inside *netlink.Handle, a Attachment) error {
	if a.IngressBandwidth > 0 {
		if err := host.QdiscReplace(tokenBucket(hostLink.Attrs().Index, a.IngressBandwidth)); err != nil {
			return fmt.Errorf("limit ingress bandwidth: %w", err)
		}
	}
	if a.EgressBandwidth > 0 {
		link, err := inside.LinkByName(podInterface)
		if err != nil {
			return err
		}
		if err := inside.QdiscReplace(tokenBucket(link.Attrs().Index, a.EgressBandwidth)); err != nil {
			return fmt.Errorf("limit egress bandwidth: %w", err)
		}
	}
	return nil
}

// tokenBucket allows bits per second with a burst of a tenth of a second's worth, at least ten large packets, and queues 25 ms more.
func tokenBucket(index int, bits uint64) *netlink.Tbf {
	const minBurst = 10 * 65536 / 4
	bytes := bits / 8
	burst := min(max(bytes/10, minBurst), math.MaxUint32/64)
	ticks := netlink.Xmittime(bytes, uint32(burst))
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bytes,
		Buffer:     uint32(ticks),
		Limit:      uint32(min(bytes/40+burst, math.MaxUint32)),
	}
}
