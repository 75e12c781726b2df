package nodeipam

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

func pool(t *testing.T, cidr string, bits int) Pool {
	t.Helper()
	p, err := NewPool(cidr, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func put(w *plantest.World, name string, cidrs ...string) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if len(cidrs) > 0 {
		n.Spec.PodCIDR, n.Spec.PodCIDRs = cidrs[0], cidrs
	}
	plantest.Put(w, plan.Nodes, n)
}

func distinct(w *plantest.World) error {
	var seen []netip.Prefix
	for _, n := range plantest.List[*corev1.Node](w, plan.Nodes) {
		for _, c := range n.Spec.PodCIDRs {
			p := netip.MustParsePrefix(c)
			for _, q := range seen {
				if p.Overlaps(q) {
					return fmt.Errorf("%s of %s overlaps %s", p, n.Name, q)
				}
			}
			seen = append(seen, p)
		}
	}
	return nil
}

// Every node gets one range of each family, no two overlap, with ranges in use of all sizes respected, from a crash after any
// write too.
func TestAllocate(t *testing.T) {
	pools := []Pool{pool(t, "10.244.0.0/16", 24), pool(t, "fd00:10:244::/48", 64)}
	w := plantest.New()
	put(w, "old", "10.244.0.0/24", "fd00:10:244::/64")
	put(w, "wide", "10.244.2.0/23", "fd00:10:244:1::/64")
	put(w, "foreign", "192.168.0.0/24")
	for i := range 20 {
		put(w, fmt.Sprintf("n%02d", i))
	}
	next := []int{0, 0}
	story := plantest.Story{Writes: Controller(nil).Writes, Start: w, Invariant: distinct, Plans: func(w *plantest.World) map[string]plan.Plan {
		p, _ := Allocate(plantest.List[*corev1.Node](w, plan.Nodes), pools, next)
		return map[string]plan.Plan{"": p}
	}}
	end := story.Run(t)
	if got := plantest.Get[*corev1.Node](end, plan.Nodes, "", "n00").Spec.PodCIDRs; fmt.Sprint(got) != "[10.244.1.0/24 fd00:10:244:2::/64]" {
		t.Errorf("n00 has %v", got)
	}
	if got := plantest.Get[*corev1.Node](end, plan.Nodes, "", "n01").Spec.PodCIDR; got != "10.244.4.0/24" {
		t.Errorf("n01 has %v", got)
	}
	story.Crash(t)
}

// When the pool is empty the node is told, no range is given twice, and a deleted node's range can be had again.
func TestExhausted(t *testing.T) {
	pools := []Pool{pool(t, "10.0.0.0/30", 32)}
	w := plantest.New()
	for i := range 5 {
		put(w, fmt.Sprintf("n%d", i))
	}
	next := []int{0}
	step := func() (p plan.Plan) {
		p, next = Allocate(plantest.List[*corev1.Node](w, plan.Nodes), pools, next)
		for _, x := range p.Writes {
			if err := w.Apply(x); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	if p := step(); len(p.Writes) != 4 || len(p.Events) != 1 || p.Events[0].Reason != "CIDRNotAvailable" {
		t.Errorf("%d writes, events %v", len(p.Writes), p.Events)
	}
	w.Remove(plan.Nodes, "", "n2")
	step()
	if got := plantest.Get[*corev1.Node](w, plan.Nodes, "", "n4").Spec.PodCIDR; got != "10.0.0.2/32" {
		t.Errorf("n4 has %q", got)
	}
	if err := distinct(w); err != nil {
		t.Error(err)
	}
}

// Ranges and their numbers are inverse to each other in pools of all shapes.
func TestPoolIndex(t *testing.T) {
	for _, p := range []Pool{pool(t, "10.244.0.0/16", 24), pool(t, "0.0.0.0/0", 16), pool(t, "10.0.0.0/8", 28), pool(t, "fd00::/44", 64), pool(t, "fd00::/104", 120), pool(t, "2001:db8::/60", 70)} {
		for _, i := range []int{0, 1, p.size() / 2, p.size() - 1} {
			r := p.at(i)
			first, last, ok := p.index(r)
			if !ok || first != i || last != i || !p.Cluster.Contains(r.Addr()) || r.Masked() != r {
				t.Errorf("%v number %d is %v, which is %d to %d (%v)", p, i, r, first, last, ok)
			}
		}
	}
}

// Pools that cannot be are refused with a sentence.
func TestBadPools(t *testing.T) {
	for _, c := range []struct {
		cidr string
		bits int
	}{{"10.244.0.0", 24}, {"10.244.0.0/16", 8}, {"10.244.0.0/16", 33}, {"fd00::/16", 64}} {
		if _, err := NewPool(c.cidr, c.bits); err == nil {
			t.Errorf("%v is accepted", c)
		}
	}
}
