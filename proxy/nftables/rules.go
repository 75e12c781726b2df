package nftables

import (
	"net/netip"

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

// words writes expressions for one family. Registers are numbered from 0 in units of 32 bits. Where the rules agree on
// them:
//
//	6, 7        the name of the pool that is picked from
//	8 …         the endpoint: address, port
//	(6-a) … 5   the client's address (a words), so that client . pool is one key
//	0 …         scratch: keys of lookups before these are filled
type words struct {
	family plan.Family
	a      uint32 // words of an address
}

const (
	regPool     = 6
	regEndpoint = 8
)

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
	return append(out,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(at)},
		&expr.Payload{DestRegister: reg(at + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
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

func (w words) dnat() expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if w.family == plan.IPv6 {
		family = unix.NFPROTO_IPV6
	}
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: reg(regEndpoint), RegProtoMin: reg(regEndpoint + w.a)}
}

// choose loads the name of the first or second pool of the packet's frontend into its register.
func (w words) choose(nodePort, second bool) rule {
	set, to := setFrontendPool, uint32(regPool)
	if nodePort {
		set = setNodePortPool
	}
	if second {
		to -= 2 // the value is both names: the second one lands in the register
	}
	return append(w.service(nodePort), lookup(set, 0, to))
}

// pick makes the rules that choose an endpoint out of n and go there.
func (w words) pick(nodePort, second bool, n int, sticky int32) []rule {
	draw := rule{
		&expr.Numgen{Register: reg(regPool + 2), Modulus: uint32(n), Type: unix.NFT_NG_RANDOM},
		lookup(setEndpoint, regPool, regEndpoint),
	}
	if sticky == 0 {
		return []rule{cat(w.choose(nodePort, second), draw, rule{w.dnat()})}
	}
	client := regPool - w.a
	remember := func(op uint32) expr.Any {
		// A map's data is asked for even by an operation that has no use for it.
		d := &expr.Dynset{SetName: setSticky, SrcRegKey: reg(client), SrcRegData: reg(regEndpoint), Operation: op}
		if op != opDelete {
			d.Timeout = seconds(sticky)
		}
		return d
	}
	again := cat(w.choose(nodePort, second), rule{
		w.addr(false, client), lookup(setSticky, client, regEndpoint), contains(setMember, regPool),
		remember(unix.NFT_DYNSET_OP_UPDATE), w.dnat(),
	})
	// An update keeps the data of an element that exists: one whose endpoint is gone has to be deleted first.
	fresh := cat(w.choose(nodePort, second), draw, rule{
		w.addr(false, client), remember(opDelete), remember(unix.NFT_DYNSET_OP_UPDATE), w.dnat(),
	})
	return []rule{again, fresh}
}

// opDelete is NFT_DYNSET_OP_DELETE (linux/netfilter/nf_tables.h), which the unix package lacks.
const opDelete = 2

func cat(parts ...rule) (out rule) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
