// Package address makes the cluster DNS address exist on a node, so that the daemon can listen on it: every node has the
// same one, pods reach the one of their own node.
//
//	a, err := address.Ensure(netip.MustParseAddr("10.96.0.10"))
//	defer a.Remove() // removes it only if it was not there before
//
// The address has host scope: it is never chosen as a source towards other machines. It is not hidden by that: Linux answers to
// ARP for every address of the host on all of its interfaces, so that a machine on the same segment that has a route to it
// reaches this node's DNS. Where that matters, the host's firewall has to keep others out.
//
// It lives on a dummy interface where the kernel has those, on the loopback interface otherwise. What was added is recognized
// later: by the interface's name, or by the address's label "lo:bareboat" (IPv4). So a daemon that was killed finds its own
// address again.
package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// device is the dummy interface's name.
	device = "bareboat-dns"
	// label marks an address on the loopback interface as ours. IPv6 addresses have no labels; a single one (/128) on the
	// loopback interface that equals the configured address is taken for ours.
	label = "lo:bareboat"
)

// Address is an address of this host.
type Address struct {
	addr netip.Addr
	ours bool
}

// Ours says that the address is there because of this daemon, now or in an earlier life.
func (a Address) Ours() bool { return a.ours }

// Ensure adds the address to this network namespace unless it is there.
func Ensure(addr netip.Addr) (Address, error) {
	found, err := find(addr)
	if err != nil {
		return Address{}, err
	}
	if found != nil {
		return Address{addr, found.ours}, nil
	}
	link, err := place()
	if err != nil {
		return Address{}, err
	}
	a := &netlink.Addr{IPNet: hostNet(addr), Scope: unix.RT_SCOPE_HOST}
	switch {
	case !addr.Is4():
		a.Flags = unix.IFA_F_NODAD
	case link.Attrs().Name == "lo":
		a.Label = label
	}
	if err := netlink.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return Address{}, fmt.Errorf("the address %s cannot be added to %s: %w", addr, link.Attrs().Name, err)
	}
	return Address{addr, true}, nil
}

// Remove removes the address if it is ours, and the dummy interface with the last address.
func (a Address) Remove() error {
	if !a.ours {
		return nil
	}
	return remove(a.addr)
}

// Cleanup removes what any earlier daemon added for these addresses, and nothing else.
func Cleanup(addrs []netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		found, err := find(a)
		if err == nil && found != nil && found.ours {
			err = remove(a)
		}
		errs = append(errs, err)
	}
	if link, err := netlink.LinkByName(device); err == nil && link.Type() == "dummy" {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(errs...)
}

func remove(addr netip.Addr) error {
	found, err := find(addr)
	if err != nil || found == nil {
		return err
	}
	if err := netlink.AddrDel(found.link, &netlink.Addr{IPNet: hostNet(addr)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("the address %s cannot be removed: %w", addr, err)
	}
	if found.link.Attrs().Name != device {
		return nil
	}
	left, err := netlink.AddrList(found.link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("the addresses of %s cannot be read: %w", device, err)
	}
	for _, a := range left {
		if !a.IP.IsLinkLocalUnicast() {
			return nil
		}
	}
	return netlink.LinkDel(found.link)
}

// place is the interface for the address, which is made if the kernel can.
func place() (netlink.Link, error) {
	if link, err := netlink.LinkByName(device); err == nil {
		return link, netlink.LinkSetUp(link)
	}
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: device}})
	if err == nil {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return nil, fmt.Errorf("the interface %s: %w", device, err)
		}
		return link, netlink.LinkSetUp(link)
	}
	// Without the dummy driver the kernel says EOPNOTSUPP; a container without the right says EPERM, and lo will too.
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("the loopback interface: %w", err)
	}
	return lo, nil
}

type spot struct {
	link netlink.Link
	ours bool
}

// find looks for the address on any interface; nil: it is nowhere.
func find(addr netip.Addr) (*spot, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("the host's addresses cannot be read: %w", err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok || ip.Unmap() != addr {
			continue
		}
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil {
			return nil, fmt.Errorf("the interface of %s: %w", addr, err)
		}
		name := link.Attrs().Name
		ones, bits := a.Mask.Size()
		ours := name == device || a.Label == label || name == "lo" && !addr.Is4() && ones == bits && !addr.IsLoopback()
		return &spot{link, ours}, nil
	}
	return nil, nil
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
