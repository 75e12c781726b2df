package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/proxy/plan"
	"bareboat.dev/proxy/policy"
)

func ptr[T any](v T) *T { return &v }

func selector(kv ...string) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	for i := 0; i+1 < len(kv); i += 2 {
		if s.MatchLabels == nil {
			s.MatchLabels = map[string]string{}
		}
		s.MatchLabels[kv[i]] = kv[i+1]
	}
	return s
}

func pod(ns, name, node, ip string, port int32, kv ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: selector(kv...).MatchLabels}}
	p.Spec.NodeName = node
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: port}}}}
	p.Status.PodIP = ip
	return p
}

func namespace(name string, kv ...string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: selector(kv...).MatchLabels}}
}

// A policy with each kind of peer and port, as the rules that it becomes.
func TestBuild(t *testing.T) {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}}
	np.Spec = networkingv1.NetworkPolicySpec{
		PodSelector: *selector("app", "db"), PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From: []networkingv1.NetworkPolicyPeer{
				{PodSelector: selector("app", "web")},
				{NamespaceSelector: selector("team", "ops")},
				{IPBlock: &networkingv1.IPBlock{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.16/28"}}},
				{IPBlock: &networkingv1.IPBlock{CIDR: "2001:db8::/32"}},
			},
			Ports: []networkingv1.NetworkPolicyPort{{Port: ptr(intstr.FromString("web"))}, {Protocol: ptr(corev1.ProtocolUDP), Port: ptr(intstr.FromInt32(5000)), EndPort: ptr(int32(5010))}},
		}},
	}
	ended := pod("shop", "old", "n1", "10.244.0.9", 80, "app", "db")
	ended.Status.Phase = corev1.PodSucceeded
	host := pod("shop", "host", "n1", "192.0.2.1", 80, "app", "db")
	host.Spec.HostNetwork = true
	got := policy.Build(policy.Input{
		Policies: []*networkingv1.NetworkPolicy{np}, Node: "n1", Family: plan.IPv4,
		Namespaces: []*corev1.Namespace{namespace("shop"), namespace("ops", "team", "ops")},
		Pods: []*corev1.Pod{
			pod("shop", "db-0", "n1", "10.244.0.5", 5432, "app", "db"), pod("shop", "db-1", "n2", "10.244.1.5", 5432, "app", "db"),
			pod("shop", "web", "n2", "10.244.1.6", 80, "app", "web"), pod("ops", "probe", "n2", "10.244.1.7", 80), ended, host,
			pod("other", "web", "n1", "10.244.0.6", 80, "app", "web"),
		},
	}).String()
	for _, want := range []string{
		"ingress 10.244.0.5: in-", "egress 10.244.0.5: out-", ": [10.244.1.6]\n", ": [10.244.1.7]\n",
		"192.0.2.0-192.0.2.15,192.0.2.32-192.0.2.255: TCP 5432\n", "192.0.2.0-192.0.2.15,192.0.2.32-192.0.2.255: UDP 5000-5010\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "ingress "); n != 1 {
		t.Errorf("%d pods isolated, want one:\n%s", n, got)
	}
	if strings.Contains(got, "2001:db8") {
		t.Errorf("has the other family's addresses:\n%s", got)
	}
}

// allowed says what the rules do with a packet forwarded to or from the node's pods.
func allowed(r policy.Rules, src, dst netip.Addr, proto plan.Protocol, port uint16) bool {
	pass := func(chain string, isolated bool, peer netip.Addr) bool {
		if !isolated {
			return true
		}
		return slices.ContainsFunc(r.Chains[chain], func(rule policy.Rule) bool {
			p := rule.Port
			if p.Protocol != "" && p.Protocol != proto || p.To != 0 && (port < p.From || port > p.To) {
				return false
			}
			switch {
			case rule.Set != "":
				return slices.Contains(r.Sets[rule.Set], peer)
			case len(rule.Ranges) > 0:
				return slices.ContainsFunc(rule.Ranges, func(x policy.Range) bool { return !peer.Less(x.From) && !x.To.Less(peer) })
			}
			return true
		})
	}
	in, isIn := r.Ingress[dst]
	out, isOut := r.Egress[src]
	return pass(in, isIn, src) && pass(out, isOut, dst)
}

// world is a random cluster.
type world struct {
	policies   []*networkingv1.NetworkPolicy
	pods       []*corev1.Pod
	namespaces map[string]map[string]string
}

// oracle reads the API's definition word by word, for one packet.
func (w world) oracle(src, dst netip.Addr, proto corev1.Protocol, port int32) bool {
	find := func(a netip.Addr) *corev1.Pod {
		for _, p := range w.pods {
			if p.Status.PodIP == a.String() {
				return p
			}
		}
		return nil
	}
	from, to := find(src), find(dst)
	sel := func(s *metav1.LabelSelector, l map[string]string) bool {
		for k, v := range s.MatchLabels {
			if l[k] != v {
				return false
			}
		}
		return true
	}
	peer := func(np *networkingv1.NetworkPolicy, peers []networkingv1.NetworkPolicyPeer, p *corev1.Pod, a netip.Addr) bool {
		if len(peers) == 0 {
			return true
		}
		for _, x := range peers {
			if b := x.IPBlock; b != nil {
				in := netip.MustParsePrefix(b.CIDR).Contains(a)
				for _, e := range b.Except {
					in = in && !netip.MustParsePrefix(e).Contains(a)
				}
				if in {
					return true
				}
				continue
			}
			if p == nil {
				continue
			}
			ns := p.Namespace == np.Namespace
			if x.NamespaceSelector != nil {
				ns = sel(x.NamespaceSelector, w.namespaces[p.Namespace])
			}
			if ns && (x.PodSelector == nil || sel(x.PodSelector, p.Labels)) {
				return true
			}
		}
		return false
	}
	ports := func(ports []networkingv1.NetworkPolicyPort) bool {
		if len(ports) == 0 {
			return true
		}
		for _, x := range ports {
			want := corev1.ProtocolTCP
			if x.Protocol != nil {
				want = *x.Protocol
			}
			if want != proto {
				continue
			}
			switch {
			case x.Port == nil:
				return true
			case x.Port.Type == intstr.String:
				if to != nil && to.Spec.Containers[0].Ports[0].Name == x.Port.StrVal && to.Spec.Containers[0].Ports[0].ContainerPort == port && proto == "TCP" {
					return true
				}
			case x.EndPort != nil:
				if port >= x.Port.IntVal && port <= *x.EndPort {
					return true
				}
			case x.Port.IntVal == port:
				return true
			}
		}
		return false
	}
	side := func(p *corev1.Pod, t networkingv1.PolicyType, other *corev1.Pod, addr netip.Addr) bool {
		if p == nil || p.Spec.NodeName != "n1" {
			return true
		}
		isolated := false
		for _, np := range w.policies {
			if np.Namespace != p.Namespace || !slices.Contains(np.Spec.PolicyTypes, t) || !sel(&np.Spec.PodSelector, p.Labels) {
				continue
			}
			isolated = true
			for _, r := range np.Spec.Ingress {
				if t == networkingv1.PolicyTypeIngress && peer(np, r.From, other, addr) && ports(r.Ports) {
					return true
				}
			}
			for _, r := range np.Spec.Egress {
				if t == networkingv1.PolicyTypeEgress && peer(np, r.To, other, addr) && ports(r.Ports) {
					return true
				}
			}
		}
		return !isolated
	}
	return side(to, networkingv1.PolicyTypeIngress, from, src) && side(from, networkingv1.PolicyTypeEgress, to, dst)
}

func random(rng *rand.Rand) world {
	w := world{namespaces: map[string]map[string]string{"a": {"env": "x"}, "b": {"env": "y"}, "c": nil}}
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	for i := range 12 {
		w.pods = append(w.pods, pod(pick("a", "b", "c"), fmt.Sprint("p", i), pick("n1", "n2"), fmt.Sprintf("10.244.0.%d", i+1),
			int32(80+rng.IntN(3)), "app", pick("u", "v"), "tier", pick("1", "2")))
	}
	sel := func() *metav1.LabelSelector {
		if rng.IntN(3) == 0 {
			return selector()
		}
		return selector(pick("app", "tier"), pick("u", "v", "1", "2"))
	}
	peers := func() (out []networkingv1.NetworkPolicyPeer) {
		for range rng.IntN(3) {
			var p networkingv1.NetworkPolicyPeer
			switch rng.IntN(4) {
			case 0:
				p.PodSelector = sel()
			case 1:
				p.NamespaceSelector = selector("env", pick("x", "y"))
			case 2:
				p.NamespaceSelector, p.PodSelector = selector(), sel()
			case 3:
				p.IPBlock = &networkingv1.IPBlock{CIDR: pick("10.244.0.0/28", "0.0.0.0/0", "192.0.2.0/24")}
				if rng.IntN(2) == 0 {
					p.IPBlock.Except = []string{"10.244.0.4/30", "10.244.0.8/32"}[:1+rng.IntN(2)]
				}
			}
			out = append(out, p)
		}
		return out
	}
	ports := func() (out []networkingv1.NetworkPolicyPort) {
		for range rng.IntN(3) {
			p := networkingv1.NetworkPolicyPort{Protocol: ptr(corev1.Protocol(pick("TCP", "UDP")))}
			switch rng.IntN(4) {
			case 0:
				p.Port = ptr(intstr.FromString("web"))
			case 1:
				p.Port = ptr(intstr.FromInt32(int32(80 + rng.IntN(3))))
			case 2:
				p.Port, p.EndPort = ptr(intstr.FromInt32(80)), ptr(int32(80+rng.IntN(3)))
			}
			out = append(out, p)
		}
		return out
	}
	for i := range 1 + rng.IntN(4) {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: pick("a", "b", "c"), Name: fmt.Sprint("np", i)}}
		np.Spec.PodSelector = *sel()
		np.Spec.PolicyTypes = [][]networkingv1.PolicyType{{"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}[rng.IntN(3)]
		for range rng.IntN(3) {
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peers(), Ports: ports()})
			np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peers(), Ports: ports()})
		}
		w.policies = append(w.policies, np)
	}
	return w
}

// For random clusters and every packet between their pods and the outside, the rules decide as a reading of the API's
// definition does.
func TestAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for round := range 400 {
		w := random(rng)
		var nss []*corev1.Namespace
		for n, l := range w.namespaces {
			nss = append(nss, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n, Labels: l}})
		}
		rules := policy.Build(policy.Input{Policies: w.policies, Pods: w.pods, Namespaces: nss, Node: "n1", Family: plan.IPv4})
		addrs := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.1")}
		for _, p := range w.pods {
			addrs = append(addrs, netip.MustParseAddr(p.Status.PodIP))
		}
		for range 300 {
			src, dst := addrs[rng.IntN(len(addrs))], addrs[rng.IntN(len(addrs))]
			proto, port := []corev1.Protocol{"TCP", "UDP"}[rng.IntN(2)], uint16(79+rng.IntN(5))
			if got, want := allowed(rules, src, dst, proto, port), w.oracle(src, dst, proto, int32(port)); got != want {
				t.Fatalf("round %d: %s → %s %s %d: allowed %v, want %v\n%s", round, src, dst, proto, port, got, want, rules)
			}
		}
	}
}
