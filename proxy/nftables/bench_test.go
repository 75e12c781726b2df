package nftables_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/nftables"
	"bareboat.dev/proxy/plan"
)

// many makes a rule set of n services with two endpoints each.
func many(n int) *plan.Set {
	set := plan.NewSet(plan.IPv4)
	for i := range n {
		set.Put(one(i, 0))
	}
	return set
}

// one makes the i-th service; its first endpoint depends on version.
func one(i, version int) plan.Service {
	addr := func(net byte, n int) netip.Addr { return netip.AddrFrom4([4]byte{10, net, byte(n >> 8), byte(n)}) }
	key := fmt.Sprintf("default/s%d", i)
	return plan.Service{Key: key, Ports: []plan.Port{{
		Service: key, Name: "http", Protocol: "TCP",
		Cluster:   []netip.AddrPort{netip.AddrPortFrom(addr(100+byte(version), i), 8080), netip.AddrPortFrom(addr(200, i), 8080)},
		Frontends: []plan.Frontend{{Kind: plan.ClusterIP, Address: plan.Address{Addr: addr(96+byte(i>>16), i), Port: 80, Protocol: "TCP"}}},
	}}}
}

// What it takes to program 10,000 and 30,000 services at once; beside it, in turns, the nft tool loading the same elements
// into an equal table. Run: go test -run xxx -bench . -benchtime 2s ./nftables
func BenchmarkColdStart(b *testing.B) {
	for _, n := range []int{10_000, 30_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set := many(n)
			l := lab.New(b)
			var apply, load time.Duration
			file := ""
			for b.Loop() {
				l.Node.Do(func() {
					a, err := nftables.New(nftables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()})
					if err != nil {
						b.Error(err)
						return
					}
					defer a.Close()
					if err := a.Cleanup(b.Context()); err != nil {
						b.Error(err)
					}
					start := time.Now()
					if err := a.Apply(b.Context(), set, nil); err != nil {
						b.Error(err)
					}
					apply += time.Since(start)
				})
				if file == "" {
					file = dump(b, l)
				}
				l.Client.Do(func() {
					start := time.Now()
					if out, err := exec.Command("nft", "-f", file).CombinedOutput(); err != nil {
						b.Errorf("nft -f: %v: %.500s", err, out)
					}
					load += time.Since(start)
				})
				l.Client.Run("nft", "delete", "table", "ip", "t")
			}
			b.ReportMetric(float64(apply.Milliseconds())/float64(b.N), "apply-ms")
			b.ReportMetric(float64(load.Milliseconds())/float64(b.N), "nft-f-ms")
			b.ReportMetric(float64(apply)/float64(load), "ratio")
		})
	}
}

// dump writes what the node's table holds as a file for the nft tool.
func dump(b *testing.B, l *lab.Lab) string {
	body := func(name string) string {
		_, s, _ := strings.Cut(l.Node.Run("nft", "list", "map", "ip", "bareboat-proxy", name), "elements = {")
		s, _, _ = strings.Cut(s, "}")
		return s
	}
	var in bytes.Buffer
	in.WriteString("table ip t {\nchain ip-cluster-2 { }\n")
	fmt.Fprintf(&in, "map frontend { type ipv4_addr . inet_proto . inet_service : verdict; elements = { %s } }\n", body("frontend"))
	fmt.Fprintf(&in, "map endpoint { type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service; elements = { %s } }\n}\n", body("endpoint"))
	file := b.TempDir() + "/t.nft"
	if err := os.WriteFile(file, in.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	return file
}

// One endpoint moves, among many services.
func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{100, 10_000, 30_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set := many(n)
			l := lab.New(b)
			var a *nftables.Applier
			l.Node.Do(func() {
				var err error
				if a, err = nftables.New(nftables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()}); err != nil {
					b.Error(err)
					return
				}
				if err := a.Apply(b.Context(), set, nil); err != nil {
					b.Error(err)
				}
			})
			l.Node.Do(func() {
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

// The first packet of a connection: connect to a service among many, and close.
func BenchmarkConnect(b *testing.B) {
	for _, n := range []int{100, 10_000, 30_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := lab.New(b)
			l.Pod("web", 2).ServeTCP(":8080")
			pod := l.Pod("pod", 3)
			set := many(n)
			svc := one(n/2, 0)
			svc.Ports[0].Cluster = []netip.AddrPort{netip.MustParseAddrPort("10.244.0.2:8080")}
			set.Put(svc)
			l.Node.Do(func() {
				a, err := nftables.New(nftables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()})
				if err != nil {
					b.Error(err)
					return
				}
				if err := a.Apply(b.Context(), set, nil); err != nil {
					b.Error(err)
				}
			})
			addr := netip.AddrPortFrom(svc.Ports[0].Frontends[0].Addr, 80).String()
			var took []time.Duration
			pod.Do(func() {
				for b.Loop() {
					start := time.Now()
					c, err := net.Dial("tcp", addr)
					took = append(took, time.Since(start))
					if err != nil {
						b.Error(err)
						return
					}
					c.(*net.TCPConn).SetLinger(0)
					c.Close()
				}
			})
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
		})
	}
}
