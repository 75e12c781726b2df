package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/proxy/plan"
)

// pod is a pod that policies concern, with its address in the family.
type pod struct {
	*corev1.Pod
	addr netip.Addr
}

// builder holds what is looked up while rules are made.
type builder struct {
	in         Input
	pods       []pod
	namespaces map[string]labels.Set
	out        Rules
}

// Build makes the rules for the node.
func Build(in Input) Rules {
	b := &builder{in: in, namespaces: map[string]labels.Set{}, out: Rules{
		Ingress: map[netip.Addr]string{}, Egress: map[netip.Addr]string{}, Chains: map[string][]Rule{}, Sets: map[string][]netip.Addr{},
	}}
	for _, n := range in.Namespaces {
		b.namespaces[n.Name] = n.Labels
	}
	for _, p := range in.Pods {
		if addr, ok := address(p, in.Family); ok {
			b.pods = append(b.pods, pod{p, addr})
		}
	}
	policies := slices.SortedFunc(slices.Values(in.Policies), func(x, y *networkingv1.NetworkPolicy) int {
		return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name))
	})
	for _, p := range b.pods {
		if p.Spec.NodeName == in.Node {
			b.isolate(p, policies, networkingv1.PolicyTypeIngress, b.out.Ingress)
			b.isolate(p, policies, networkingv1.PolicyTypeEgress, b.out.Egress)
		}
	}
	return b.out
}

// address is the pod's address in a family, if policies concern the pod.
func address(p *corev1.Pod, f plan.Family) (netip.Addr, bool) {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return netip.Addr{}, false
	}
	ips := []string{p.Status.PodIP}
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil && plan.Of(a.Unmap()) == f {
			return a.Unmap(), true
		}
	}
	return netip.Addr{}, false
}

// isolate gives a pod its chain for a direction, if any policy isolates it.
func (b *builder) isolate(p pod, policies []*networkingv1.NetworkPolicy, t networkingv1.PolicyType, into map[netip.Addr]string) {
	isolated := false
	var rules []Rule
	for _, np := range policies {
		if np.Namespace != p.Namespace || !has(np, t) || !matches(&np.Spec.PodSelector, p.Labels) {
			continue
		}
		isolated = true
		if t == networkingv1.PolicyTypeIngress {
			for _, r := range np.Spec.Ingress {
				rules = append(rules, b.ingress(np.Namespace, r, p)...)
			}
			continue
		}
		for _, r := range np.Spec.Egress {
			rules = append(rules, b.egress(np.Namespace, r)...)
		}
	}
	if !isolated {
		return
	}
	// Two policies often say the same; the order does not matter.
	slices.SortFunc(rules, func(x, y Rule) int { return strings.Compare(x.String(), y.String()) })
	rules = slices.CompactFunc(rules, func(x, y Rule) bool { return x.String() == y.String() })
	name := map[networkingv1.PolicyType]string{networkingv1.PolicyTypeIngress: "in-", networkingv1.PolicyTypeEgress: "out-"}[t] + digest(fmt.Sprint(rules))
	b.out.Chains[name] = rules
	into[p.addr] = name
}

// has says whether a policy isolates for a direction.
func has(np *networkingv1.NetworkPolicy, t networkingv1.PolicyType) bool {
	if len(np.Spec.PolicyTypes) > 0 {
		return slices.Contains(np.Spec.PolicyTypes, t)
	}
	return t == networkingv1.PolicyTypeIngress || len(np.Spec.Egress) > 0
}

// matches evaluates a selector. One that cannot be read selects nothing: it cannot have passed validation.
func matches(s *metav1.LabelSelector, l map[string]string) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && sel.Matches(labels.Set(l))
}

func (b *builder) ingress(namespace string, r networkingv1.NetworkPolicyIngressRule, target pod) (out []Rule) {
	ports := []PortRange{{}}
	if len(r.Ports) > 0 {
		ports = nil
		for _, p := range r.Ports {
			ports = append(ports, numbers(p, target)...)
		}
	}
	for _, who := range b.peers(namespace, r.From, nil) {
		for _, port := range ports {
			who.Port = port
			out = append(out, who)
		}
	}
	return out
}

func (b *builder) egress(namespace string, r networkingv1.NetworkPolicyEgressRule) (out []Rule) {
	if len(r.Ports) == 0 {
		return b.peers(namespace, r.To, nil)
	}
	for _, p := range r.Ports {
		if p.Port == nil || p.Port.Type == intstr.Int {
			for _, port := range numbers(p, pod{}) {
				for _, who := range b.peers(namespace, r.To, nil) {
					who.Port = port
					out = append(out, who)
				}
			}
			continue
		}
		out = append(out, b.named(namespace, r.To, p)...)
	}
	return out
}

// named allows traffic to a named port: for each number that pods have it at, to the selected pods which have it there.
// Addresses that are no pods have no named ports.
func (b *builder) named(namespace string, to []networkingv1.NetworkPolicyPeer, p networkingv1.NetworkPolicyPort) (out []Rule) {
	found := map[PortRange]bool{}
	for _, dst := range b.pods {
		for _, n := range numbers(p, dst) {
			found[n] = true
		}
	}
	for port := range found {
		at := &servesAt{p, port}
		if len(to) == 0 {
			to = []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}} // any pod
		}
		for _, who := range b.peers(namespace, to, at) {
			if who.Set != "" {
				who.Port = port
				out = append(out, who)
			}
		}
	}
	return out
}

// servesAt narrows pods to those whose named port is that number.
type servesAt struct {
	port networkingv1.NetworkPolicyPort
	at   PortRange
}

// numbers are the port numbers that a policy's port means at a pod.
func numbers(p networkingv1.NetworkPolicyPort, at pod) []PortRange {
	proto := corev1.ProtocolTCP
	if p.Protocol != nil {
		proto = *p.Protocol
	}
	switch {
	case p.Port == nil:
		return []PortRange{{Protocol: proto}}
	case p.Port.Type == intstr.Int:
		r := PortRange{proto, uint16(p.Port.IntVal), uint16(p.Port.IntVal)}
		if p.EndPort != nil && *p.EndPort >= p.Port.IntVal {
			r.To = uint16(*p.EndPort)
		}
		return []PortRange{r}
	case at.Pod == nil:
		return nil
	}
	var out []PortRange
	// Sidecars are init containers; those that end before the pod serves have no ports that anybody could reach.
	for _, c := range slices.Concat(at.Spec.Containers, at.Spec.InitContainers) {
		for _, cp := range c.Ports {
			if cp.Name == p.Port.StrVal && (cp.Protocol == proto || cp.Protocol == "" && proto == corev1.ProtocolTCP) {
				out = append(out, PortRange{proto, uint16(cp.ContainerPort), uint16(cp.ContainerPort)})
			}
		}
	}
	return out
}

// peers makes one rule for each peer, for any port; without peers, one for anybody.
func (b *builder) peers(namespace string, peers []networkingv1.NetworkPolicyPeer, at *servesAt) (out []Rule) {
	if len(peers) == 0 {
		return []Rule{{}}
	}
	for _, p := range peers {
		if p.IPBlock != nil {
			if r := ranges(p.IPBlock, b.in.Family); len(r) > 0 {
				out = append(out, Rule{Ranges: r})
			}
			continue
		}
		out = append(out, Rule{Set: b.set(namespace, p, at)})
	}
	return out
}

// set makes the set of the pods that a peer selects, unless there is one already.
func (b *builder) set(namespace string, p networkingv1.NetworkPolicyPeer, at *servesAt) string {
	where := "namespace " + namespace
	if p.NamespaceSelector != nil {
		where = "namespaces " + metav1.FormatLabelSelector(p.NamespaceSelector)
	}
	what := where + " pods " + metav1.FormatLabelSelector(p.PodSelector)
	if at != nil {
		what += " serving " + at.port.Port.String() + " at " + at.at.String()
	}
	name := "pods-" + digest(what)
	if _, done := b.out.Sets[name]; done {
		return name
	}
	members := map[netip.Addr]bool{}
	for _, pod := range b.pods {
		switch {
		case p.NamespaceSelector == nil && pod.Namespace != namespace,
			p.NamespaceSelector != nil && !matches(p.NamespaceSelector, b.namespaces[pod.Namespace]),
			p.PodSelector != nil && !matches(p.PodSelector, pod.Labels),
			at != nil && !slices.Contains(numbers(at.port, pod), at.at):
			continue
		}
		members[pod.addr] = true
	}
	b.out.Sets[name] = slices.SortedFunc(maps.Keys(members), netip.Addr.Compare)
	return name
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:10])
}

// ranges are the addresses of a block without its exceptions.
func ranges(b *networkingv1.IPBlock, f plan.Family) []Range {
	p, err := netip.ParsePrefix(b.CIDR)
	if err != nil || plan.Of(p.Addr()) != f {
		return nil
	}
	out := []Range{bounds(p)}
	for _, e := range b.Except {
		x, err := netip.ParsePrefix(e)
		if err != nil || plan.Of(x.Addr()) != f {
			continue
		}
		hole := bounds(x)
		var next []Range
		for _, r := range out {
			if hole.To.Less(r.From) || r.To.Less(hole.From) {
				next = append(next, r)
				continue
			}
			if r.From.Less(hole.From) {
				next = append(next, Range{r.From, hole.From.Prev()})
			}
			if hole.To.Less(r.To) {
				next = append(next, Range{hole.To.Next(), r.To})
			}
		}
		out = next
	}
	return out
}

// bounds are the first and last address of a prefix.
func bounds(p netip.Prefix) Range {
	last := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	to, _ := netip.AddrFromSlice(last)
	return Range{p.Masked().Addr(), to}
}

// String prints the rules, sorted, pods first.
func (r Rules) String() string {
	var b strings.Builder
	for _, dir := range []struct {
		name string
		pods map[netip.Addr]string
	}{{"ingress", r.Ingress}, {"egress", r.Egress}} {
		for _, a := range slices.SortedFunc(maps.Keys(dir.pods), netip.Addr.Compare) {
			fmt.Fprintf(&b, "%s %s: %s\n", dir.name, a, dir.pods[a])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Chains)) {
		fmt.Fprintf(&b, "%s\n", name)
		for _, rule := range r.Chains[name] {
			fmt.Fprintf(&b, "  %s\n", rule)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Sets)) {
		fmt.Fprintf(&b, "%s: %v\n", name, r.Sets[name])
	}
	return b.String()
}
