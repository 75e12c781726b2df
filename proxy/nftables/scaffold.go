package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"bareboat.dev/proxy/plan"
)

// tableName is the name of everything that is ours.
const tableName = "bareboat-proxy"

// version changes with every change to the rules below or to the meaning of elements; a table with another one is replaced.
const version = 1

// marker is the beginning of the name of an empty chain that tells which version and settings made the table.
const marker = "made-by-"

// layout is the table's fixed part for a family and settings.
type layout struct {
	words
	cluster   []netip.Prefix
	nodePorts []netip.Prefix
	masqAll   bool
}

// marker is the name of the marker chain.
func (l layout) marker() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %v %v %v", version, l.family, l.cluster, l.nodePorts, l.masqAll))
	return marker + hex.EncodeToString(sum[:8])
}

func (l layout) table() *nft.Table {
	t := &nft.Table{Name: tableName, Family: nft.TableFamilyIPv4}
	if l.family == plan.IPv6 {
		t.Family = nft.TableFamilyIPv6
	}
	return t
}

// sets describes the sets and maps, in the order in which they are made.
func (l layout) sets(t *nft.Table) []*nft.Set {
	addr := nft.TypeIPAddr
	if l.family == plan.IPv6 {
		addr = nft.TypeIP6Addr
	}
	proto, port, number := nft.TypeInetProto, nft.TypeInetService, nft.TypeMark
	concat := func(types ...nft.SetDatatype) nft.SetDatatype { return nft.MustConcatSetType(types...) }
	pair := concat(addr, port)
	sets := []*nft.Set{
		{Name: setSticky, KeyType: concat(addr, addr, proto, port), IsMap: true, DataType: pair, HasTimeout: true, Dynamic: true, Size: maxSticky},
		{Name: setSources, KeyType: concat(addr, proto, port, addr), Interval: true},
		{Name: setHairpin, KeyType: concat(addr, addr)},
	}
	for _, nodePort := range []bool{false, true} {
		of := []nft.SetDatatype{addr, proto, port}
		if nodePort {
			of = of[1:]
		}
		with := func(more ...nft.SetDatatype) nft.SetDatatype { return concat(slices.Concat(of, more)...) }
		sets = append(sets,
			&nft.Set{Name: ofSort(setFrontend, nodePort), KeyType: with(), IsMap: true, DataType: nft.TypeVerdict},
			&nft.Set{Name: ofSort(setEndpoint, nodePort), KeyType: with(number), IsMap: true, DataType: pair},
			&nft.Set{Name: ofSort(setEndpointLocal, nodePort), KeyType: with(number), IsMap: true, DataType: pair},
			&nft.Set{Name: ofSort(setAffinity, nodePort), KeyType: with(), IsMap: true, DataType: nft.TypeVerdict},
			&nft.Set{Name: ofSort(setMember, nodePort), KeyType: with(addr, port)},
			&nft.Set{Name: ofSort(setDeny, nodePort), KeyType: with(), IsMap: true, DataType: nft.TypeVerdict})
	}
	for _, s := range sets {
		s.Table, s.Concatenation = t, true
	}
	return sets
}

// maxSticky bounds the clients that session affinity remembers: at about 150 bytes each 15 MiB of kernel memory. Beyond it
// new clients are served without being remembered.
const maxSticky = 100_000

// base is a chain that packets enter from a hook.
type base struct {
	name     string
	kind     nft.ChainType
	hook     *nft.ChainHook
	priority *nft.ChainPriority
}

func bases() []base {
	return []base{
		{chPrerouting, nft.ChainTypeNAT, nft.ChainHookPrerouting, nft.ChainPriorityNATDest},
		{chOutput, nft.ChainTypeNAT, nft.ChainHookOutput, nft.ChainPriorityNATDest},
		{chPostrouting, nft.ChainTypeNAT, nft.ChainHookPostrouting, nft.ChainPriorityNATSource},
		{chFilterIn, nft.ChainTypeFilter, nft.ChainHookInput, nft.ChainPriorityFilter},
		{chFilterFwd, nft.ChainTypeFilter, nft.ChainHookForward, nft.ChainPriorityFilter},
		{chFilterOut, nft.ChainTypeFilter, nft.ChainHookOutput, nft.ChainPriorityFilter},
	}
}

// fixed lists the rules of the chains that always exist.
func (l layout) fixed() map[string][]rule {
	deny := cat(ctState(expr.CtStateBitNEW), rule{jump(chDenied)})
	reject := rule{&expr.Reject{Type: 0, Code: 3}} // NFT_REJECT_ICMP_UNREACH, port unreachable
	if l.family == plan.IPv6 {
		reject = rule{&expr.Reject{Type: 0, Code: 4}}
	}
	drop := rule{end(expr.VerdictDrop)}
	local := cat(isLocal(true, expr.CmpOpEq), rule{end(expr.VerdictReturn)})
	out := map[string][]rule{
		chPrerouting: {{jump(chServices)}},
		chOutput:     {{jump(chServices)}},
		chFilterIn:   {deny},
		chFilterOut:  {deny},
		// A packet that conntrack does not understand would be forwarded without the reverse translation, and the client
		// would answer it with a reset.
		chFilterFwd: {cat(ctState(expr.CtStateBitINVALID), drop), deny},
		chServices:  append([]rule{append(l.service(false), verdict(setFrontend, 0))}, l.toNodePorts(setFrontend)...),
		chDenied: append([]rule{l.toMemory(false), l.toMemory(true), append(l.service(false), verdict(setDeny, 0))},
			l.toNodePorts(setDeny)...),
		chReject: {reject}, chReject + unlessLocal: {local, reject},
		chDrop: {drop}, chDrop + unlessLocal: {local, drop},
		chPostrouting: {
			cat(translated(),
				rule{l.addr(false, 0), l.addr(true, l.a), contains(setHairpin, 0)}, masquerade()),
			cat(rule{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)}}, bits(0, masqMark), masquerade()),
		},
	}
	var outside []rule
	for _, c := range l.cluster {
		outside = append(outside, cat(l.within(false, c, expr.CmpOpEq), rule{end(expr.VerdictReturn)}))
	}
	out[chOutside] = append(outside, mark())
	return out
}

// ctDNAT is the status bit IPS_DST_NAT of a tracked connection.
const ctDNAT = 1 << 5

// toNodePorts looks up the port alone, for addresses of this host: all but loopback, or those in the configured networks.
func (l layout) toNodePorts(set string) (out []rule) {
	find := cat(isLocal(true, expr.CmpOpEq), l.service(true), rule{verdict(ofSort(set, true), 0)})
	if len(l.nodePorts) == 0 {
		loopback := netip.MustParsePrefix("127.0.0.0/8")
		if l.family == plan.IPv6 {
			loopback = netip.MustParsePrefix("::1/128")
		}
		return []rule{cat(l.within(true, loopback, expr.CmpOpNeq), find)}
	}
	for _, p := range l.nodePorts {
		out = append(out, cat(l.within(true, p, expr.CmpOpEq), find))
	}
	return out
}

// shared lists the rules of a shape's chain.
func (l layout) shared(s shape) []rule {
	if s.guarded {
		inner := s.needs()[0].String()
		return []rule{cat(l.service(s.nodePort), rule{l.addr(false, l.a+2), contains(setSources, 0), goTo(inner)})}
	}
	var out []rule
	pick := func(set string, n int) {
		if s.sticky > 0 {
			out = append(out, l.again())
		}
		out = append(out, l.draw(s.nodePort, set, n))
	}
	switch s.kind {
	case remember:
		return []rule{l.memorize(s.nodePort, s.sticky)}
	case fromCluster:
		switch {
		case l.masqAll:
			out = append(out, mark())
		case len(l.cluster) > 0:
			out = append(out, rule{jump(chOutside)})
		}
	case external:
		out = append(out, mark())
	case local:
		if s.cluster > 0 {
			inside := goTo(s.needs()[0].String())
			for _, c := range l.cluster {
				out = append(out, append(l.within(false, c, expr.CmpOpEq), inside))
			}
			out = append(out, cat(isLocal(false, expr.CmpOpEq), mark(), rule{inside}))
		}
		if s.local > 0 {
			pick(setEndpointLocal, s.local)
		}
		return out
	}
	pick(setEndpoint, s.cluster)
	return out
}

// isShared tells the chains of shapes from those that always exist.
func isShared(name string) bool {
	return slices.ContainsFunc([]string{"ip-", "np-", "fw-", "remember-"}, func(p string) bool { return strings.HasPrefix(name, p) })
}
