package iptables_test

import (
	"fmt"
	"net/netip"
	"testing"

	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/iptables"
	"bareboat.dev/proxy/plan"
)

// one makes the i-th service, with two endpoints; the first depends on version.
func one(i, version int) plan.Service {
	addr := func(net byte, n int) netip.Addr { return netip.AddrFrom4([4]byte{10, net, byte(n >> 8), byte(n)}) }
	key := fmt.Sprintf("default/s%d", i)
	return plan.Service{Key: key, Ports: []plan.Port{{
		Service: key, Name: "http", Protocol: "TCP",
		Cluster:   []netip.AddrPort{netip.AddrPortFrom(addr(100+byte(version), i), 8080), netip.AddrPortFrom(addr(200, i), 8080)},
		Frontends: []plan.Frontend{{Kind: plan.ClusterIP, Address: plan.Address{Addr: addr(96, i), Port: 80, Protocol: "TCP"}}},
	}}}
}

// What it takes to program many services at once (the first op), and to move one endpoint among them (all others).
// Run: go test -run xxx -bench . -benchtime 20x ./iptables
func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := lab.New(b)
			set := plan.NewSet(plan.IPv4)
			for i := range n {
				set.Put(one(i, 0))
			}
			l.Node.Do(func() {
				a, err := iptables.New(iptables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()})
				if err != nil {
					b.Error(err)
					return
				}
				if err := a.Apply(b.Context(), set, nil); err != nil {
					b.Error(err)
				}
				version := 0
				for b.Loop() {
					version = 1 - version
					if err := a.Apply(b.Context(), set, set.Put(one(n/2, version))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
