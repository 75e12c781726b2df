package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"

	goiptables "github.com/coreos/go-iptables/iptables"

	"bareboat.dev/proxy/plan"
)

// lockSeconds is how long a command waits for another user of the xtables lock (legacy backend; nf_tables has none).
// A full iptables-restore of 10,000 services holds it for about 2 s.
const lockSeconds = 10

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

// Applier makes one network namespace's iptables rules of one family match a plan. Calls may come from any goroutine,
// one at a time is served. Commands run in the network namespace of the calling thread.
type Applier struct {
	mu    sync.Mutex
	ipt   *goiptables.IPTables
	tools tools
	r     renderer
	want  *state                         // nil before the first Apply
	have  map[string]map[string][]string // table → chain → rules in the kernel; nil: unknown
}

type tools struct{ save, restore string }

// New finds the tools and tries what this kernel can do. An error says that this family cannot be served here.
func New(cfg Config) (*Applier, error) {
	proto, t := goiptables.ProtocolIPv4, tools{"iptables-save", "iptables-restore"}
	if cfg.Family == plan.IPv6 {
		proto, t = goiptables.ProtocolIPv6, tools{"ip6tables-save", "ip6tables-restore"}
	}
	ipt, err := goiptables.New(goiptables.IPFamily(proto), goiptables.Timeout(lockSeconds))
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("iptables is not installed: install it, or use --proxy-mode nftables: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("iptables: %w", err)
	}
	f, err := probe(ipt, cfg.Family)
	if err != nil {
		return nil, err
	}
	ours := func(ps []netip.Prefix) (out []netip.Prefix) {
		for _, p := range ps {
			if plan.Of(p.Addr()) == cfg.Family {
				out = append(out, p.Masked())
			}
		}
		return out
	}
	return &Applier{ipt: ipt, tools: t, r: renderer{
		family: cfg.Family, clusterCIDR: ours(cfg.ClusterCIDRs), nodePorts: ours(cfg.NodePortAddresses),
		masqAll: cfg.MasqueradeAll, features: f,
	}}, nil
}

// Apply makes the kernel match set. changed names the services whose rules may differ from those of the last successful
// call; nil means any may.
func (a *Applier) Apply(ctx context.Context, set *plan.Set, changed []string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.want == nil {
		a.want, changed = newState(a.r), nil
	}
	if changed == nil {
		known := set.Keys()
		for key := range a.want.services {
			if _, ok := set.Service(key); !ok {
				known = append(known, key)
			}
		}
		changed = known
	}
	a.want.update(set, changed)
	fresh := a.have == nil
	if fresh {
		if err := a.readLocked(ctx); err != nil {
			return err
		}
	}
	if err := a.writeLocked(ctx, fresh); err != nil {
		a.have = nil
		return err
	}
	if fresh {
		if err := a.hookLocked(); err != nil {
			a.have = nil
			return err
		}
	}
	return nil
}

// Forget makes the next Apply read the kernel's state again and repair what somebody else changed.
func (a *Applier) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.have = nil
}

// Intact says cheaply whether the rules still seem to be there: firewall managers that flush tables take the jumps too.
func (a *Applier) Intact() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := hooks()
	for _, h := range []hook{all[0], all[len(all)-1]} { // one of each table: they go together
		if ok, err := a.ipt.Exists(h.table, h.chain, h.rule...); err != nil || !ok {
			return false
		}
	}
	return true
}

// Missing lists what services must do without on this kernel.
func (a *Applier) Missing() (out []string) {
	f := a.r.features
	for what, there := range map[string]bool{
		"session affinity (the recent match)": f.recent, "SCTP": f.sctp, "random source ports when masquerading": f.randomFully,
	} {
		if !there {
			out = append(out, what)
		}
	}
	slices.Sort(out)
	return out
}

// batchesLocked is what to write, by table: for all chains or for those that changed.
func (a *Applier) batchesLocked(all bool) map[string]string {
	batches := map[string]string{}
	for name, t := range a.tables() {
		chains := slices.Collect(maps.Keys(t.dirty))
		if all {
			union := maps.Clone(t.dirty)
			for c := range t.chains {
				union[c] = true
			}
			for c := range a.have[name] {
				union[c] = true
			}
			chains = slices.Collect(maps.Keys(union))
		}
		batches[name] = t.batch(name, a.have[name], chains)
	}
	return batches
}

func (a *Applier) tables() map[string]*table {
	return map[string]*table{"nat": a.want.nat, "filter": a.want.filter}
}

func (a *Applier) writeLocked(ctx context.Context, all bool) error {
	batches := a.batchesLocked(all)
	// Each table is one transaction. nat goes first: a service that gets its first endpoint is translated before its
	// rejection goes away, so no packet escapes untranslated; the other way round a packet may go unanswered for the
	// time between two commits, as it would have a moment earlier.
	if text := batches["nat"] + batches["filter"]; text != "" {
		if err := a.restore(ctx, text); err != nil {
			return err
		}
	}
	// What is wanted is now what is there. Rule lists are shared between the two; they are never modified in place.
	for name, t := range a.tables() {
		if all {
			a.have[name] = maps.Clone(t.chains)
		}
		for c := range t.dirty {
			if rules, ok := t.chains[c]; ok {
				a.have[name][c] = rules
			} else {
				delete(a.have[name], c)
			}
		}
		clear(t.dirty)
	}
	return nil
}

func (a *Applier) restore(ctx context.Context, text string) error {
	cmd := exec.CommandContext(ctx, a.tools.restore, "--noflush", "-w", fmt.Sprint(lockSeconds))
	cmd.Stdin = strings.NewReader(text)
	return run(cmd)
}

func run(cmd *exec.Cmd) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("iptables: %s: %w: %s", cmd.Args[0], err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// readLocked learns which of our chains the kernel holds, and their rules.
func (a *Applier) readLocked(ctx context.Context) error {
	have := map[string]map[string][]string{}
	for _, name := range []string{"nat", "filter"} {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, a.tools.save, "-t", name)
		cmd.Stdout = &out
		if err := run(cmd); err != nil {
			return err
		}
		have[name] = parse(out.String())
	}
	a.have = have
	return nil
}

// parse picks our chains out of iptables-save's output for one table.
func parse(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if chain, ok := strings.CutPrefix(line, ":"); ok {
			if chain, _, _ = strings.Cut(chain, " "); strings.HasPrefix(chain, prefix) {
				out[chain] = nil
			}
		} else if rest, ok := strings.CutPrefix(line, "-A "+prefix); ok {
			chain, rule, _ := strings.Cut(rest, " ")
			out[prefix+chain] = append(out[prefix+chain], rule)
		}
	}
	return out
}

// hook is a jump from a built-in chain, the only kind of rule outside our own chains.
type hook struct {
	table, chain string
	rule         []string
}

func jump(target string) []string {
	return []string{"-m", "comment", "--comment", "bareboat service portals", "-j", target}
}

// hooks lists them all.
func hooks() []hook {
	newOnly := []string{"-m", "conntrack", "--ctstate", "NEW"}
	return []hook{
		{"nat", "PREROUTING", jump(chServices)},
		{"nat", "OUTPUT", jump(chServices)},
		{"nat", "POSTROUTING", jump(chPost)},
		{"filter", "FORWARD", jump(chForward)},
		{"filter", "INPUT", slices.Concat(newOnly, jump(chFilter))},
		{"filter", "FORWARD", slices.Concat(newOnly, jump(chFilter))},
		{"filter", "OUTPUT", slices.Concat(newOnly, jump(chFilter))},
	}
}

// hookLocked puts the jumps first in the built-in chains, where they are missing.
func (a *Applier) hookLocked() error {
	for _, h := range hooks() {
		ok, err := a.ipt.Exists(h.table, h.chain, h.rule...)
		if err == nil && !ok {
			err = a.ipt.Insert(h.table, h.chain, 1, h.rule...)
		}
		if err != nil {
			return fmt.Errorf("iptables: the jump from %s: %w", h.chain, err)
		}
	}
	return nil
}

// Cleanup removes every rule and chain of ours. It is safe to call when there are none.
func (a *Applier) Cleanup(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, h := range hooks() {
		for {
			ok, err := a.ipt.Exists(h.table, h.chain, h.rule...)
			if err != nil || !ok {
				break // a jump to a chain that does not exist cannot exist either
			}
			if err := a.ipt.Delete(h.table, h.chain, h.rule...); err != nil {
				errs = append(errs, fmt.Errorf("iptables: the jump from %s: %w", h.chain, err))
				break
			}
		}
	}
	if err := a.readLocked(ctx); err != nil {
		return errors.Join(append(errs, err)...)
	}
	var text string
	for _, name := range []string{"nat", "filter"} {
		empty := &table{}
		text += empty.batch(name, a.have[name], slices.Collect(maps.Keys(a.have[name])))
	}
	if text != "" {
		errs = append(errs, a.restore(ctx, text))
	}
	a.have, a.want = nil, nil
	a.tidyLocked(ctx)
	return errors.Join(errs...)
}

// tidyLocked removes built-in chains that do nothing: with the nf_tables backend they are made by being used, and iptables
// makes them again when it needs them. The legacy backend cannot remove them, and has had them all along.
func (a *Applier) tidyLocked(ctx context.Context) {
	for _, name := range []string{"nat", "filter"} {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, a.tools.save, "-t", name)
		cmd.Stdout = &out
		if run(cmd) != nil {
			return
		}
		for _, chain := range idle(out.String()) {
			_ = a.ipt.DeleteChain(name, chain) // iptables-save lists all of them, also those that were never made
		}
	}
}

// idle finds the built-in chains without rules whose policy is to accept.
func idle(text string) (out []string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(strings.TrimPrefix(line, ":"))
		if strings.HasPrefix(line, ":") && len(fields) > 1 && fields[1] == "ACCEPT" && !strings.Contains(text, "\n-A "+fields[0]+" ") {
			out = append(out, fields[0])
		}
	}
	return out
}
