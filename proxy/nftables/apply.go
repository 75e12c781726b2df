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
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bareboat.dev/proxy/plan"
)

// Sizes of the netlink socket and its messages.
const (
	// sendBuffer must hold one transaction as a whole: 30,000 services with node ports and three endpoints each are about
	// 25 MB. It is a limit, not an allocation.
	sendBuffer = 128 << 20
	// receiveBuffer must hold the kernel's acknowledgements of one transaction, one a message of 64 KB: some thousand of
	// about 1 KiB at most.
	receiveBuffer = 16 << 20
	// chunk is how many elements go into one message: its list may have 64 KiB and an element takes at most 160 bytes.
	chunk = 380
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
// is served. The socket belongs to the network namespace of the thread that called New.
type Applier struct {
	mu     sync.Mutex
	conn   *nft.Conn
	layout layout
	table  *nft.Table
	sets   map[string]*nft.Set
	want   *state          // nil before the first Apply
	have   elements        // in the kernel; nil: unknown
	chains map[string]bool // shared chains in the kernel
}

// New opens the socket and tries, in a transaction that is not kept, whether this kernel knows everything that the table
// needs.
func New(cfg Config) (*Applier, error) {
	conn, err := nft.New(nft.AsLasting(), nft.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(sendBuffer), c.SetReadBuffer(receiveBuffer))
	}))
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
		conn.CloseLasting()
		return nil, fmt.Errorf("nftables: this kernel has no tables for %s: %w", cfg.Family, err)
	}
	return a, nil
}

// Close closes the socket; the rules stay.
func (a *Applier) Close() error { return a.conn.CloseLasting() }

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
	a.want.update(set, changed)
	fresh := a.have == nil
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
	a.want.settle(a.have, d)
	return nil
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
	a.conn.AddTable(a.table) // deleting what does not exist would be an error
	a.conn.DelTable(a.table)
	if err := a.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: deleting the table: %w", err)
	}
	return nil
}

// sendLocked sends one transaction and returns the chains that it made and removed.
func (a *Applier) sendLocked(d delta, fresh bool) (made, unused []string, err error) {
	shapes := a.want.allShapes()
	if a.chains == nil { // no table, or not ours to keep
		a.replaceLocked()
		a.chains = map[string]bool{}
	}
	missing := []shape{}
	names := map[string]bool{}
	for s := range shapes {
		names[s.String()] = true
		if !a.chains[s.String()] {
			missing = append(missing, s)
		}
	}
	slices.SortFunc(missing, func(x, y shape) int {
		return cmp.Or(x.depth()-y.depth(), strings.Compare(x.String(), y.String()))
	})
	for _, s := range missing {
		a.chainLocked(s.String(), a.layout.shared(s), nil)
		made = append(made, s.String())
	}
	if err := errors.Join(a.elementsLocked(d.del, a.have, a.conn.SetDeleteElements), a.elementsLocked(d.add, a.want.want, a.conn.SetAddElements)); err != nil {
		return nil, nil, err
	}
	if fresh {
		// Shapes that went out of use while nobody was looking. Those of this process stay: they are few and may come back.
		for name := range a.chains {
			if !names[name] {
				unused = append(unused, name)
			}
		}
		a.dropLocked(unused)
	}
	return made, unused, a.conn.Flush()
}

// dropLocked deletes chains that may refer to each other: first all their rules, then they.
func (a *Applier) dropLocked(names []string) {
	for _, name := range names {
		a.conn.FlushChain(&nft.Chain{Name: name, Table: a.table})
	}
	for _, name := range names {
		a.conn.DelChain(&nft.Chain{Name: name, Table: a.table})
	}
}

// replaceLocked makes the table anew, without elements and shared chains, in place of whatever has its name.
func (a *Applier) replaceLocked() {
	a.conn.AddTable(a.table)
	a.conn.DelTable(a.table)
	a.conn.AddTable(a.table)
	for _, s := range a.layout.sets(a.table) {
		a.conn.AddSet(s, nil) // fails for anonymous sets only, which these are not
	}
	fixed := a.layout.fixed()
	hooked := map[string]base{}
	for _, b := range bases() {
		hooked[b.name] = b
	}
	order := []string{chOutside, chReject, chDrop, chReject + unlessLocal, chDrop + unlessLocal, chServices, chDenied}
	for _, name := range order {
		a.chainLocked(name, fixed[name], nil)
	}
	for _, b := range bases() {
		a.chainLocked(b.name, fixed[b.name], &b)
	}
	a.chainLocked(a.layout.marker(), nil, nil)
}

func (a *Applier) chainLocked(name string, rules []rule, hook *base) {
	c := &nft.Chain{Name: name, Table: a.table}
	if hook != nil {
		c.Type, c.Hooknum, c.Priority = hook.kind, hook.hook, hook.priority
	}
	a.conn.AddChain(c)
	for _, r := range rules {
		a.conn.AddRule(&nft.Rule{Table: a.table, Chain: c, Exprs: r})
	}
}

// elementsLocked adds or deletes elements in messages of bounded size.
func (a *Applier) elementsLocked(places []place, data elements, send func(*nft.Set, []nft.SetElement) error) error {
	bySet := map[string][]nft.SetElement{}
	for _, p := range places {
		e := nft.SetElement{Key: []byte(p.key)}
		if p.end != "" {
			e.KeyEnd = []byte(p.end)
		}
		set := a.sets[p.set]
		switch {
		case set.IsMap && set.DataType == nft.TypeVerdict:
			e.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: data[p]}
		case set.IsMap:
			e.Val = []byte(data[p])
		}
		bySet[p.set] = append(bySet[p.set], e)
	}
	for name, all := range bySet {
		for part := range slices.Chunk(all, chunk) {
			if err := send(a.sets[name], part); err != nil {
				return fmt.Errorf("elements of %s: %w", name, err)
			}
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
