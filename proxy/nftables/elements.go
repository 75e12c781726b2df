package nftables

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"bareboat.dev/proxy/plan"
)

// The sets and maps of the table.
const (
	setFrontend     = "frontend"
	setFrontendPool = "frontend-pool"
	setNodePort     = "nodeport"
	setNodePortPool = "nodeport-pool"
	setEndpoint     = "endpoint"
	setMember       = "member"
	setSticky       = "sticky"
	setSources      = "sources"
	setDeny         = "deny"
	setDenyNodePort = "deny-nodeport"
	setHairpin      = "hairpin"
)

// place identifies an element: its set and its key as the kernel has it; end only in sets of ranges.
type place struct{ set, key, end string }

// elements are places with their data: for verdict maps a chain's name, for plain maps bytes, for sets nothing.
type elements map[place]string

// need is what one service needs in the kernel.
type need struct {
	elements elements
	shapes   map[shape]bool
	hairpin  []netip.Addr
}

func protoNumber(p plan.Protocol) (byte, bool) {
	switch p {
	case "TCP":
		return unix.IPPROTO_TCP, true
	case "UDP":
		return unix.IPPROTO_UDP, true
	case "SCTP":
		return unix.IPPROTO_SCTP, true
	}
	return 0, false
}

// Each field of a concatenation fills whole 32-bit registers.
func fieldAddr(a netip.Addr) string     { return string(a.AsSlice()) }
func fieldProto(p byte) string          { return string([]byte{p, 0, 0, 0}) }
func fieldPort(p uint16) string         { return string([]byte{byte(p >> 8), byte(p), 0, 0}) }
func fieldNumber(n int) string          { return string(binary.NativeEndian.AppendUint32(nil, uint32(n))) }
func fieldPair(e netip.AddrPort) string { return fieldAddr(e.Addr()) + fieldPort(e.Port()) }

// pool is the name of a pool of endpoints: 64 bits of a hash, so that it is the same in every process. That two of 60,000
// pools share a name has a chance of 1 in 10^10.
func pool(id, which string) string {
	sum := sha256.Sum256([]byte(id + "|" + which))
	return string(sum[:8])
}

// key is a frontend's key in the maps of its sort.
func key(f plan.Frontend, proto byte) string {
	if f.Kind == plan.NodePort {
		return fieldProto(proto) + fieldPort(f.Port)
	}
	return fieldAddr(f.Addr) + fieldProto(proto) + fieldPort(f.Port)
}

// needOf lists what a service needs.
func needOf(s plan.Service) need {
	out := need{elements: elements{}, shapes: map[shape]bool{}, hairpin: s.Hairpin}
	for _, p := range s.Ports {
		proto, ok := protoNumber(p.Protocol)
		if !ok {
			continue
		}
		cluster, local := pool(p.ID(), "cluster"), pool(p.ID(), "local")
		out.pool(cluster, p.Cluster, p.AffinitySeconds > 0)
		out.pool(local, p.Local, p.AffinitySeconds > 0)
		for _, f := range p.Frontends {
			if !f.Shadowed {
				out.frontend(p, f, key(f, proto), cluster, local)
			}
		}
	}
	return out
}

func (n *need) pool(name string, eps []netip.AddrPort, sticky bool) {
	for i, e := range eps {
		n.elements[place{set: setEndpoint, key: name + fieldNumber(i)}] = fieldPair(e)
		if sticky {
			n.elements[place{set: setMember, key: name + fieldPair(e)}] = ""
		}
	}
}

func (n *need) frontend(p plan.Port, f plan.Frontend, key, cluster, local string) {
	maps := [3]string{setFrontend, setFrontendPool, setDeny}
	if f.Kind == plan.NodePort {
		maps = [3]string{setNodePort, setNodePortPool, setDenyNodePort}
	}
	if s, ok := shapeOf(p, f); ok {
		first := cluster
		if !f.External() && f.LocalOnly {
			first = local
		}
		n.shapes[s] = true
		n.elements[place{set: maps[0], key: key}] = s.String()
		n.elements[place{set: maps[1], key: key}] = first + local
	}
	if f.Restricted {
		for _, src := range f.Sources {
			from, to := bounds(src)
			n.elements[place{set: setSources, key: key + fieldAddr(from), end: key + fieldAddr(to)}] = ""
		}
	}
	if verdict := denial(p, f); verdict != "" {
		n.elements[place{set: maps[2], key: key}] = verdict
	}
}

// denial is the chain for packets to f that were not translated; empty if there can be none.
func denial(p plan.Port, f plan.Frontend) string {
	action := p.Action(f)
	if action == plan.Balance {
		if f.Restricted {
			return chDrop
		}
		return ""
	}
	name := map[plan.Action]string{plan.Reject: chReject, plan.Drop: chDrop}[action]
	if f.Kind == plan.ClusterIP {
		name += unlessLocal
	}
	return name
}

// bounds are the first and last address of a prefix.
func bounds(p netip.Prefix) (from, to netip.Addr) {
	last := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	to, _ = netip.AddrFromSlice(last)
	return p.Masked().Addr(), to
}
