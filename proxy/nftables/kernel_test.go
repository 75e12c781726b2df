package nftables_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/nftables"
	"bareboat.dev/proxy/plan"
)

func mk(family plan.Family, cluster []netip.Prefix) (suite.Applier, error) {
	return nftables.New(nftables.Config{Family: family, ClusterCIDRs: cluster})
}

// The nftables applier does with real packets what every applier must.
func TestKernel(t *testing.T) { suite.Run(t, mk) }

// A restarted applier finds every element of every shape as it would write it, and sends nothing; a table of other settings is
// replaced. The nft tool can print the table.
func TestRestartSendsNothing(t *testing.T) {
	for _, family := range []plan.Family{plan.IPv4, plan.IPv6} {
		w := suite.NewWorld(t, family, mk)
		for _, s := range suite.Shapes(family) {
			w.Set.Put(s)
		}
		w.Apply(nil)
		before := w.Node.Run("nft", "list", "ruleset")
		if !strings.Contains(before, "table "+map[plan.Family]string{plan.IPv4: "ip", plan.IPv6: "ip6"}[family]+" bareboat-proxy") {
			t.Fatalf("no table:\n%s", before)
		}
		w.Node.Do(func() {
			a, err := nftables.New(nftables.Config{Family: family, ClusterCIDRs: suite.ClusterCIDRs()})
			if err != nil {
				t.Error(err)
				return
			}
			add, del, chains, err := nftables.Pending(a, w.Set)
			if err != nil || add+del > 0 || chains == 0 {
				t.Errorf("%s: a restart would add %d, delete %d elements with %d chains known, %v", family, add, del, chains, err)
			}
			b, err := nftables.New(nftables.Config{Family: family})
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, chains, err := nftables.Pending(b, w.Set); err != nil || chains != 0 {
				t.Errorf("%s: chains of other settings are taken over: %d, %v", family, chains, err)
			}
			if err := b.Apply(t.Context(), w.Set, nil); err != nil {
				t.Errorf("replacing the table: %v", err)
			}
		})
	}
}

// Whatever order services come and go in, what the kernel holds in the end is what a fresh start would have written.
func TestHistoryFree(t *testing.T) {
	w := suite.NewWorld(t, plan.IPv4, mk)
	shapes := suite.Shapes(plan.IPv4)
	rng := rand.New(rand.NewPCG(9, 10))
	for range 60 {
		s := shapes[rng.IntN(len(shapes))]
		if rng.IntN(3) == 0 {
			w.Delete(s.Key)
			continue
		}
		// A variant: the endpoints of another service.
		o := shapes[rng.IntN(len(shapes))]
		ports := slices.Clone(s.Ports)
		for i := range ports {
			ports[i].Cluster, ports[i].Local = o.Ports[0].Cluster, o.Ports[0].Local
		}
		s.Ports = ports
		w.Apply(w.Set.Put(s))
	}
	w.Node.Do(func() {
		a, err := nftables.New(nftables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()})
		if err != nil {
			t.Error(err)
			return
		}
		if add, del, _, err := nftables.Pending(a, w.Set); err != nil || add+del > 0 {
			t.Errorf("a fresh start would add %d and delete %d elements, %v", add, del, err)
		}
	})
}
