package zone_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bareboat.dev/dns/internal/model"
	"bareboat.dev/dns/zone"
)

var testZone = zone.Zone{Domain: "cluster.local.", Nameservers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}

// cluster is the state that the tables below ask about.
func cluster() *model.Cluster {
	c := model.New("shop", "empty")
	c.AddService("shop", "web", "10.96.0.7", "fd00:96::7", "http/TCP/80", "dns/UDP/53", "/TCP/99")
	c.AddSlice("shop", "web", "http/TCP/8080", "10.244.0.5")
	c.AddService("shop", "db", "None", "pg/TCP/5432")
	c.AddSlice("shop", "db", "pg/TCP/5432", "10.244.0.6=db-0", "10.244.0.7=db-1", "10.244.0.8,notready", "10.244.0.9")
	c.AddSlice("shop", "db", "pg/TCP/5432", "fd00:10:244::6=db-0")
	c.AddService("shop", "none", "None", "x/TCP/1")
	c.AddExternal("shop", "out", "Example.ORG")
	c.AddExternal("shop", "in", "web.shop.svc.cluster.local")
	c.AddExternal("shop", "number", "192.0.2.1")
	return c
}

// ask prints the answer in a line: the code, records, "+" extra, "!" authority, ">" the name to go on with.
func ask(src zone.Source, name string, t uint16) string {
	a := testZone.Answer(src, zone.Question{Name: name, Type: t})
	if !a.Mine {
		return "elsewhere"
	}
	var parts []string
	section := func(prefix string, rrs []dns.RR) {
		for _, rr := range rrs {
			f := strings.Fields(rr.String())
			parts = append(parts, prefix+strings.Join(append(f[:1:1], f[3:]...), " "))
		}
	}
	section("", a.Records)
	section("+", a.Extra)
	for _, rr := range a.Authority {
		parts = append(parts, "!"+strings.Fields(rr.String())[3])
	}
	if a.Target != "" {
		parts = append(parts, ">"+a.Target)
	}
	return dns.RcodeToString[a.Code] + ": " + strings.Join(parts, ", ")
}

// The Kubernetes DNS specification, section by section, with the cases that it leaves to RFC 2308.
func TestSpecification(t *testing.T) {
	src := cluster()
	const noData, noName = "NOERROR: !SOA", "NXDOMAIN: !SOA"
	for _, c := range []struct{ name, qtype, want string }{
		// 2.2 version
		{"dns-version.cluster.local.", "TXT", `NOERROR: dns-version.cluster.local. TXT "1.1.0"`},
		{"dns-version.cluster.local.", "A", noData},
		// 2.3.1 services with a cluster address
		{"web.shop.svc.cluster.local.", "A", "NOERROR: web.shop.svc.cluster.local. A 10.96.0.7"},
		{"web.shop.svc.cluster.local.", "AAAA", "NOERROR: web.shop.svc.cluster.local. AAAA fd00:96::7"},
		{"web.shop.svc.cluster.local.", "MX", noData},
		{"WeB.shop.SVC.cluster.local.", "A", "NOERROR: WeB.shop.SVC.cluster.local. A 10.96.0.7"},
		{"_http._tcp.web.shop.svc.cluster.local.", "SRV",
			"NOERROR: _http._tcp.web.shop.svc.cluster.local. SRV 0 100 80 web.shop.svc.cluster.local., " +
				"+web.shop.svc.cluster.local. A 10.96.0.7, +web.shop.svc.cluster.local. AAAA fd00:96::7"},
		{"_dns._udp.web.shop.svc.cluster.local.", "SRV",
			"NOERROR: _dns._udp.web.shop.svc.cluster.local. SRV 0 100 53 web.shop.svc.cluster.local., " +
				"+web.shop.svc.cluster.local. A 10.96.0.7, +web.shop.svc.cluster.local. AAAA fd00:96::7"},
		{"_http._udp.web.shop.svc.cluster.local.", "SRV", noName},
		{"_http._tcp.web.shop.svc.cluster.local.", "A", noData},
		{"_tcp.web.shop.svc.cluster.local.", "SRV", noData},
		{"_sctp.web.shop.svc.cluster.local.", "SRV", noName},
		{"__._tcp.web.shop.svc.cluster.local.", "SRV", noName},
		{"7.0.96.10.in-addr.arpa.", "PTR", "NOERROR: 7.0.96.10.in-addr.arpa. PTR web.shop.svc.cluster.local."},
		{"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.", "PTR", "elsewhere"},
		{"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.", "PTR",
			"NOERROR: 7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa. PTR web.shop.svc.cluster.local."},
		{"7.0.96.10.in-addr.arpa.", "A", noData},
		{"9.9.9.9.in-addr.arpa.", "PTR", "elsewhere"},
		{"96.10.in-addr.arpa.", "PTR", "elsewhere"},
		{"5.0.244.10.in-addr.arpa.", "PTR", "NOERROR: 5.0.244.10.in-addr.arpa. PTR 10-244-0-5.web.shop.svc.cluster.local."},
		// 2.4.1 headless services
		{"db.shop.svc.cluster.local.", "A", "NOERROR: db.shop.svc.cluster.local. A 10.244.0.6, " +
			"db.shop.svc.cluster.local. A 10.244.0.7, db.shop.svc.cluster.local. A 10.244.0.9"},
		{"db.shop.svc.cluster.local.", "AAAA", "NOERROR: db.shop.svc.cluster.local. AAAA fd00:10:244::6"},
		{"db-0.db.shop.svc.cluster.local.", "A", "NOERROR: db-0.db.shop.svc.cluster.local. A 10.244.0.6"},
		{"db-0.db.shop.svc.cluster.local.", "AAAA", "NOERROR: db-0.db.shop.svc.cluster.local. AAAA fd00:10:244::6"},
		{"db-1.db.shop.svc.cluster.local.", "AAAA", noData},
		{"db-2.db.shop.svc.cluster.local.", "A", noName},
		{"10-244-0-9.db.shop.svc.cluster.local.", "A", "NOERROR: 10-244-0-9.db.shop.svc.cluster.local. A 10.244.0.9"},
		{"10-244-0-8.db.shop.svc.cluster.local.", "A", noName},
		{"_pg._tcp.db.shop.svc.cluster.local.", "SRV",
			"NOERROR: _pg._tcp.db.shop.svc.cluster.local. SRV 0 33 5432 db-0.db.shop.svc.cluster.local., " +
				"_pg._tcp.db.shop.svc.cluster.local. SRV 0 33 5432 db-1.db.shop.svc.cluster.local., " +
				"_pg._tcp.db.shop.svc.cluster.local. SRV 0 33 5432 10-244-0-9.db.shop.svc.cluster.local., " +
				"+db-0.db.shop.svc.cluster.local. A 10.244.0.6, +db-1.db.shop.svc.cluster.local. A 10.244.0.7, " +
				"+10-244-0-9.db.shop.svc.cluster.local. A 10.244.0.9, +db-0.db.shop.svc.cluster.local. AAAA fd00:10:244::6"},
		{"6.0.244.10.in-addr.arpa.", "PTR", "NOERROR: 6.0.244.10.in-addr.arpa. PTR db-0.db.shop.svc.cluster.local."},
		{"8.0.244.10.in-addr.arpa.", "PTR", "elsewhere"},
		{"none.shop.svc.cluster.local.", "A", noData},
		{"_x._tcp.none.shop.svc.cluster.local.", "SRV", noData},
		// 2.5 external names
		{"out.shop.svc.cluster.local.", "A", "NOERROR: out.shop.svc.cluster.local. CNAME example.org., >example.org."},
		{"out.shop.svc.cluster.local.", "CNAME", "NOERROR: out.shop.svc.cluster.local. CNAME example.org."},
		{"in.shop.svc.cluster.local.", "AAAA", "NOERROR: in.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local., >web.shop.svc.cluster.local."},
		{"number.shop.svc.cluster.local.", "A", noData},
		{"x.out.shop.svc.cluster.local.", "A", noName},
		// pods
		{"10-244-0-5.shop.pod.cluster.local.", "A", "NOERROR: 10-244-0-5.shop.pod.cluster.local. A 10.244.0.5"},
		{"10-244-0-5.shop.pod.cluster.local.", "AAAA", noData},
		{"fd00-10-244--6.shop.pod.cluster.local.", "AAAA", "NOERROR: fd00-10-244--6.shop.pod.cluster.local. AAAA fd00:10:244::6"},
		{"10-244-0-256.shop.pod.cluster.local.", "A", noName},
		{"web.shop.pod.cluster.local.", "A", noName},
		{"10-244-0-5.nowhere.pod.cluster.local.", "A", noName},
		{"x.10-244-0-5.shop.pod.cluster.local.", "A", noName},
		// names above names, and names that are not there
		{"cluster.local.", "A", noData},
		{"svc.cluster.local.", "A", noData},
		{"pod.cluster.local.", "A", noData},
		{"shop.svc.cluster.local.", "A", noData},
		{"empty.svc.cluster.local.", "A", noData},
		{"empty.pod.cluster.local.", "A", noData},
		{"nowhere.svc.cluster.local.", "A", noName},
		{"web.empty.svc.cluster.local.", "A", noName},
		{"www.example.org.shop.svc.cluster.local.", "A", noName},
		{"www.example.org.svc.cluster.local.", "A", noName},
		{"www.example.org.cluster.local.", "A", noName},
		{"a.b.c.d.web.shop.svc.cluster.local.", "A", noName},
		{"example.org.", "A", "elsewhere"},
		{"local.", "A", "elsewhere"},
		{"notcluster.local.", "A", "elsewhere"},
		// the zone itself
		{"cluster.local.", "NS", "NOERROR: cluster.local. NS ns.dns.cluster.local., +ns.dns.cluster.local. A 10.96.0.10"},
		{"ns.dns.cluster.local.", "A", "NOERROR: ns.dns.cluster.local. A 10.96.0.10"},
		{"cluster.local.", "SOA", "NOERROR: cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"},
	} {
		if got := ask(src, c.name, dns.StringToType[c.qtype]); got != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.name, c.qtype, got, c.want)
		}
	}
}

// A name has one existence: if it has records of any type, it is not denied for another type, nor is a name above it
// (RFC 8020). Checked over all names that can be made of the labels in use.
func TestExistenceDoesNotDependOnType(t *testing.T) {
	src := cluster()
	labels := []string{"web", "db", "none", "out", "shop", "empty", "svc", "pod", "db-0", "_http", "_tcp", "10-244-0-6", "x", "dns", "ns"}
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME}
	exists := func(name string) bool {
		codes := map[int]bool{}
		for _, qt := range types {
			codes[testZone.Answer(src, zone.Question{Name: name, Type: qt}).Code] = true
		}
		if len(codes) != 1 {
			t.Errorf("%s: codes %v, depending on the type", name, codes)
		}
		return codes[dns.RcodeSuccess]
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		name := "cluster.local."
		above := true
		for range rng.IntN(6) {
			name = labels[rng.IntN(len(labels))] + "." + name
			here := exists(name)
			if here && !above {
				t.Fatalf("%s exists, the name above it does not", name)
			}
			above = here
		}
	}
}

// Every address record of a service has a way back: the reverse name of each points to a name that has the address.
func TestReverseMatchesForward(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	c := model.New("ns")
	var addrs []netip.Addr
	for i := range 40 {
		name := fmt.Sprint("s", i)
		if rng.IntN(2) == 0 {
			a := fmt.Sprintf("10.96.%d.%d", rng.IntN(256), i)
			c.AddService("ns", name, a, "p/TCP/80")
			addrs = append(addrs, netip.MustParseAddr(a))
			continue
		}
		c.AddService("ns", name, "None", "p/TCP/80")
		for j := range rng.IntN(5) {
			a := fmt.Sprintf("10.244.%d.%d", i, j)
			if j%2 == 0 {
				a = fmt.Sprintf("fd00::%x:%x", i, j+1)
			}
			c.AddSlice("ns", name, "p/TCP/80", a+[]string{"", fmt.Sprint("=h", j)}[rng.IntN(2)])
			addrs = append(addrs, netip.MustParseAddr(a))
		}
	}
	for _, a := range addrs {
		rev, err := dns.ReverseAddr(a.String())
		if err != nil {
			t.Fatal(err)
		}
		back := testZone.Answer(c, zone.Question{Name: rev, Type: dns.TypePTR})
		if len(back.Records) == 0 {
			t.Fatalf("%s has no name", a)
		}
		for _, rr := range back.Records {
			qt := dns.TypeA
			if a.Is6() {
				qt = dns.TypeAAAA
			}
			there := testZone.Answer(c, zone.Question{Name: rr.(*dns.PTR).Ptr, Type: qt})
			if !slices.ContainsFunc(there.Records, func(rr dns.RR) bool { return strings.HasSuffix(rr.String(), a.String()) }) {
				t.Errorf("%s is %s, which is %v", a, rr.(*dns.PTR).Ptr, there.Records)
			}
		}
	}
}

// Whatever is asked, the answer packs, names what was asked, and nothing panics.
func FuzzAnswer(f *testing.F) {
	src := cluster()
	for _, s := range []string{"web.shop.svc.cluster.local.", "_http._tcp.web.shop.svc.cluster.local.", "7.0.96.10.in-addr.arpa.", ".", "a..b."} {
		f.Add(s, dns.TypeSRV)
	}
	f.Fuzz(func(t *testing.T, name string, qt uint16) {
		if _, ok := dns.IsDomainName(name); !ok || !dns.IsFqdn(name) {
			return
		}
		a := testZone.Answer(src, zone.Question{Name: name, Type: qt})
		if a.Mine && len(a.Records) == 0 && len(a.Authority) != 1 {
			t.Errorf("a negative answer without SOA: %+v", a)
		}
		for _, rr := range a.Records {
			if rr.Header().Name != name {
				t.Errorf("asked for %q, got %s", name, rr)
			}
		}
	})
}
