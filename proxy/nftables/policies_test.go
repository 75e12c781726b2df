package nftables_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/nftables"
	"bareboat.dev/proxy/plan"
	"bareboat.dev/proxy/policy"
)

// policed is a lab whose pods are subject to policies.
type policed struct {
	*testing.T
	*lab.Lab
	family   plan.Family
	policies *nftables.Policies
	pods     []*corev1.Pod
}

func newPoliced(t *testing.T, family plan.Family) *policed {
	p := &policed{T: t, Lab: lab.New(t), family: family}
	p.restart()
	return p
}

// restart stands for a new process.
func (p *policed) restart() {
	p.Helper()
	p.Node.Do(func() {
		var err error
		if p.policies, err = nftables.NewPolicies(p.family, suite.ClusterCIDRs()); err != nil {
			p.Error(err)
		}
	})
}

func (p *policed) pod(h *lab.Host, ip, node, app string) {
	h.ServeTCP(":8080")
	h.ServeTCP(":9090")
	o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: h.Name, Labels: map[string]string{"app": app}}}
	o.Spec.NodeName, o.Status.PodIP = node, ip
	p.pods = append(p.pods, o)
}

func (p *policed) apply(policies ...*networkingv1.NetworkPolicy) {
	p.Helper()
	rules := policy.Build(policy.Input{Policies: policies, Pods: p.pods, Node: "node", Family: p.family})
	p.Node.Do(func() {
		if err := p.policies.Apply(p.Context(), rules); err != nil {
			p.Error(err)
		}
	})
}

func (p *policed) passes(from *lab.Host, addr string) {
	p.Helper()
	if _, err := from.AskTCP(addr); err != nil {
		p.Errorf("%s to %s: %v", from.Name, addr, err)
	}
}

func (p *policed) stopped(from *lab.Host, addr string) {
	p.Helper()
	if err := from.Silent("tcp", addr, 200*time.Millisecond); err != nil {
		p.Errorf("%s to %s: %v", from.Name, addr, err)
	}
}

func np(name string, types []networkingv1.PolicyType, edit func(*networkingv1.NetworkPolicySpec)) *networkingv1.NetworkPolicy {
	n := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	n.Spec.PodSelector.MatchLabels = map[string]string{"app": "db"}
	n.Spec.PolicyTypes = types
	if edit != nil {
		edit(&n.Spec)
	}
	return n
}

// Policies decide over forwarded packets: between pods of one node, of two nodes, and from outside; not over those between a
// pod and its node. They change without harm to open connections, and a new process takes over what the last one left.
func TestPolicies(t *testing.T) {
	p := newPoliced(t, plan.IPv4)
	db, web, far := p.Pod("db", 2), p.Pod("web", 3), p.RemotePod("far", 1)
	p.pod(db, "10.244.0.2", "node", "db")
	p.pod(web, "10.244.0.3", "node", "web")
	p.pod(far, "10.244.1.2", "other", "web")
	const at, admin = "10.244.0.2:8080", "10.244.0.2:9090"

	p.apply()
	open, err := p.Client.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, from := range []*lab.Host{web, far, p.Client, p.Node} {
		p.passes(from, at)
	}

	ingress := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	port := networkingv1.NetworkPolicyPort{Port: &intstr.IntOrString{IntVal: 8080}}
	allow := func(peers ...networkingv1.NetworkPolicyPeer) *networkingv1.NetworkPolicy {
		return np("allow", ingress, func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: []networkingv1.NetworkPolicyPort{port}}}
		})
	}
	p.apply(np("deny", ingress, nil))
	for _, from := range []*lab.Host{web, far, p.Client} {
		p.stopped(from, at)
	}
	p.passes(p.Node, at)
	p.passes(db, "10.244.0.3:8080")
	if _, err := lab.Ask(open); err != nil {
		t.Errorf("the open connection: %v", err)
	}

	pods := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}
	p.apply(np("deny", ingress, nil), allow(pods))
	p.passes(web, at)
	p.passes(far, at)
	p.stopped(web, admin)
	p.stopped(p.Client, at)

	block := networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "192.168.0.0/16", Except: []string{"192.168.60.0/24"}}}
	p.apply(allow(block))
	p.passes(p.Client, at)
	p.stopped(p.Outside("excepted", 60), at)
	p.stopped(web, at)

	// A process that starts over finds the same rules in force, also while it knows nothing yet.
	before := p.Node.Run("nft", "list", "table", "ip", "bareboat-policy")
	p.restart()
	p.Node.Do(func() {
		if err := p.policies.Hold(t.Context()); err != nil {
			t.Error(err)
		}
	})
	p.passes(p.Client, at)
	p.stopped(web, at)
	p.apply(allow(block))
	if after := p.Node.Run("nft", "list", "table", "ip", "bareboat-policy"); after != before {
		t.Errorf("after a restart:\n%s\nbefore:\n%s", after, before)
	}

	egress := np("out", []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, func(s *networkingv1.NetworkPolicySpec) {
		s.Egress = []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{pods}, Ports: []networkingv1.NetworkPolicyPort{port}}}
	})
	p.apply(egress)
	p.passes(db, "10.244.0.3:8080")
	p.passes(db, "10.244.1.2:8080")
	p.stopped(db, "10.244.1.2:9090")
	p.Client.ServeTCP(":8080")
	p.stopped(db, "192.168.50.2:8080")
	p.passes(p.Client, at)

	p.apply()
	p.passes(db, "192.168.50.2:8080")
	if text := p.Node.Run("nft", "list", "table", "ip", "bareboat-policy"); strings.Contains(text, "pods-") || strings.Contains(text, "chain out-") {
		t.Errorf("left in the table:\n%s", text)
	}
	p.Node.Do(func() {
		for range 2 {
			if err := p.policies.Cleanup(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	if tables := p.Node.Run("nft", "list", "tables"); strings.TrimSpace(tables) != "" {
		t.Errorf("left behind: %s", tables)
	}
}

// The same over IPv6: nobody, then one group, then everybody again.
func TestPoliciesIPv6(t *testing.T) {
	p := newPoliced(t, plan.IPv6)
	db, web := p.Pod("db", 2), p.Pod("web", 3)
	p.pod(db, "fd00:10:244::2", "node", "db")
	p.pod(web, "fd00:10:244::3", "node", "web")
	ingress := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	p.apply(np("deny", ingress, nil))
	p.passes(db, "[fd00:10:244::3]:8080") // needs the answer to its neighbour solicitation, which is no answer to conntrack
	p.stopped(web, "[fd00:10:244::2]:8080")
	p.stopped(p.Client, "[fd00:10:244::2]:8080")
	p.apply(np("allow", ingress, func(s *networkingv1.NetworkPolicySpec) {
		s.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}}}
	}))
	p.passes(web, "[fd00:10:244::2]:8080")
	p.stopped(p.Client, "[fd00:10:244::2]:8080")
	p.apply()
	p.passes(p.Client, "[fd00:10:244::2]:8080")
}

// Until the policies are known, nothing new is forwarded for pods; then what they allow is.
func TestHold(t *testing.T) {
	p := newPoliced(t, plan.IPv4)
	web, other := p.Pod("web", 3), p.Pod("other", 4)
	p.pod(web, netip.MustParseAddr("10.244.0.3").String(), "node", "web")
	for range 2 {
		p.Node.Do(func() {
			if err := p.policies.Hold(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	p.stopped(other, "10.244.0.3:8080")
	p.stopped(p.Client, "10.244.0.3:8080")
	p.passes(p.Node, "10.244.0.3:8080")
	p.apply()
	p.passes(other, "10.244.0.3:8080")
	p.passes(p.Client, "10.244.0.3:8080")
}
