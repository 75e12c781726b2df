package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Shows, over random histories, that no address is given to two pods, none outside of the range or reserved is given at all, every one is
// given before the pool says that it is empty, and the one given last does not come back at once.
func TestPool(t *testing.T) {
	for _, c := range []struct {
		prefix string
		usable int
	}{{"10.0.0.0/29", 5}, {"10.0.0.0/30", 1}, {"10.0.0.64/26", 61}, {"fd00::/124", 14}} {
		prefix := netip.MustParsePrefix(c.prefix)
		rng := rand.New(rand.NewPCG(1, uint64(c.usable)))
		p, owners := newPool(prefix), map[netip.Addr]string{}
		for step := range 2000 {
			if rng.IntN(2) == 0 {
				pod := fmt.Sprint("pod", step)
				addr, err := p.allocate(pod)
				if full := len(owners) == c.usable; full != errors.Is(err, ErrNoAddress) {
					t.Fatalf("%s: with %d of %d taken: %v", c.prefix, len(owners), c.usable, err)
				} else if full {
					continue
				}
				if owner, taken := owners[addr]; taken || !prefix.Contains(addr) || addr == prefix.Addr() || addr == gatewayOf(prefix) || addr == broadcast(prefix) {
					t.Fatalf("%s: gave %s, owner %q", c.prefix, addr, owner)
				}
				owners[addr] = pod
				continue
			}
			for addr, pod := range owners { // any
				p.release(addr, "someone else")
				p.release(addr, pod)
				delete(owners, addr)
				if newest := addr == p.last; newest && len(owners) < c.usable-1 {
					again, err := p.allocate("probe")
					if err != nil || again == addr {
						t.Fatalf("%s: %s came back at once, %v", c.prefix, addr, err)
					}
					p.release(again, "probe")
				}
				break
			}
		}
	}
}

// Shows that two pods' files with one address are an error rather than a surprise.
func TestPoolClaims(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.0.0.0/24"))
	addr := netip.MustParseAddr("10.0.0.9")
	if err := errors.Join(p.claim(addr, "a"), p.claim(addr, "a")); err != nil {
		t.Error(err)
	}
	if err := p.claim(addr, "b"); !errors.Is(err, ErrInvalid) {
		t.Errorf("claimed twice: %v", err)
	}
}

// Shows the rules of both families as text.
func TestRules(t *testing.T) {
	c := Config{
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00::/16")},
	}
	pods := []Attached{
		{PodUID: "b", IPs: []netip.Addr{netip.MustParseAddr("10.244.1.3"), netip.MustParseAddr("fd00:1::3")}, HostPorts: []HostPort{
			{Protocol: UDP, HostPort: 53, ContainerPort: 5353, HostIP: netip.MustParseAddr("192.0.2.1")},
			{Protocol: TCP, HostPort: 80, ContainerPort: 8080},
		}},
		{PodUID: "a", IPs: []netip.Addr{netip.MustParseAddr("10.244.1.2")}},
	}
	v4 := `*nat
:BAREBOAT-MASQ - [0:0]
:BAREBOAT-HOSTPORT - [0:0]
-A BAREBOAT-MASQ -s 10.244.1.3 -d 10.244.1.3 -j MASQUERADE
-A BAREBOAT-HOSTPORT -d 192.0.2.1 -p udp --dport 53 -j DNAT --to-destination 10.244.1.3:5353
-A BAREBOAT-HOSTPORT -p tcp --dport 80 -j DNAT --to-destination 10.244.1.3:8080
-A BAREBOAT-MASQ -s 10.244.1.0/24 -d 10.244.0.0/16 -j RETURN
-A BAREBOAT-MASQ -s 10.244.1.0/24 -d 224.0.0.0/4 -j RETURN
-A BAREBOAT-MASQ -s 10.244.1.0/24 -j MASQUERADE --random-fully
COMMIT
`
	v6 := `*nat
:BAREBOAT-MASQ - [0:0]
:BAREBOAT-HOSTPORT - [0:0]
-A BAREBOAT-MASQ -s fd00:1::3 -d fd00:1::3 -j MASQUERADE
-A BAREBOAT-HOSTPORT -p tcp --dport 80 -j DNAT --to-destination [fd00:1::3]:8080
-A BAREBOAT-MASQ -s fd00:1::/64 -d fd00::/16 -j RETURN
-A BAREBOAT-MASQ -s fd00:1::/64 -d ff00::/8 -j RETURN
-A BAREBOAT-MASQ -s fd00:1::/64 -j MASQUERADE --random-fully
COMMIT
`
	if got := natChains(&c, pods, false); got != v4 {
		t.Errorf("IPv4:\n%s", got)
	}
	if got := natChains(&c, pods, true); got != v6 {
		t.Errorf("IPv6:\n%s", got)
	}
	c.NoMasquerade = true
	if got, want := natChains(&c, nil, false), "*nat\n:BAREBOAT-MASQ - [0:0]\n:BAREBOAT-HOSTPORT - [0:0]\nCOMMIT\n"; got != want {
		t.Errorf("without masquerading:\n%s", got)
	}
}
