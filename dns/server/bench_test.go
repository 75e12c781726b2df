package server_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"bareboat.dev/dns/server"
)

// One answer for a cluster name, without the network: for a cluster address, for 200 endpoints, and for a name that a search
// path made up.
func BenchmarkAnswer(b *testing.B) {
	s := start(b)
	for _, name := range []string{"web.shop.svc.cluster.local.", "big.shop.svc.cluster.local.", "www.example.org.shop.svc.cluster.local."} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			q := query(name, dns.TypeA, edns(1232))
			for b.Loop() {
				m, _ := s.Answer(b.Context(), q, true)
				if _, err := m.Pack(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A query and its answer over UDP on the loopback interface, one at a time: mostly the kernel's and the scheduler's time.
func BenchmarkUDP(b *testing.B) {
	s := start(b)
	l, err := server.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, []server.Listener{l}) }()
	defer func() { cancel(); <-done }()
	q, err := query("web.shop.svc.cluster.local.", dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	c, err := net.Dial("udp", l.UDP.LocalAddr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 1500)
	for b.Loop() {
		if _, err := c.Write(q); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
