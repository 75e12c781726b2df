package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"bareboat.dev/proxy/plan"
)

// Chain names. iptables allows 28 characters.
const (
	prefix       = "BB-"
	chServices   = "BB-SERVICES"
	chNodePorts  = "BB-NODEPORTS"
	chMark       = "BB-MARK-MASQ"
	chOutside    = "BB-OUTSIDE"
	chPost       = "BB-POSTROUTING"
	chHairpin    = "BB-HAIRPIN"
	chFilter     = "BB-FILTER"
	chForward    = "BB-FORWARD"
	bucketPrefix = "BB-VIP-"
)

// masqMark is the bit of the packet mark that asks for masquerading; the same bit as kube-proxy's default, so that other
// software that knows of it keeps working. It is cleared again before the packet leaves.
const masqMark = "0x4000"

// entry is one rule in a chain that many services share: a bucket or a node port chain.
type entry struct {
	chain string
	place plan.Address
	rule  string
}

// rendered is everything that one service needs in one family.
type rendered struct {
	nat     map[string][]string // chains of its own
	natIn   []entry
	filter  []entry
	hairpin []netip.Addr
}

// renderer turns plan values into rules in exactly the form that iptables-save prints, which is what makes comparing
// with the kernel possible. A form that some version prints differently costs one superfluous, atomic rewrite at start.
type renderer struct {
	family      plan.Family
	clusterCIDR []netip.Prefix
	nodePorts   []netip.Prefix
	masqAll     bool
	features    features
}

func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "|")))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

func lower(p plan.Protocol) string { return strings.ToLower(string(p)) }

// host is an address as iptables-save prints it in -s and -d.
func host(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// bucket is the prefix that an address is filed under, and the name of its chain.
func bucket(a netip.Addr) (netip.Prefix, string) {
	p, _ := a.Prefix(a.BitLen() - 8)
	if a.Is4() {
		b := p.Addr().As4()
		return p, fmt.Sprintf("%s%02X%02X%02X", bucketPrefix, b[0], b[1], b[2])
	}
	return p, bucketPrefix + hash(p.String())
}

// match is the destination part of a frontend's rule.
func match(f plan.Frontend, comment string) string {
	proto := lower(f.Protocol)
	var b strings.Builder
	if f.Kind != plan.NodePort {
		fmt.Fprintf(&b, "-d %s ", host(f.Addr))
	}
	fmt.Fprintf(&b, `-p %s -m comment --comment %s -m %s --dport %d`, proto, quote(comment), proto, f.Port)
	return b.String()
}

// quote is how iptables-save quotes a comment: only if it has to.
func quote(s string) string {
	plain := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) < 0
	if plain {
		return s
	}
	return `"` + s + `"`
}

func (r renderer) service(s plan.Service) rendered {
	out := rendered{nat: map[string][]string{}, hairpin: s.Hairpin}
	for _, p := range s.Ports {
		if !r.features.speaks(p.Protocol) {
			continue
		}
		n := portNames(p)
		r.pool(out.nat, n.cluster, p, p.Cluster, true)
		r.pool(out.nat, n.local, p, p.Local, false)
		for _, f := range p.Frontends {
			if !f.Shadowed {
				r.frontend(&out, p, f, n)
			}
		}
	}
	if port := s.Health.Port; port > 0 {
		rule := fmt.Sprintf("-p tcp -m comment --comment %s -m tcp --dport %d -j ACCEPT", quote(s.Key+" health"), port)
		place := plan.Address{Addr: r.family.Unspecified(), Port: port, Protocol: "TCP"}
		out.filter = append(out.filter, entry{chNodePorts, place, rule})
	}
	return out
}

type names struct{ comment, cluster, local, external, firewall string }

func portNames(p plan.Port) names {
	h := hash(p.ID())
	c := p.Service
	if p.Name != "" {
		c += ":" + p.Name
	}
	return names{c, prefix + "SVC-" + h, prefix + "SVL-" + h, prefix + "EXT-" + h, prefix + "FW-" + h}
}

// frontend adds the rules by which packets find the pools, and those for packets that do not.
func (r renderer) frontend(out *rendered, p plan.Port, f plan.Frontend, n names) {
	chain := chNodePorts
	if f.Kind != plan.NodePort {
		_, chain = bucket(f.Addr)
	}
	if target := r.target(out.nat, p, f, n); target != "" {
		out.natIn = append(out.natIn, entry{chain, f.Address, match(f, n.comment) + " -j " + target})
	}
	deny := ""
	switch {
	case p.Action(f) == plan.Reject:
		deny = "REJECT --reject-with " + r.unreachable()
	case p.Action(f) == plan.Drop, f.Restricted:
		deny = "DROP"
	}
	if deny != "" {
		rule := match(f, n.comment)
		if f.Kind == plan.ClusterIP {
			rule += " -m addrtype ! --dst-type LOCAL"
		}
		out.filter = append(out.filter, entry{chain, f.Address, rule + " -j " + deny})
	}
}

func (r renderer) unreachable() string {
	if r.family == plan.IPv4 {
		return "icmp-port-unreachable"
	}
	return "icmp6-port-unreachable"
}

// target is the chain that a frontend's rule jumps to, which is made if need be; empty if nobody serves.
func (r renderer) target(nat map[string][]string, p plan.Port, f plan.Frontend, n names) string {
	if !f.External() {
		switch {
		case f.LocalOnly && len(p.Local) > 0:
			return n.local
		case !f.LocalOnly && len(p.Cluster) > 0:
			return n.cluster
		}
		return ""
	}
	if len(p.Cluster) == 0 && (!f.LocalOnly || len(p.Local) == 0) {
		return ""
	}
	nat[n.external] = r.external(p, f.LocalOnly, n)
	if !f.Restricted {
		return n.external
	}
	rules := make([]string, 0, len(f.Sources))
	for _, s := range f.Sources {
		rules = append(rules, fmt.Sprintf("-s %s -j %s", s, n.external))
	}
	nat[n.firewall] = rules
	return n.firewall
}

// external is the way in from outside the cluster. Cluster policy: the answer has to come back through this node, so
// the source is rewritten, whoever it is. Local policy: the source is kept; what starts in the cluster or on this node
// may use any endpoint.
func (r renderer) external(p plan.Port, local bool, n names) []string {
	if !local {
		return []string{"-j " + chMark, "-j " + n.cluster}
	}
	var out []string
	if len(p.Cluster) > 0 {
		for _, c := range r.clusterCIDR {
			out = append(out, fmt.Sprintf("-s %s -j %s", c, n.cluster))
		}
		out = append(out, "-m addrtype --src-type LOCAL -j "+chMark, "-m addrtype --src-type LOCAL -j "+n.cluster)
	}
	if len(p.Local) > 0 {
		out = append(out, "-j "+n.local)
	}
	return out
}

// pool makes the chain that picks an endpoint.
func (r renderer) pool(nat map[string][]string, chain string, p plan.Port, eps []netip.AddrPort, outside bool) {
	if len(eps) == 0 {
		return
	}
	var out []string
	switch {
	case outside && r.masqAll:
		out = append(out, "-j "+chMark)
	case outside && len(r.clusterCIDR) > 0:
		out = append(out, "-j "+chOutside)
	}
	jump := make([]string, len(eps))
	for i, e := range eps {
		jump[i] = r.dnat(p, e, "")
		if p.AffinitySeconds > 0 && r.features.recent {
			sep := prefix + "SEP-" + hash(p.ID(), e.String())
			recent := fmt.Sprintf("--name %s --mask %s --rsource", sep, r.hostMask())
			nat[sep] = []string{r.dnat(p, e, "-m recent --set "+recent+" ")}
			jump[i] = "-j " + sep
			out = append(out, fmt.Sprintf("-m recent --rcheck --seconds %d --reap %s -j %s", p.AffinitySeconds, recent, sep))
		}
	}
	for i, j := range jump {
		if left := len(jump) - i; left > 1 {
			proto, rest := "", j
			if p, after, ok := strings.Cut(j, " -j "); ok && strings.HasPrefix(p, "-p ") {
				proto, rest = p+" ", "-j "+after
			}
			j = proto + "-m statistic --mode random --probability " + probability(left) + " " + rest
		}
		out = append(out, j)
	}
	nat[chain] = out
}

func (r renderer) dnat(p plan.Port, e netip.AddrPort, extra string) string {
	return fmt.Sprintf("-p %s %s-j DNAT --to-destination %s", lower(p.Protocol), extra, e)
}

func (r renderer) hostMask() string {
	if r.family == plan.IPv4 {
		return "255.255.255.255"
	}
	return "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
}

// probability is 1/n as the statistic match keeps it: a fraction of 2³¹.
func probability(n int) string {
	steps := (uint64(1)<<31 + uint64(n)/2) / uint64(n)
	return strconv.FormatFloat(float64(steps)/float64(1<<31), 'f', 11, 64)
}

// base is the chains that exist whatever the services are, without those assembled from entries.
func (r renderer) base() (nat, filter map[string][]string) {
	masquerade := "-j MASQUERADE"
	if r.features.randomFully {
		masquerade += " --random-fully"
	}
	var outside []string
	for _, c := range r.clusterCIDR {
		outside = append(outside, fmt.Sprintf("-s %s -j RETURN", c))
	}
	nat = map[string][]string{
		chMark:    {"-j MARK --set-xmark " + masqMark + "/" + masqMark},
		chOutside: append(outside, "-j "+chMark),
		chPost: {
			"-m conntrack --ctstate DNAT -j " + chHairpin,
			"-m mark ! --mark " + masqMark + "/" + masqMark + " -j RETURN",
			"-j MARK --set-xmark " + masqMark + "/0x0",
			masquerade,
		},
	}
	filter = map[string][]string{
		chForward: {
			// A packet that conntrack does not understand would be forwarded without the reverse translation, and
			// the client would answer it with a reset (kubernetes/kubernetes#74839).
			"-m conntrack --ctstate INVALID -j DROP",
			"-m mark --mark " + masqMark + "/" + masqMark + " -j ACCEPT",
			"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		},
	}
	return nat, filter
}

// hairpin is one rule for an address of an endpoint on this node.
func (r renderer) hairpinRule(a netip.Addr) string {
	rule := fmt.Sprintf("-s %s -d %s -j MASQUERADE", host(a), host(a))
	if r.features.randomFully {
		rule += " --random-fully"
	}
	return rule
}

// nodePortJumps send packets for this host's own addresses to BB-NODEPORTS. Loopback addresses are left out: to leave
// the host they would need route_localnet, which opens every loopback service of the host to its neighbours.
func (r renderer) nodePortJumps() []string {
	if len(r.nodePorts) > 0 {
		var out []string
		for _, p := range r.nodePorts {
			out = append(out, fmt.Sprintf("-d %s -m addrtype --dst-type LOCAL -j %s", p, chNodePorts))
		}
		return out
	}
	loopback := "127.0.0.0/8"
	if r.family == plan.IPv6 {
		loopback = "::1/128"
	}
	return []string{fmt.Sprintf("! -d %s -m addrtype --dst-type LOCAL -j %s", loopback, chNodePorts)}
}
