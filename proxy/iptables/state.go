package iptables

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"bareboat.dev/proxy/plan"
)

// state is what the kernel should hold for a rule set, kept so that one service's change costs one service's work. It is
// pure bookkeeping: no commands are run here.
type state struct {
	r        renderer
	services map[string]rendered
	nat      *table
	filter   *table
	hairpins map[netip.Addr]int // how many services want the rule
}

// table is the wanted chains of one iptables table.
type table struct {
	chains  map[string][]string
	shared  map[string]map[plan.Address]string // rules of bucket and node port chains
	root    string                             // the chain with the jumps to them
	buckets map[string]netip.Prefix
	dirty   map[string]bool // chains that changed since the last take
}

func newTable(root string, base map[string][]string) *table {
	t := &table{
		chains: map[string][]string{}, shared: map[string]map[plan.Address]string{}, root: root,
		buckets: map[string]netip.Prefix{}, dirty: map[string]bool{},
	}
	for name, rules := range base {
		t.set(name, rules)
	}
	t.set(chNodePorts, nil)
	return t
}

func newState(r renderer) *state {
	nat, filter := r.base()
	s := &state{
		r: r, services: map[string]rendered{}, hairpins: map[netip.Addr]int{},
		nat: newTable(chServices, nat), filter: newTable(chFilter, filter),
	}
	s.nat.set(chHairpin, nil)
	s.nat.set(chServices, nil)
	s.filter.set(chFilter, nil)
	s.nat.assemble(nil, r.nodePortJumps())
	s.filter.assemble(nil, r.nodePortJumps())
	return s
}

func (t *table) set(name string, rules []string) {
	old, ok := t.chains[name]
	if ok && slices.Equal(old, rules) {
		return
	}
	t.chains[name] = rules
	t.dirty[name] = true
}

func (t *table) remove(name string) {
	if _, ok := t.chains[name]; ok {
		delete(t.chains, name)
		t.dirty[name] = true
	}
}

// file adds or (with an empty rule) removes a rule of a shared chain, and reports which chain must be assembled again.
func (t *table) file(e entry, rule string, touched map[string]bool) {
	m := t.shared[e.chain]
	if rule == "" {
		if m[e.place] != e.rule {
			return // another service has taken the place meanwhile
		}
		delete(m, e.place)
	} else {
		if m == nil {
			m = map[plan.Address]string{}
			t.shared[e.chain] = m
		}
		m[e.place] = rule
		if e.chain != chNodePorts {
			t.buckets[e.chain], _ = bucket(e.place.Addr)
		}
	}
	touched[e.chain] = true
}

// assemble rebuilds shared chains from their rules, and the root if a bucket came or went.
func (t *table) assemble(touched map[string]bool, jumps []string) {
	for name := range touched {
		m := t.shared[name]
		if len(m) == 0 && name != chNodePorts {
			delete(t.shared, name)
			delete(t.buckets, name)
			t.remove(name)
			continue
		}
		rules := make([]string, 0, len(m))
		for _, place := range slices.SortedFunc(maps.Keys(m), plan.Address.Compare) {
			rules = append(rules, m[place])
		}
		t.set(name, rules)
	}
	root := make([]string, 0, len(t.buckets)+len(jumps))
	for _, name := range slices.Sorted(maps.Keys(t.buckets)) {
		root = append(root, "-d "+t.buckets[name].String()+" -j "+name)
	}
	t.set(t.root, append(root, jumps...))
}

// update brings the wanted state up to date with the set for the named services.
func (s *state) update(set *plan.Set, keys []string) {
	natTouched, filterTouched := map[string]bool{}, map[string]bool{}
	next := make(map[string]rendered, len(keys))
	hairpin := false
	for _, key := range keys {
		if svc, ok := set.Service(key); ok {
			next[key] = s.r.service(svc)
		}
	}
	// All removals come first: within one update an address may move from one service to another.
	for _, key := range keys {
		old, n := s.services[key], next[key]
		for name := range old.nat {
			if _, stays := n.nat[name]; !stays {
				s.nat.remove(name)
			}
		}
		for _, e := range old.natIn {
			s.nat.file(e, "", natTouched)
		}
		for _, e := range old.filter {
			s.filter.file(e, "", filterTouched)
		}
		for _, a := range old.hairpin {
			if s.hairpins[a]--; s.hairpins[a] == 0 {
				delete(s.hairpins, a)
				hairpin = true
			}
		}
		delete(s.services, key)
	}
	for key, n := range next {
		for name, rules := range n.nat {
			s.nat.set(name, rules)
		}
		for _, e := range n.natIn {
			s.nat.file(e, e.rule, natTouched)
		}
		for _, e := range n.filter {
			s.filter.file(e, e.rule, filterTouched)
		}
		for _, a := range n.hairpin {
			if s.hairpins[a]++; s.hairpins[a] == 1 {
				hairpin = true
			}
		}
		s.services[key] = n
	}
	if hairpin {
		rules := make([]string, 0, len(s.hairpins))
		for _, a := range slices.SortedFunc(maps.Keys(s.hairpins), netip.Addr.Compare) {
			rules = append(rules, s.r.hairpinRule(a))
		}
		s.nat.set(chHairpin, rules)
	}
	s.nat.assemble(natTouched, s.r.nodePortJumps())
	s.filter.assemble(filterTouched, s.r.nodePortJumps())
}

// batch writes the iptables-restore lines that turn have into t for the given chains; empty if nothing differs. Chains
// to be deleted are emptied with the rest and removed last, when nothing can point to them any more.
func (t *table) batch(name string, have map[string][]string, chains []string) string {
	var decl, rules, del strings.Builder
	slices.Sort(chains)
	for _, c := range chains {
		want, wanted := t.chains[c]
		is, exists := have[c]
		switch {
		case !wanted && !exists, wanted && exists && slices.Equal(want, is):
			continue
		case !wanted:
			del.WriteString("-X " + c + "\n")
		}
		decl.WriteString(":" + c + " - [0:0]\n")
		for _, r := range want {
			rules.WriteString("-A " + c + " " + r + "\n")
		}
	}
	if decl.Len() == 0 {
		return ""
	}
	return "*" + name + "\n" + decl.String() + rules.String() + del.String() + "COMMIT\n"
}
