package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"

	"bareboat.dev/dns/forward"
	"bareboat.dev/dns/zone"
)

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	reply, origin := s.Answer(ctx, query, udp)
	if s.cfg.Metrics != nil {
		s.cfg.Metrics.answered(w, query, reply, origin, time.Since(start))
	}
	if err := w.WriteMsg(reply); err != nil {
		s.cfg.Log.Debug("answer not sent", "client", w.RemoteAddr().String(), "error", err)
	}
}

// The origins of answers, which are labels of metrics: the names of the CoreDNS plugins that give such answers.
const (
	fromZone    = "kubernetes"
	fromForward = "forward"
	fromServer  = ""
)

// Answer makes the reply to any message that can be parsed. udp says that it must fit a datagram.
func (s *Server) Answer(ctx context.Context, query *dns.Msg, udp bool) (reply *dns.Msg, origin string) {
	reply, origin = s.resolve(ctx, query)
	reply.RecursionAvailable = s.cfg.Forward != nil
	reply.Compress = true
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
	}
	if opt := query.IsEdns0(); opt != nil {
		if udp {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDP)
		}
		out := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		out.SetUDPSize(maxUDP)
		if opt.Do() {
			out.SetDo()
		}
		// Codes beyond 15 keep their upper bits in the option record.
		out.SetExtendedRcode(uint16(reply.Rcode))
		reply.Extra = append(reply.Extra, out)
	}
	reply.Truncate(size)
	return reply, origin
}

// resolve decides by what was asked who answers.
func (s *Server) resolve(ctx context.Context, query *dns.Msg) (*dns.Msg, string) {
	fail := func(code int) (*dns.Msg, string) {
		m := new(dns.Msg)
		m.SetRcode(query, code)
		return m, fromServer
	}
	if len(query.Question) != 1 || query.Opcode != dns.OpcodeQuery || query.Response {
		return fail(dns.RcodeFormatError)
	}
	if opt := query.IsEdns0(); opt != nil && opt.Version() != 0 {
		return fail(dns.RcodeBadVers)
	}
	q := query.Question[0]
	if q.Qclass != dns.ClassINET {
		return fail(dns.RcodeRefused)
	}
	switch q.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB, dns.TypeTSIG, dns.TypeTKEY:
		return fail(dns.RcodeRefused)
	case dns.TypeOPT, dns.TypeNone:
		return fail(dns.RcodeFormatError)
	}
	if s.cfg.Forward != nil && s.cfg.Forward.Loop(q.Name) {
		return fail(dns.RcodeServerFailure)
	}
	inside := dns.IsSubDomain(s.cfg.Zone.Domain, strings.ToLower(q.Name))
	if !s.cfg.Ready() {
		if inside {
			return fail(dns.RcodeServerFailure)
		}
		return s.forward(ctx, query)
	}
	if q.Qtype == dns.TypeANY && inside {
		return s.minimal(query)
	}
	a := s.cfg.Zone.Answer(s.cfg.Source, zone.Question{Name: q.Name, Type: q.Qtype})
	if !a.Mine {
		return s.forward(ctx, query)
	}
	return s.fromZone(ctx, query, a), fromZone
}

// minimal answers ANY with as little as RFC 8482 allows: it is asked by nobody but those who abuse the answer's size.
func (s *Server) minimal(query *dns.Msg) (*dns.Msg, string) {
	m := new(dns.Msg)
	m.SetReply(query)
	m.Answer = []dns.RR{&dns.HINFO{
		Hdr: dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: zone.TTL}, Cpu: "RFC8482",
	}}
	return m, fromZone
}

// fromZone makes a reply of the zone's answer, following aliases wherever they lead.
func (s *Server) fromZone(ctx context.Context, query *dns.Msg, a zone.Answer) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(query, a.Code)
	m.Authoritative = true
	m.Answer, m.Extra, m.Ns = a.Records, a.Extra, a.Authority
	for i := 0; a.Target != ""; i++ {
		if i == maxAliases {
			m.Answer, m.Rcode = nil, dns.RcodeServerFailure
			return m
		}
		a = s.cfg.Zone.Answer(s.cfg.Source, zone.Question{Name: a.Target, Type: query.Question[0].Qtype})
		if !a.Mine {
			s.follow(ctx, query, m)
			break
		}
		m.Answer = append(m.Answer, a.Records...)
		m.Extra, m.Ns, m.Rcode = append(m.Extra, a.Extra...), a.Authority, a.Code
	}
	rotate(m.Answer)
	return m
}

// follow continues an alias outside the zone. Without an answer from there the client gets the alias alone, with the
// code that says that it is not all.
func (s *Server) follow(ctx context.Context, query, m *dns.Msg) {
	target := m.Answer[len(m.Answer)-1].(*dns.CNAME).Target
	if s.cfg.Forward == nil {
		return
	}
	sub := new(dns.Msg)
	sub.SetQuestion(target, query.Question[0].Qtype)
	sub.CheckingDisabled = query.CheckingDisabled
	if opt := query.IsEdns0(); opt != nil {
		sub.SetEdns0(maxUDP, opt.Do())
	}
	r, err := s.cfg.Forward.Resolve(ctx, sub)
	if err != nil {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	m.Answer = append(m.Answer, r.Answer...)
	m.Ns, m.Rcode, m.Authoritative = r.Ns, r.Rcode, false
}

// rotate puts addresses in a random order, so that clients which take the first spread over all.
func rotate(rrs []dns.RR) {
	first := 0
	for first < len(rrs) && rrs[first].Header().Rrtype == dns.TypeCNAME {
		first++
	}
	rest := rrs[first:]
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
}

func (s *Server) forward(ctx context.Context, query *dns.Msg) (*dns.Msg, string) {
	m := new(dns.Msg)
	if s.cfg.Forward == nil {
		m.SetRcode(query, dns.RcodeRefused)
		return m, fromServer
	}
	if !query.RecursionDesired {
		// We are no authority for the name, and to look it up is what the client did not want.
		m.SetRcode(query, dns.RcodeRefused)
		return m, fromServer
	}
	r, err := s.cfg.Forward.Resolve(ctx, query)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.cfg.Log.Debug("question not forwarded", "name", query.Question[0].Name, "error", err)
		}
		m.SetRcode(query, dns.RcodeServerFailure)
		if errors.Is(err, forward.ErrNoUpstream) {
			m.SetRcode(query, dns.RcodeRefused)
		}
		return m, fromForward
	}
	return r, fromForward
}
