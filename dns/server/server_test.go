package server_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"bareboat.dev/dns/forward"
	"bareboat.dev/dns/internal/model"
	"bareboat.dev/dns/server"
	"bareboat.dev/dns/zone"
)

func cluster() *model.Cluster {
	c := model.New("shop")
	c.AddService("shop", "web", "10.96.0.7", "http/TCP/80")
	c.AddService("shop", "big", "None", "x/TCP/1")
	var eps []string
	for i := range 200 {
		eps = append(eps, fmt.Sprintf("10.244.1.%d", i))
	}
	c.AddSlice("shop", "big", "x/TCP/1", eps...)
	c.AddExternal("shop", "out", "www.example.org")
	c.AddExternal("shop", "in", "web.shop.svc.cluster.local")
	c.AddExternal("shop", "loop", "loop.shop.svc.cluster.local")
	c.AddExternal("shop", "gone", "nothing.shop.svc.cluster.local")
	return c
}

// elsewhere is the rest of the world: www.example.org has an address, other names do not exist, broken.example fails.
func elsewhere(_ context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetReply(q)
	switch strings.ToLower(q.Question[0].Name) {
	case "www.example.org.":
		rr, err := dns.NewRR("www.example.org. 60 IN A 192.0.2.80")
		m.Answer = []dns.RR{rr}
		return m, err
	case "broken.example.":
		return nil, fmt.Errorf("no route")
	}
	soa, err := dns.NewRR("example. 600 IN SOA ns.example. root.example. 1 2 3 4 60")
	m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
	return m, err
}

func start(t testing.TB, edit ...func(*server.Config)) *server.Server {
	f := forward.New(forward.Config{
		Upstreams: forward.Fixed(netip.MustParseAddrPort("192.0.2.53:53")), Exchange: elsewhere,
	}, "nonce")
	t.Cleanup(f.Close)
	cfg := server.Config{
		Zone: zone.Zone{Domain: "cluster.local.", Nameservers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}, Source: cluster(),
		Ready: func() bool { return true }, Forward: f,
	}
	for _, e := range edit {
		e(&cfg)
	}
	return server.New(cfg)
}

func query(name string, t uint16, edit ...func(*dns.Msg)) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, t)
	for _, e := range edit {
		e(m)
	}
	return m
}

func edns(size uint16) func(*dns.Msg) { return func(m *dns.Msg) { m.SetEdns0(size, false) } }

// brief prints a reply: code (16 is BADVERS here, but the library knows it as BADSIG), flags, records.
func brief(m *dns.Msg) string {
	out := dns.RcodeToString[m.Rcode]
	for flag, on := range map[string]bool{" aa": m.Authoritative, " tc": m.Truncated} {
		if on {
			out += flag
		}
	}
	for _, rr := range m.Answer {
		out += " " + strings.Join(strings.Fields(rr.String())[3:], " ")
	}
	return out
}

// Who answers what, and with which code.
func TestAnswers(t *testing.T) {
	s := start(t)
	for name, c := range map[string]struct {
		q    *dns.Msg
		want string
	}{
		"cluster name":          {query("web.shop.svc.cluster.local.", dns.TypeA), "NOERROR aa A 10.96.0.7"},
		"absent cluster name":   {query("nothing.shop.svc.cluster.local.", dns.TypeA), "NXDOMAIN aa"},
		"other name":            {query("www.example.org.", dns.TypeA), "NOERROR A 192.0.2.80"},
		"absent other name":     {query("no.example.org.", dns.TypeA), "NXDOMAIN"},
		"search path":           {query("www.example.org.shop.svc.cluster.local.", dns.TypeA), "NXDOMAIN aa"},
		"server away":           {query("broken.example.", dns.TypeA), "SERVFAIL"},
		"alias inside":          {query("in.shop.svc.cluster.local.", dns.TypeA), "NOERROR aa CNAME web.shop.svc.cluster.local. A 10.96.0.7"},
		"alias outside":         {query("out.shop.svc.cluster.local.", dns.TypeA), "NOERROR CNAME www.example.org. A 192.0.2.80"},
		"alias of itself":       {query("loop.shop.svc.cluster.local.", dns.TypeA), "SERVFAIL aa"},
		"alias of nothing":      {query("gone.shop.svc.cluster.local.", dns.TypeA), "NXDOMAIN aa CNAME nothing.shop.svc.cluster.local."},
		"any":                   {query("web.shop.svc.cluster.local.", dns.TypeANY), `NOERROR HINFO "RFC8482" ""`},
		"zone transfer":         {query("cluster.local.", dns.TypeAXFR), "REFUSED"},
		"other class":           {query("web.shop.svc.cluster.local.", dns.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), "REFUSED"},
		"other version of EDNS": {query("web.shop.svc.cluster.local.", dns.TypeA, edns(1232), func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }), "BADSIG"},
		"two questions": {query("web.shop.svc.cluster.local.", dns.TypeA, func(m *dns.Msg) {
			m.Question = append(m.Question, m.Question[0])
		}), "FORMERR"},
		"no recursion wanted": {query("www.example.org.", dns.TypeA, func(m *dns.Msg) { m.RecursionDesired = false }), "REFUSED"},
	} {
		m, _ := s.Answer(t.Context(), c.q, true)
		if got := brief(m); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if m.Id != c.q.Id || !m.Response || !m.RecursionAvailable {
			t.Errorf("%s: header %+v", name, m.MsgHdr)
		}
		if _, err := m.Pack(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// While the cluster's state is not known, cluster names fail instead of being denied; others are answered.
func TestNotSynced(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Ready = func() bool { return false } })
	for name, want := range map[string]string{
		"web.shop.svc.cluster.local.": "SERVFAIL", "www.example.org.": "NOERROR A 192.0.2.80",
	} {
		if m, _ := s.Answer(t.Context(), query(name, dns.TypeA), true); brief(m) != want {
			t.Errorf("%s: %s", name, brief(m))
		}
	}
}

// An answer fits what the client takes: 512 bytes without EDNS, what it says up to 1,232 with, everything over TCP; what
// had to go is marked.
func TestSizes(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		edns      uint16
		udp       bool
		limit     int
		truncated bool
	}{{0, true, 512, true}, {100, true, 512, true}, {1000, true, 1000, true}, {65535, true, 1232, true}, {0, false, 65535, false}} {
		q := query("big.shop.svc.cluster.local.", dns.TypeA)
		if c.edns > 0 {
			q.SetEdns0(c.edns, true)
		}
		m, _ := s.Answer(t.Context(), q, c.udp)
		data, err := m.Pack()
		if err != nil || len(data) > c.limit || m.Truncated != c.truncated || len(m.Answer) == 0 {
			t.Errorf("%+v: %d bytes, %d records, truncated %v, %v", c, len(data), len(m.Answer), m.Truncated, err)
		}
		if opt := m.IsEdns0(); (opt != nil) != (c.edns > 0) || opt != nil && !opt.Do() {
			t.Errorf("%+v: option record %v", c, opt)
		}
	}
}

// No client can make time series: an unknown type is counted as "other".
func TestMetricsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := server.NewMetrics(reg, "cluster.local.")
	s := start(t, func(c *server.Config) { c.Metrics = m })
	for i := range 200 {
		s.ServeDNS(&sink{}, query(fmt.Sprintf("n%d.cluster.local.", i), uint16(1000+i)))
	}
	if n, err := testutil.GatherAndCount(reg, "coredns_dns_requests_total"); n != 1 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
}

// Whatever bytes arrive, what the handler does with them ends in a reply that packs, fits and belongs to the query.
func FuzzPacket(f *testing.F) {
	s := start(f)
	for _, q := range []*dns.Msg{
		query("web.shop.svc.cluster.local.", dns.TypeA), query("big.shop.svc.cluster.local.", dns.TypeA, edns(4096)),
		query("7.0.96.10.in-addr.arpa.", dns.TypePTR), query("www.example.org.", dns.TypeANY), query(".", dns.TypeNS),
		query("loop.shop.svc.cluster.local.", dns.TypeAAAA),
	} {
		data, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, udp bool) {
		q := new(dns.Msg)
		if q.Unpack(data) != nil {
			return
		}
		m, _ := s.Answer(t.Context(), q, udp)
		out, err := m.Pack()
		if err != nil {
			t.Fatalf("%v\nquery %s\nreply %s", err, q, m)
		}
		if m.Id != q.Id || !m.Response {
			t.Errorf("not a reply to the query: %+v", m.MsgHdr)
		}
		if udp && len(out) > 1232 && len(m.Question) <= 1 {
			t.Errorf("%d bytes over UDP", len(out))
		}
	})
}
