package policy

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"bareboat.dev/proxy/plan"
)

// Input is all that the rules depend on. Objects are not modified.
type Input struct {
	Policies   []*networkingv1.NetworkPolicy
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
	Node       string
	Family     plan.Family
}

// Rules is what one node enforces in one family.
type Rules struct {
	// Ingress and Egress map the address of an isolated pod of this node to the name of its chain.
	Ingress, Egress map[netip.Addr]string
	// Chains are named by their content. A packet that no rule of its chain allows is dropped.
	Chains map[string][]Rule
	// Sets are groups of pods, named by what selects them; the addresses are sorted.
	Sets map[string][]netip.Addr
}

// Rule allows packets whose other end is in From (which is where they go to, for egress), to any of Ports.
type Rule struct {
	Set    string  // a set of pods; empty: see Ranges
	Ranges []Range // sorted, disjoint addresses; with an empty Set and no Ranges: anybody
	Port   PortRange
}

// Range is an inclusive range of addresses.
type Range struct{ From, To netip.Addr }

// PortRange is an inclusive range of ports of one protocol; the zero value is any port of any protocol.
type PortRange struct {
	Protocol plan.Protocol
	From, To uint16 // zero: any port
}

func (p PortRange) String() string {
	switch {
	case p == PortRange{}:
		return "any port"
	case p.To == 0:
		return string(p.Protocol)
	case p.From == p.To:
		return fmt.Sprintf("%s %d", p.Protocol, p.From)
	}
	return fmt.Sprintf("%s %d-%d", p.Protocol, p.From, p.To)
}

func (r Rule) String() string {
	who := "anybody"
	switch {
	case r.Set != "":
		who = r.Set
	case len(r.Ranges) > 0:
		parts := make([]string, len(r.Ranges))
		for i, x := range r.Ranges {
			parts[i] = x.From.String() + "-" + x.To.String()
		}
		who = strings.Join(parts, ",")
	}
	return who + ": " + r.Port.String()
}
