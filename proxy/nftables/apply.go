package nftables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bareboat.dev/proxy/plan"
)

// Config is what an Applier does not learn from the plan.
type Config struct {
	Family plan.Family
	// ClusterCIDRs are the pod networks, of any family. Traffic to cluster addresses from anywhere else is masqueraded.
	// Empty: no such traffic is.
	ClusterCIDRs []netip.Prefix
	// NodePortAddresses limits node ports to this host's addresses within these prefixes. Empty: all but loopback.
	NodePortAddresses []netip.Prefix
	// MasqueradeAll masquerades all traffic to cluster addresses.
	MasqueradeAll bool
}

// Applier makes one network namespace's table of one family match a plan. Calls may come from any goroutine, one at a time
// is served. It works on the network namespace of the calling thread of the first Apply.
type Applier struct {
	mu     sync.Mutex
	conn   *nft.Conn // for listing; opens a socket for each question
	writer writer
	layout layout
	table  *nft.Table
	sets   map[string]*nft.Set
	want   *state          // nil before the first Apply
	have   elements        // in the kernel; nil: unknown
	chains map[string]bool // shared chains in the kernel
}

// New finds out whether this kernel has tables for the family.
func New(cfg Config) (*Applier, error) {
	conn, err := nft.New()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	ours := func(ps []netip.Prefix) (out []netip.Prefix) {
		for _, p := range ps {
			if plan.Of(p.Addr()) == cfg.Family {
				out = append(out, p.Masked())
			}
		}
		return out
	}
	a := &Applier{conn: conn, layout: layout{
		words: newWords(cfg.Family), cluster: ours(cfg.ClusterCIDRs), nodePorts: ours(cfg.NodePortAddresses), masqAll: cfg.MasqueradeAll,
	}}
	a.table = a.layout.table()
	a.sets = map[string]*nft.Set{}
	for _, s := range a.layout.sets(a.table) {
		a.sets[s.Name] = s
	}
	if _, err := conn.ListTablesOfFamily(a.table.Family); err != nil {
		return nil, fmt.Errorf("nftables: this kernel has no tables for %s: %w", cfg.Family, err)
	}
	return a, nil
}

// Apply makes the kernel match set. changed names the services whose rules may differ from those of the last successful
// call; nil means any may.
func (a *Applier) Apply(_ context.Context, set *plan.Set, changed []string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.want == nil {
		a.want, changed = newState(), nil
	}
	if changed == nil {
		changed = set.Keys()
		for _, key := range a.want.keys() {
			if _, ok := set.Service(key); !ok {
				changed = append(changed, key)
			}
		}
	}
	fresh := a.have == nil
	a.want.update(set, changed, fresh)
	if fresh {
		if err := a.readLocked(); err != nil {
			return err
		}
	}
	d := a.want.delta(a.have, fresh)
	if len(d.add)+len(d.del) == 0 && (!fresh || len(a.chains) > 0) {
		clear(a.want.dirty)
		return nil
	}
	made, unused, err := a.sendLocked(d, fresh)
	if err != nil {
		a.have = nil
		return fmt.Errorf("nftables: %w", err)
	}
	for _, name := range made {
		a.chains[name] = true
	}
	for _, name := range unused {
		delete(a.chains, name)
	}
	turned := turned(d, a.have, a.want.want)
	a.want.settle(a.have, d)
	if fresh || len(turned) > 0 || d.deletes(setMember) || d.deletes(ofSort(setMember, true)) {
		if err := a.forgetClientsLocked(turned); err != nil {
			a.have = nil
			return fmt.Errorf("nftables: clients of endpoints that are gone: %w", err)
		}
	}
	return nil
}

// Close closes the socket; the rules stay.
func (a *Applier) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writer.close()
}

// Forget makes the next Apply read the kernel's state again and repair what somebody else changed.
func (a *Applier) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.have = nil
}

// Intact says cheaply whether the table is there: firewall managers that flush the rule set take all of it.
func (a *Applier) Intact() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, err := a.conn.ListChain(a.table, a.layout.marker())
	return err == nil && c != nil
}

// Cleanup deletes the table. It is safe to call when there is none.
func (a *Applier) Cleanup(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.have, a.want, a.chains = nil, nil, nil
	t := newTransaction(a.table)
	t.addTable(tableName) // deleting what does not exist would be an error
	t.deleteTable(tableName)
	if err := a.writer.commit(t); err != nil {
		return fmt.Errorf("nftables: deleting the table: %w", err)
	}
	return nil
}

// DropEmpty deletes tables of a family that have nothing in them, as the nf_tables backend of iptables leaves them behind. A
// table that is in use stays; that is for the kernel to decide, so nothing can come in between.
func DropEmpty(family plan.Family, names ...string) {
	l := layout{words: newWords(family)}
	var w writer
	defer w.close()
	for _, name := range names {
		t := newTransaction(l.table())
		t.add(unix.NFT_MSG_DELTABLE, unix.NLM_F_NONREC, text(nil, unix.NFTA_TABLE_NAME, name))
		_ = w.commit(t) // it says that the table is in use or does not exist: both are fine
	}
}

// sendLocked sends one transaction and returns the chains that it made and removed.
func (a *Applier) sendLocked(d delta, fresh bool) (made, unused []string, err error) {
	t := newTransaction(a.table)
	if a.chains == nil { // no table, or not ours to keep
		if err := a.replaceLocked(t); err != nil {
			return nil, nil, err
		}
		a.chains = map[string]bool{}
	}
	var missing []shape
	names := map[string]bool{}
	for s := range a.want.allShapes() {
		names[s.String()] = true
		if !a.chains[s.String()] {
			missing = append(missing, s)
		}
	}
	slices.SortFunc(missing, func(x, y shape) int {
		return cmp.Or(x.depth()-y.depth(), strings.Compare(x.String(), y.String()))
	})
	for _, s := range missing {
		if err := addChain(t, s.String(), a.layout.shared(s), nil); err != nil {
			return nil, nil, err
		}
		made = append(made, s.String())
	}
	for name, places := range bySet(d.del) {
		t.elements(unix.NFT_MSG_DELSETELEM, 0, a.sets[name], places, nil)
	}
	for name, places := range bySet(d.add) {
		t.elements(unix.NFT_MSG_NEWSETELEM, netlink.Create, a.sets[name], places, a.want.want)
	}
	if fresh {
		// Shapes that went out of use while nobody was looking. Those of this process stay: they are few and may come back.
		for name := range a.chains {
			if !names[name] {
				unused = append(unused, name)
				t.flushChain(tableName, name) // they may refer to each other: first all rules, then the chains
			}
		}
		for _, name := range unused {
			t.deleteChain(tableName, name)
		}
	}
	return made, unused, a.writer.commit(t)
}

func bySet(places []place) map[string][]place {
	out := map[string][]place{}
	for _, p := range places {
		out[p.set] = append(out[p.set], p)
	}
	return out
}

// replaceLocked makes the table anew, without elements and shared chains, in place of whatever has its name.
func (a *Applier) replaceLocked(t *transaction) error {
	t.addTable(tableName)
	t.deleteTable(tableName)
	t.addTable(tableName)
	for i, s := range a.layout.sets(a.table) {
		t.addSet(s, uint32(i+1))
	}
	fixed := a.layout.fixed()
	for _, name := range []string{chOutside, chReject, chDrop, chReject + unlessLocal, chDrop + unlessLocal, chServices, chDenied} {
		if err := addChain(t, name, fixed[name], nil); err != nil {
			return err
		}
	}
	for _, b := range bases() {
		if err := addChain(t, b.name, fixed[b.name], &b); err != nil {
			return err
		}
	}
	return addChain(t, a.layout.marker(), nil, nil)
}

func addChain(t *transaction, name string, rules []rule, hook *base) error {
	t.addChain(tableName, name, hook)
	for _, r := range rules {
		if err := t.addRule(tableName, name, r); err != nil {
			return err
		}
	}
	return nil
}

// readLocked learns what the kernel holds; chains stays nil if there is no table that we could go on with.
func (a *Applier) readLocked() error {
	a.have, a.chains = elements{}, nil
	all, err := a.conn.ListChainsOfTableFamily(a.table.Family)
	if err != nil {
		return fmt.Errorf("nftables: listing chains: %w", err)
	}
	chains, known := map[string]bool{}, false
	for _, c := range all {
		if c.Table.Name != tableName {
			continue
		}
		known = known || c.Name == a.layout.marker()
		if isShared(c.Name) {
			chains[c.Name] = true
		}
	}
	if !known {
		return nil
	}
	have := elements{}
	for name, set := range a.sets {
		if name == setSticky {
			continue
		}
		found, err := a.conn.GetSetElements(set)
		if errors.Is(err, os.ErrNotExist) {
			return nil // somebody deleted it: everything is made anew
		}
		if err != nil {
			return fmt.Errorf("nftables: listing %s: %w", name, err)
		}
		for _, e := range found {
			p := place{set: name, key: string(e.Key), end: string(e.KeyEnd)}
			switch {
			case set.IsMap && set.DataType == nft.TypeVerdict:
				have[p] = verdictChain(e.Val)
			case set.IsMap:
				have[p] = string(e.Val)
			default:
				have[p] = ""
			}
		}
	}
	a.have, a.chains = have, chains
	return nil
}

// verdictChain reads the chain's name in a verdict as the kernel lists it.
func verdictChain(data []byte) string {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return ""
	}
	for d.Next() {
		if d.Type() == unix.NFTA_VERDICT_CHAIN {
			return d.String()
		}
	}
	return ""
}
