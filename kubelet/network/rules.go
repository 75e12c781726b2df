package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The chains that are ours, and nobody else's.
const (
	chainMasq    = "BAREBOAT-MASQ"
	chainPorts   = "BAREBOAT-HOSTPORT"
	chainForward = "BAREBOAT-FORWARD"
)

// jump is a rule in one of the kernel's own chains that leads to one of ours.
type jump struct {
	table, chain string
	rule         []string
}

// jumps lists them for a family. Packets from the loopback addresses, which is what the host's own packets to them are unless
// they are bound to another, are left alone: they cannot leave the host without route_localnet, which exposes services that
// listen there.
func jumps(ipv6 bool) []jump {
	local := []string{"-m", "addrtype", "--dst-type", "LOCAL", "-j", chainPorts}
	loopback := "127.0.0.0/8"
	if ipv6 {
		loopback = "::1/128"
	}
	return []jump{
		{"nat", "POSTROUTING", []string{"-m", "comment", "--comment", "bareboat pod network", "-j", chainMasq}},
		{"nat", "PREROUTING", local},
		{"nat", "OUTPUT", append([]string{"!", "-s", loopback}, local...)},
		{"filter", "FORWARD", []string{"-m", "comment", "--comment", "bareboat pod network", "-j", chainForward}},
	}
}

// natChains is pure: the whole content of our chains in table nat, as input for iptables-restore --noflush, which replaces it in one step.
func natChains(c *Config, pods []Attached, ipv6 bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*nat\n:%s - [0:0]\n:%s - [0:0]\n", chainMasq, chainPorts)
	for _, p := range sortedPods(pods) {
		ip, ok := addressOf(p, ipv6)
		if !ok || len(p.HostPorts) == 0 {
			continue
		}
		// A pod that calls itself through its host port would otherwise see its own address as the caller's, and answer itself.
		fmt.Fprintf(&b, "-A %s -s %s -d %s -j MASQUERADE\n", chainMasq, ip, ip)
		for _, hp := range p.HostPorts {
			b.WriteString(portRule(hp, ip, ipv6))
		}
	}
	if !c.NoMasquerade {
		for _, own := range ofFamily(c.PodCIDRs, ipv6) {
			for _, to := range append(ofFamily(c.clusterCIDRs(), ipv6), multicast(ipv6)) {
				fmt.Fprintf(&b, "-A %s -s %s -d %s -j RETURN\n", chainMasq, own, to)
			}
			fmt.Fprintf(&b, "-A %s -s %s -j MASQUERADE --random-fully\n", chainMasq, own)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

func portRule(hp HostPort, ip netip.Addr, ipv6 bool) string {
	to := netip.AddrPortFrom(ip, hp.ContainerPort)
	only := ""
	if hp.HostIP.IsValid() && !hp.HostIP.IsUnspecified() {
		if hp.HostIP.Is6() != ipv6 {
			return ""
		}
		only = " -d " + hp.HostIP.String()
	}
	return fmt.Sprintf("-A %s%s -p %s --dport %d -j DNAT --to-destination %s\n", chainPorts, only, strings.ToLower(string(hp.Protocol)), hp.HostPort, to)
}

// forwardChain is pure: pods may forward and be forwarded to where the host's default is to drop. It is the last rule of FORWARD, so that
// whatever refuses comes first.
func forwardChain(c *Config, ipv6 bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*filter\n:%s - [0:0]\n", chainForward)
	for _, own := range ofFamily(c.PodCIDRs, ipv6) {
		fmt.Fprintf(&b, "-A %s -s %s -j ACCEPT\n-A %s -d %s -j ACCEPT\n", chainForward, own, chainForward, own)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

func multicast(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.MustParsePrefix("ff00::/8")
	}
	return netip.MustParsePrefix("224.0.0.0/4")
}

func ofFamily(list []netip.Prefix, ipv6 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		if p.Addr().Is6() == ipv6 {
			out = append(out, p.Masked())
		}
	}
	return out
}

func addressOf(p Attached, ipv6 bool) (netip.Addr, bool) {
	for _, ip := range p.IPs {
		if ip.Is6() == ipv6 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func sortedPods(pods []Attached) []Attached {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b Attached) int { return strings.Compare(a.PodUID, b.PodUID) })
	return pods
}

// conflicts says whether two host ports want the same packets.
func conflicts(a, b HostPort) bool {
	if a.Protocol != b.Protocol || a.HostPort != b.HostPort {
		return false
	}
	anyIP := func(ip netip.Addr) bool { return !ip.IsValid() || ip.IsUnspecified() }
	return anyIP(a.HostIP) || anyIP(b.HostIP) || a.HostIP == b.HostIP
}
