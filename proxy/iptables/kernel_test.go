package iptables_test

import (
	"context"
	"net/netip"
	"testing"

	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/iptables"
	"bareboat.dev/proxy/plan"
)

func mk(family plan.Family, cluster []netip.Prefix) (suite.Applier, error) {
	return iptables.New(iptables.Config{Family: family, ClusterCIDRs: cluster})
}

// The iptables applier does with real packets what every applier must.
func TestKernel(t *testing.T) { suite.Run(t, mk) }

// What the applier writes is, to the letter, what iptables-save prints, for every shape of rule: so a restarted applier
// finds nothing to write. Shown by counting the commands a second applier's batch would contain.
func TestRestartWritesNothing(t *testing.T) {
	for _, family := range []plan.Family{plan.IPv4, plan.IPv6} {
		w := suite.NewWorld(t, family, mk)
		for _, s := range suite.Shapes(family) {
			w.Set.Put(s)
		}
		w.Apply(nil)
		w.Node.Do(func() {
			a, err := iptables.New(iptables.Config{Family: family, ClusterCIDRs: suite.ClusterCIDRs()})
			if err != nil {
				t.Fatal(err)
			}
			text, err := iptables.Pending(context.Background(), a, w.Set)
			if err != nil || text != "" {
				t.Errorf("%s: a restart would write %v:\n%s", family, err, text)
			}
		})
	}
}
