package nftables

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bareboat.dev/proxy/plan"
	"bareboat.dev/proxy/policy"
)

// policyTable is the name of the table with the policies; it is apart from the services' so that either can be replaced
// alone.
const policyTable = "bareboat-policy"

// The chains and maps of that table that always exist, and the beginning of the names of the sets of pods.
const (
	chForward  = "forward"
	setIngress = "ingress"
	setEgress  = "egress"
	podSet     = "pods-"
	// policyMarker is the name of an empty chain that tells the version of the rules below.
	policyMarker = "made-by-1"
	// holdMarker takes its place while the table only holds traffic back.
	holdMarker = "starting"
)

// policyPriority is just before other filters: what a policy denies need not be looked at further.
const policyPriority nft.ChainPriority = -10

// Policies makes the kernel enforce the policies of one family, with a table of its own:
//
//	ingress, egress   address → verdict: jump to the chain for the pod's rules
//	pods-…            addresses of the pods that a peer selects
//
// A chain returns for what it allows and drops at its end. Only forwarded packets are looked at, and only the first of each
// connection: traffic between a pod and its own node is always allowed, and a connection that was allowed goes on. Packets
// between pods of one node are forwarded packets where br_netfilter is in effect, which the node's pod network sees to.
type Policies struct {
	mu      sync.Mutex
	conn    *nft.Conn
	writer  writer
	layout  layout
	table   *nft.Table
	present *enforced // nil: unknown
}

// enforced is what the kernel holds.
type enforced struct {
	chains map[string]bool
	sets   map[string]bool
	elems  elements
}

// NewPolicies finds out whether this kernel has tables for the family.
func NewPolicies(family plan.Family, clusterCIDRs []netip.Prefix) (*Policies, error) {
	a, err := New(Config{Family: family, ClusterCIDRs: clusterCIDRs})
	if err != nil {
		return nil, err
	}
	t := *a.table
	t.Name = policyTable
	return &Policies{conn: a.conn, layout: a.layout, table: &t}, nil
}

// Hold stops new connections of the pod network from being forwarded until the first Apply, unless an earlier process left
// its rules in force: as long as nobody knows the policies, nothing is allowed.
func (p *Policies) Hold(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.readLocked(); err != nil || p.present != nil {
		return err
	}
	t := newTransaction(p.table)
	t.addTable(policyTable)
	t.deleteTable(policyTable)
	t.addTable(policyTable)
	rules := []rule{p.established()}
	if p.layout.family == plan.IPv6 {
		rules = append(rules, neighbours())
	}
	for _, c := range p.layout.cluster {
		for _, dst := range []bool{false, true} {
			rules = append(rules, cat(p.layout.within(dst, c, expr.CmpOpEq), rule{end(expr.VerdictDrop)}))
		}
	}
	if err := p.chains(t, map[string][]rule{chForward: rules, holdMarker: nil}); err != nil {
		return err
	}
	if err := p.writer.commit(t); err != nil {
		return fmt.Errorf("nftables: holding traffic back: %w", err)
	}
	return nil
}

// Apply makes the kernel enforce the rules, in one transaction that names only what differs.
func (p *Policies) Apply(_ context.Context, r policy.Rules) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.present == nil {
		if err := p.readLocked(); err != nil {
			return err
		}
	}
	t := newTransaction(p.table)
	t.verdict = expr.VerdictJump
	next, err := p.planLocked(t, r)
	if err == nil {
		err = p.writer.commit(t)
	}
	if err != nil {
		p.present = nil
		return fmt.Errorf("nftables: policies: %w", err)
	}
	p.present = next
	return nil
}

// Forget makes the next Apply look at the kernel again.
func (p *Policies) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.present = nil
}

// Intact says cheaply whether the table is there.
func (p *Policies) Intact() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, err := p.conn.ListChain(p.table, policyMarker)
	return err == nil && c != nil
}

// Cleanup deletes the table. It is safe to call when there is none.
func (p *Policies) Cleanup(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.present = nil
	t := newTransaction(p.table)
	t.addTable(policyTable)
	t.deleteTable(policyTable)
	if err := p.writer.commit(t); err != nil {
		return fmt.Errorf("nftables: deleting the policies' table: %w", err)
	}
	return nil
}

// Close closes the socket; the rules stay.
func (p *Policies) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writer.close()
}

// planLocked writes the difference between what is present and what is wanted into t, and returns the latter.
func (p *Policies) planLocked(t *transaction, r policy.Rules) (*enforced, error) {
	have := p.present
	if have == nil {
		have = &enforced{elems: elements{}}
		t.addTable(policyTable)
		t.deleteTable(policyTable)
		t.addTable(policyTable)
		for i, name := range []string{setIngress, setEgress} {
			t.addSet(p.set(name), uint32(i+1))
		}
		if err := p.chains(t, map[string][]rule{chForward: p.forward(), policyMarker: nil}); err != nil {
			return nil, err
		}
	}
	next := &enforced{chains: map[string]bool{}, sets: map[string]bool{}, elems: wantedElements(r)}
	for _, name := range slices.Sorted(maps.Keys(r.Sets)) {
		next.sets[name] = true
		if !have.sets[name] {
			t.addSet(p.set(name), uint32(100+len(next.sets)))
		}
	}
	gone, come := difference(have.elems, next.elems)
	// Elements of sets first, then the chains that use the sets, then the maps that lead to the chains; what goes, the other
	// way round.
	for set, places := range bySet(gone) {
		if next.sets[set] || !strings.HasPrefix(set, podSet) {
			t.elements(unix.NFT_MSG_DELSETELEM, 0, p.set(set), places, nil)
		}
	}
	added := bySet(come)
	for set, places := range added {
		if strings.HasPrefix(set, podSet) {
			t.elements(unix.NFT_MSG_NEWSETELEM, netlink.Create, p.set(set), places, next.elems)
		}
	}
	fresh := map[string][]rule{}
	for name, rules := range r.Chains {
		next.chains[name] = true
		if !have.chains[name] {
			fresh[name] = p.chain(rules, strings.HasPrefix(name, "in-"))
		}
	}
	if err := p.chains(t, fresh); err != nil {
		return nil, err
	}
	for _, set := range []string{setIngress, setEgress} {
		t.elements(unix.NFT_MSG_NEWSETELEM, netlink.Create, p.set(set), added[set], next.elems)
	}
	for name := range have.chains {
		if !next.chains[name] {
			t.flushChain(policyTable, name)
			t.deleteChain(policyTable, name)
		}
	}
	for name := range have.sets {
		if !next.sets[name] {
			t.deleteSet(policyTable, name)
		}
	}
	return next, nil
}

func wantedElements(r policy.Rules) elements {
	out := elements{}
	for set, pods := range map[string]map[netip.Addr]string{setIngress: r.Ingress, setEgress: r.Egress} {
		for a, chain := range pods {
			out[place{set: set, key: fieldAddr(a)}] = chain
		}
	}
	for set, addrs := range r.Sets {
		for _, a := range addrs {
			out[place{set: set, key: fieldAddr(a)}] = ""
		}
	}
	return out
}

// difference lists what is to be deleted and added; an element whose data changed is in both.
func difference(have, want elements) (gone, come []place) {
	for p, data := range have {
		if w, ok := want[p]; !ok || w != data {
			gone = append(gone, p)
		}
	}
	for p, data := range want {
		if h, ok := have[p]; !ok || h != data {
			come = append(come, p)
		}
	}
	return gone, come
}

// set describes a set of the table by its name.
func (p *Policies) set(name string) *nft.Set {
	addr := nft.TypeIPAddr
	if p.layout.family == plan.IPv6 {
		addr = nft.TypeIP6Addr
	}
	s := &nft.Set{Table: p.table, Name: name, KeyType: addr}
	if !strings.HasPrefix(name, podSet) {
		s.IsMap, s.DataType = true, nft.TypeVerdict
	}
	return s
}

// chains adds chains with their rules; the one called forward is attached to its hook.
func (p *Policies) chains(t *transaction, chains map[string][]rule) error {
	for _, name := range slices.Sorted(maps.Keys(chains)) {
		var hook *base
		if name == chForward {
			priority := policyPriority
			hook = &base{chForward, nft.ChainTypeFilter, nft.ChainHookForward, &priority}
		}
		t.addChain(policyTable, name, hook)
		for _, r := range chains[name] {
			if err := t.addRule(policyTable, name, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Policies) established() rule {
	return cat(ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), rule{end(expr.VerdictAccept)})
}

func (p *Policies) forward() []rule {
	out := []rule{p.established()}
	if p.layout.family == plan.IPv6 {
		out = append(out, neighbours())
	}
	return append(out,
		rule{p.layout.addr(false, 0), verdict(setEgress, 0)},
		rule{p.layout.addr(true, 0), verdict(setIngress, 0)})
}

// neighbours lets neighbour discovery pass (RFC 4861, types 133 to 137): between pods on one bridge it is forwarded like any
// packet, and without it no address is reachable. ARP, its counterpart, never comes here.
func neighbours() rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{unix.IPPROTO_ICMPV6}},
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: reg(0), FromData: []byte{133}, ToData: []byte{137}},
		end(expr.VerdictAccept),
	}
}

// chain writes the rules of one kind of pods.
func (p *Policies) chain(rules []policy.Rule, ingress bool) []rule {
	var out []rule
	allow := rule{end(expr.VerdictReturn)}
	for _, r := range rules {
		port, ok := portMatch(r.Port)
		if !ok {
			continue
		}
		peer := p.layout.addr(!ingress, 0)
		switch {
		case r.Set != "":
			out = append(out, cat(rule{peer, contains(r.Set, 0)}, port, allow))
		case len(r.Ranges) > 0:
			for _, x := range r.Ranges {
				between := &expr.Range{Op: expr.CmpOpEq, Register: reg(0), FromData: x.From.AsSlice(), ToData: x.To.AsSlice()}
				out = append(out, cat(rule{peer, between}, port, allow))
			}
		default:
			out = append(out, cat(port, allow))
		}
	}
	return append(out, rule{end(expr.VerdictDrop)})
}

// portMatch matches the protocol and destination port; ok is false for a protocol that this kernel cannot tell.
func portMatch(p policy.PortRange) (r rule, ok bool) {
	if p == (policy.PortRange{}) {
		return nil, true
	}
	proto, ok := protoNumber(p.Protocol)
	if !ok {
		return nil, false
	}
	r = rule{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{proto}}}
	if p.To == 0 {
		return r, true
	}
	word := func(v uint16) []byte { return []byte{byte(v >> 8), byte(v)} }
	r = append(r, words{}.port(0))
	if p.From == p.To {
		return append(r, &expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: word(p.From)}), true
	}
	return append(r, &expr.Range{Op: expr.CmpOpEq, Register: reg(0), FromData: word(p.From), ToData: word(p.To)}), true
}

// readLocked learns what the kernel enforces; present stays nil if there is no table that we could go on with.
func (p *Policies) readLocked() error {
	p.present = nil
	all, err := p.conn.ListChainsOfTableFamily(p.table.Family)
	if err != nil {
		return fmt.Errorf("nftables: listing chains: %w", err)
	}
	e := &enforced{chains: map[string]bool{}, sets: map[string]bool{}, elems: elements{}}
	known := false
	for _, c := range all {
		if c.Table.Name != policyTable {
			continue
		}
		known = known || c.Name == policyMarker
		if strings.HasPrefix(c.Name, "in-") || strings.HasPrefix(c.Name, "out-") {
			e.chains[c.Name] = true
		}
	}
	if !known {
		return nil
	}
	sets, err := p.conn.GetSets(p.table)
	if err != nil {
		return fmt.Errorf("nftables: listing sets: %w", err)
	}
	for _, s := range sets {
		mine := p.set(s.Name)
		found, err := p.conn.GetSetElements(mine)
		if err != nil {
			return fmt.Errorf("nftables: listing %s: %w", s.Name, err)
		}
		if !mine.IsMap {
			e.sets[s.Name] = true
		}
		for _, x := range found {
			data := ""
			if mine.IsMap {
				data = verdictChain(x.Val)
			}
			e.elems[place{set: s.Name, key: string(x.Key)}] = data
		}
	}
	p.present = e
	return nil
}
