package iptables

import (
	"fmt"

	goiptables "github.com/coreos/go-iptables/iptables"

	"bareboat.dev/proxy/plan"
)

// features is what this kernel and this iptables can do beyond what every Service needs.
type features struct {
	randomFully bool // MASQUERADE --random-fully
	recent      bool // session affinity
	sctp        bool
}

func (f features) speaks(p plan.Protocol) bool {
	switch p {
	case "TCP", "UDP":
		return true
	case "SCTP":
		return f.sctp
	}
	return false
}

// chProbe exists only while New tries out rules in it. No packet ever goes through it.
const chProbe = prefix + "PROBE"

// probe tries each thing that may be missing, in a chain that nothing jumps to. What no Service can do without is an error.
func probe(ipt *goiptables.IPTables, family plan.Family) (f features, err error) {
	const nat = "nat"
	if err := ipt.ClearChain(nat, chProbe); err != nil {
		return f, fmt.Errorf("iptables: the nat table of %s cannot be used: %w", family, err)
	}
	defer func() {
		if e := ipt.ClearAndDeleteChain(nat, chProbe); err == nil && e != nil {
			err = fmt.Errorf("iptables: removing the probe chain: %w", e)
		}
	}()
	try := func(rule ...string) error { return ipt.Append(nat, chProbe, rule...) }
	for what, rule := range map[string][]string{
		"statistic match": {"-m", "statistic", "--mode", "random", "--probability", "0.5", "-j", "RETURN"},
		"addrtype match":  {"-m", "addrtype", "--dst-type", "LOCAL", "-j", "RETURN"},
		"conntrack match": {"-m", "conntrack", "--ctstate", "DNAT", "-j", "RETURN"},
		"comment match":   {"-m", "comment", "--comment", "probe", "-j", "RETURN"},
		"mark match":      {"-m", "mark", "--mark", masqMark + "/" + masqMark, "-j", "RETURN"},
		"MARK target":     {"-j", "MARK", "--set-xmark", masqMark + "/" + masqMark},
	} {
		if err := try(rule...); err != nil {
			return f, fmt.Errorf("iptables: this kernel lacks the %s for %s: %w", what, family, err)
		}
	}
	f.randomFully = ipt.HasRandomFully() && try("-j", "MASQUERADE", "--random-fully") == nil
	f.recent = try("-m", "recent", "--name", chProbe, "--set", "-j", "RETURN") == nil
	f.sctp = try("-p", "sctp", "-m", "sctp", "--dport", "1", "-j", "RETURN") == nil
	return f, nil
}
