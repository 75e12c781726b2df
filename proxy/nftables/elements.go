package nftables

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"bareboat.dev/proxy/plan"
)

// The sets and maps of the table. Those of frontends exist twice: by address, protocol and port, and, with the prefix, by
// protocol and port.
const (
	setFrontend      = "frontend"
	setNodePort      = "nodeport"
	setEndpoint      = "endpoint"
	setEndpointLocal = "endpoint-local"
	setAffinity      = "affinity"
	setMember        = "member"
	setDeny          = "deny"
	nodePortPrefix   = "nodeport-"

	setSticky  = "sticky"
	setSources = "sources"
	setHairpin = "hairpin"
)

// ofSort is the name of a set for one sort of frontends.
func ofSort(set string, nodePort bool) string {
	switch {
	case !nodePort:
		return set
	case set == setFrontend:
		return setNodePort
	}
	return nodePortPrefix + set
}

// place identifies an element: its set and its key as the kernel has it; end only in sets of ranges.
type place struct{ set, key, end string }

// elements are places with their data: for verdict maps a chain's name, for plain maps bytes, for sets nothing.
type elements map[place]string

// datum is one element.
type datum struct {
	place
	data string
}

// need is what one service needs in the kernel. An element may be named twice, with the same data.
type need struct {
	elements []datum
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

// key is a frontend's key in the maps of its sort.
func key(f plan.Frontend, proto byte) string {
	if f.Kind == plan.NodePort {
		return fieldProto(proto) + fieldPort(f.Port)
	}
	return fieldAddr(f.Addr) + fieldProto(proto) + fieldPort(f.Port)
}

// needOf lists what a service needs.
func needOf(s plan.Service) need {
	out := need{shapes: map[shape]bool{}, hairpin: s.Hairpin}
	for _, p := range s.Ports {
		proto, ok := protoNumber(p.Protocol)
		if !ok {
			continue
		}
		for _, f := range p.Frontends {
			if !f.Shadowed {
				out.frontend(p, f, key(f, proto))
			}
		}
	}
	return out
}

func (n *need) add(p place, data string) { n.elements = append(n.elements, datum{p, data}) }

func (n *need) frontend(p plan.Port, f plan.Frontend, key string) {
	nodePort := f.Kind == plan.NodePort
	add := func(set, rest, data string) { n.add(place{set: ofSort(set, nodePort), key: key + rest}, data) }
	if s, ok := shapeOf(p, f); ok {
		first := p.Cluster
		if !f.External() && f.LocalOnly {
			first = p.Local
		}
		for i, e := range first {
			add(setEndpoint, fieldNumber(i), fieldPair(e))
		}
		if s.kind == local {
			for i, e := range p.Local {
				add(setEndpointLocal, fieldNumber(i), fieldPair(e))
			}
		}
		n.shapes[s] = true
		add(setFrontend, "", s.String())
		if p.AffinitySeconds > 0 {
			n.affinity(p, nodePort, key, first)
		}
	}
	if f.Restricted {
		for _, src := range f.Sources {
			from, to := bounds(src)
			n.add(place{set: setSources, key: key + fieldAddr(from), end: key + fieldAddr(to)}, "")
		}
	}
	if verdict := denial(p, f); verdict != "" {
		add(setDeny, "", verdict)
	}
}

// affinity has the clients of a frontend remembered. The local endpoints are always among the others.
func (n *need) affinity(p plan.Port, nodePort bool, key string, eps []netip.AddrPort) {
	s := shape{nodePort: nodePort, kind: remember, sticky: p.AffinitySeconds}
	n.shapes[s] = true
	n.add(place{set: ofSort(setAffinity, nodePort), key: key}, s.String())
	for _, e := range slices.Concat(eps, p.Local) {
		n.add(place{set: ofSort(setMember, nodePort), key: key + fieldPair(e)}, "")
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
