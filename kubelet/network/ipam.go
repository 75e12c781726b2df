package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// pool hands out the addresses of one range. It is pure: what is taken is told to it.
//
// The first address is the range itself, the second the gateway's, and the last of an IPv4 range broadcast; none of them is given out.
// Addresses go round: one that was freed comes back when the round comes by, so that what still talks to its old owner mostly finds nobody.
type pool struct {
	prefix netip.Prefix
	used   map[netip.Addr]string // by address: the pod's UID
	last   netip.Addr            // the one given out last
}

func newPool(prefix netip.Prefix) *pool {
	return &pool{prefix: prefix.Masked(), used: map[netip.Addr]string{}, last: gatewayOf(prefix)}
}

// gatewayOf is the first usable address of a range.
func gatewayOf(prefix netip.Prefix) netip.Addr { return prefix.Masked().Addr().Next() }

// allocate gives the pod an address.
func (p *pool) allocate(pod string) (netip.Addr, error) {
	addr := p.last
	// Every address is looked at once at most: after as many steps as there are taken ones, plus the three reserved, one is free or none is.
	for range len(p.used) + 4 {
		addr = p.next(addr)
		if _, taken := p.used[addr]; !taken && p.usable(addr) {
			p.used[addr], p.last = pod, addr
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: all of %s are taken", ErrNoAddress, p.prefix)
}

// next goes round the range.
func (p *pool) next(addr netip.Addr) netip.Addr {
	if addr = addr.Next(); p.prefix.Contains(addr) {
		return addr
	}
	return p.prefix.Addr()
}

func (p *pool) usable(addr netip.Addr) bool {
	return p.prefix.Contains(addr) && addr != p.prefix.Addr() && addr != gatewayOf(p.prefix) && addr != broadcast(p.prefix)
}

// claim notes that a pod has an address already.
func (p *pool) claim(addr netip.Addr, pod string) error {
	if owner, taken := p.used[addr]; taken && owner != pod {
		return fmt.Errorf("%w: pods %s and %s both have %s", ErrInvalid, owner, pod, addr)
	}
	if p.usable(addr) {
		p.used[addr] = pod
	}
	return nil
}

// release frees an address if the pod has it.
func (p *pool) release(addr netip.Addr, pod string) {
	if p.used[addr] == pod {
		delete(p.used, addr)
	}
}

// broadcast is the last address of an IPv4 range with more than two; there is none otherwise.
func broadcast(prefix netip.Prefix) netip.Addr {
	const pointToPoint = 31
	if !prefix.Addr().Is4() || prefix.Bits() >= pointToPoint {
		return netip.Addr{}
	}
	bits := prefix.Masked().Addr().As4()
	last := binary.BigEndian.Uint32(bits[:]) | (1<<(32-prefix.Bits()) - 1)
	binary.BigEndian.PutUint32(bits[:], last)
	return netip.AddrFrom4(bits)
}
