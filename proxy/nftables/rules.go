package nftables

import (
	"net/netip"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"bareboat.dev/proxy/plan"
)

// The chains that always exist.
const (
	chPrerouting  = "prerouting"
	chOutput      = "output"
	chPostrouting = "postrouting"
	chFilterIn    = "filter-input"
	chFilterFwd   = "filter-forward"
	chFilterOut   = "filter-output"
	chServices    = "services"
	chDenied      = "denied"
	chOutside     = "outside"
	chReject      = "reject"
	chDrop        = "drop"
	unlessLocal   = "-unless-local"
)

// masqMark is the bit of the packet mark that asks for masquerading, as in package iptables.
const masqMark = 0x4000

// rule is a list of expressions; lists of them are chains.
type rule = []expr.Any

// words writes expressions for one family. Registers are numbered from 0 in units of 32 bits. Keys of lookups are put
// together from 0 on, where the longest has 11 (client, address, protocol, port of IPv6: 10); results go to 11 and on.
type words struct {
	family plan.Family
	a      uint32 // words of an address
}

const regResult = 11

func reg(n uint32) uint32 { return unix.NFT_REG32_00 + n }

func newWords(f plan.Family) words {
	if f == plan.IPv4 {
		return words{f, 1}
	}
	return words{f, 4}
}

func (w words) addr(dst bool, to uint32) expr.Any {
	at := map[bool]uint32{false: 12, true: 16}[dst]
	if w.family == plan.IPv6 {
		at = map[bool]uint32{false: 8, true: 24}[dst]
	}
	return &expr.Payload{DestRegister: reg(to), Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: 4 * w.a}
}

// service loads a frontend's key into registers 0….
func (w words) service(nodePort bool) rule {
	out := rule{}
	at := uint32(0)
	if !nodePort {
		out = append(out, w.addr(true, 0))
		at = w.a
	}
	return append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(at)}, w.port(at+1))
}

// lookup finds a map's value; without a match the rule ends.
func lookup(set string, key, to uint32) expr.Any {
	return &expr.Lookup{SetName: set, SourceRegister: reg(key), DestRegister: reg(to), IsDestRegSet: true}
}

func contains(set string, key uint32) expr.Any {
	return &expr.Lookup{SetName: set, SourceRegister: reg(key)}
}

// verdict looks up where to go.
func verdict(set string, key uint32) expr.Any {
	return &expr.Lookup{SetName: set, SourceRegister: reg(key), DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true}
}

func jump(chain string) expr.Any      { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }
func goTo(chain string) expr.Any      { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }
func end(k expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: k} }

func native(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

// bits matches if any of the bits in a register is set.
func bits(r, mask uint32) rule {
	return rule{
		&expr.Bitwise{SourceRegister: reg(r), DestRegister: reg(r), Len: 4, Mask: native(mask), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg(r), Data: native(0)},
	}
}

func ctState(mask uint32) rule {
	return append(rule{&expr.Ct{Key: expr.CtKeySTATE, Register: reg(0)}}, bits(0, mask)...)
}

// isLocal matches if the source or destination is (or is not) an address of this host.
func isLocal(dst bool, op expr.CmpOp) rule {
	return rule{
		&expr.Fib{Register: reg(0), FlagDADDR: dst, FlagSADDR: !dst, ResultADDRTYPE: true},
		&expr.Cmp{Op: op, Register: reg(0), Data: native(unix.RTN_LOCAL)},
	}
}

// within matches an address in (or not in) a network.
func (w words) within(dst bool, p netip.Prefix, op expr.CmpOp) rule {
	mask := make([]byte, 4*w.a)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return rule{
		w.addr(dst, 0),
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4 * w.a, Mask: mask, Xor: make([]byte, 4*w.a)},
		&expr.Cmp{Op: op, Register: reg(0), Data: p.Masked().Addr().AsSlice()},
	}
}

// mark asks for masquerading.
func mark() rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4, Mask: native(^uint32(masqMark)), Xor: native(masqMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0), SourceRegister: true},
	}
}

// masquerade takes the mark away and rewrites the source.
func masquerade() rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4, Mask: native(^uint32(masqMark)), Xor: native(0)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0), SourceRegister: true},
		&expr.Masq{FullyRandom: true},
	}
}

// dnat sends the packet to the address and port in the result registers.
func (w words) dnat() expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if w.family == plan.IPv6 {
		family = unix.NFPROTO_IPV6
	}
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: reg(regResult), RegProtoMin: reg(regResult + w.a)}
}

// draw sends the packet to one of n endpoints of its frontend.
func (w words) draw(nodePort bool, set string, n int) rule {
	out := w.service(nodePort)
	number := uint32(2)
	if !nodePort {
		number += w.a
	}
	return append(out, &expr.Numgen{Register: reg(number), Modulus: uint32(n), Type: unix.NFT_NG_RANDOM},
		lookup(ofSort(set, nodePort), 0, regResult), w.dnat())
}

// again sends the packet to where the client's last connection went. The address is part of the key for node ports too:
// every address of the host has a memory of its own.
func (w words) again() rule {
	return rule{
		w.addr(false, 0), w.addr(true, w.a), &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(2 * w.a)},
		w.port(2*w.a + 1), lookup(setSticky, 0, regResult), w.dnat(),
	}
}

// port loads the destination port.
func (w words) port(to uint32) expr.Any {
	return &expr.Payload{DestRegister: reg(to), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// asked loads what the client of a translated connection asked for: address (not for node ports), protocol, port. It
// returns the next free register.
func (w words) asked(nodePort bool, at uint32) (rule, uint32) {
	var out rule
	if !nodePort {
		out, at = append(out, &expr.Ct{Key: expr.CtKeyDST, Register: reg(at)}), at+w.a
	}
	return append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(at)},
		&expr.Ct{Key: expr.CtKeyPROTODST, Register: reg(at + 1)}), at + 2
}

// translated matches connections whose destination was rewritten.
func translated() rule {
	return cat(rule{&expr.Ct{Key: expr.CtKeySTATUS, Register: reg(0)}}, bits(0, ctDNAT))
}

// toMemory leads the first packet of a translated connection to the chain that remembers where it goes, if it has affinity.
func (w words) toMemory(nodePort bool) rule {
	asked, _ := w.asked(nodePort, 0)
	return cat(translated(), asked, rule{verdict(ofSort(setAffinity, nodePort), 0)})
}

// memorize writes down where the client's connection goes, or that it still goes there, if that is an endpoint at all.
func (w words) memorize(nodePort bool, seconds int32) rule {
	member, at := w.asked(nodePort, 0)
	member = append(member, w.addr(true, at), w.port(at+w.a), contains(ofSort(setMember, nodePort), 0))
	asked, at := w.asked(false, w.a)
	return cat(member, rule{w.addr(false, 0)}, asked, rule{
		w.addr(true, at), w.port(at + w.a),
		&expr.Dynset{
			SetName: setSticky, SrcRegKey: reg(0), SrcRegData: reg(at), Operation: unix.NFT_DYNSET_OP_UPDATE,
			Timeout: time.Duration(seconds) * time.Second,
		},
	})
}

func cat(parts ...rule) (out rule) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
