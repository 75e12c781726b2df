package zone

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// TTL is the lifetime of every record, in seconds, positive or negative. Services and endpoints change at any moment and
// the answer costs microseconds on the asking pod's own node, so remembering it for longer only makes it wrong.
const TTL = 5

// specVersion is the version of the specification that is implemented.
const specVersion = "1.1.0"

// Source is the state of the cluster. What it returns is shared and not modified.
type Source interface {
	Service(namespace, name string) (*corev1.Service, bool)
	// Slices are the endpoint slices of a service.
	Slices(namespace, service string) []*discoveryv1.EndpointSlice
	// ServicesAt are the services with that cluster address; SlicesAt the slices with an endpoint there.
	ServicesAt(netip.Addr) []*corev1.Service
	SlicesAt(netip.Addr) []*discoveryv1.EndpointSlice
	NamespaceExists(name string) bool
	// Serial grows with every change.
	Serial() uint32
}

// Zone is a cluster's domain.
type Zone struct {
	// Domain is fully qualified and in lower case: "cluster.local.".
	Domain string
	// Nameservers are the addresses of ns.dns.<zone>.
	Nameservers []netip.Addr
}

// Question is one question, of class IN. The name is fully qualified, in any case.
type Question struct {
	Name string
	Type uint16
}

// Answer is what the zone has to say.
type Answer struct {
	// Mine is false if the name is outside the zone; nothing else is set then.
	Mine bool
	// Code is a DNS response code.
	Code int
	// Records answer the question; Extra are addresses of the targets in Records; Authority is the SOA of a negative
	// answer.
	Records, Extra, Authority []dns.RR
	// Target is set if Records end in a CNAME whose records are elsewhere and were not asked for as such: the name to
	// continue with.
	Target string
}

// Answer answers a question. Owner names in the answer are spelled as in the question (some clients compare them).
func (z Zone) Answer(src Source, q Question) Answer {
	name := strings.ToLower(q.Name)
	if addr, ok := reverse(name); ok {
		return z.pointer(src, q, addr)
	}
	if !dns.IsSubDomain(z.Domain, name) {
		return Answer{}
	}
	b := builder{zone: z, src: src, q: q}
	exists := b.lookup(labelsBelow(name, z.Domain))
	a := Answer{Mine: true, Records: b.records, Extra: b.extra, Target: b.target}
	if len(a.Records) == 0 {
		a.Authority = []dns.RR{z.soa(src, z.Domain)}
		if !exists {
			a.Code = dns.RcodeNameError
		}
	}
	return a
}

// labelsBelow splits what name has in front of domain, the label next to the domain first.
func labelsBelow(name, domain string) []string {
	rest := strings.TrimSuffix(strings.TrimSuffix(name, domain), ".")
	if rest == "" {
		return nil
	}
	labels := dns.SplitDomainName(rest)
	for i, j := 0, len(labels)-1; i < j; i, j = i+1, j-1 {
		labels[i], labels[j] = labels[j], labels[i]
	}
	return labels
}

// soa is the zone's start of authority.
func (z Zone) soa(src Source, owner string) dns.RR {
	return &dns.SOA{
		Hdr: header(owner, dns.TypeSOA), Ns: "ns.dns." + z.Domain, Mbox: "hostmaster." + z.Domain,
		Serial: src.Serial(), Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: TTL,
	}
}

func header(owner string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: TTL}
}

// builder collects the answer to one question.
type builder struct {
	zone    Zone
	src     Source
	q       Question
	records []dns.RR
	extra   []dns.RR
	target  string
}

// lookup finds the labels below the zone (nearest first), adds the records of the asked type, and says whether the name
// exists.
func (b *builder) lookup(l []string) bool {
	switch {
	case len(l) == 0:
		b.apex()
		return true
	case l[0] == "svc":
		return b.services(l[1:])
	case l[0] == "pod":
		return b.pods(l[1:])
	case l[0] == "dns-version" && len(l) == 1:
		if b.asks(dns.TypeTXT) {
			b.add(&dns.TXT{Hdr: header(b.q.Name, dns.TypeTXT), Txt: []string{specVersion}})
		}
		return true
	case l[0] == "dns":
		if len(l) == 2 && l[1] == "ns" {
			b.addresses(b.zone.Nameservers)
		}
		return len(l) == 1 || len(l) == 2 && l[1] == "ns"
	}
	return false
}

func (b *builder) asks(t uint16) bool { return b.q.Type == t }

func (b *builder) add(rr dns.RR) { b.records = append(b.records, rr) }

func (b *builder) apex() {
	if b.asks(dns.TypeSOA) {
		b.add(b.zone.soa(b.src, b.q.Name))
	}
	if b.asks(dns.TypeNS) {
		ns := "ns.dns." + b.zone.Domain
		b.add(&dns.NS{Hdr: header(b.q.Name, dns.TypeNS), Ns: ns})
		for _, a := range b.zone.Nameservers {
			b.extra = append(b.extra, address(ns, a))
		}
	}
}

// addresses adds those addresses that the question's type asks for.
func (b *builder) addresses(addrs []netip.Addr) {
	for _, a := range addrs {
		if a.Is4() && b.asks(dns.TypeA) || !a.Is4() && b.asks(dns.TypeAAAA) {
			b.add(address(b.q.Name, a))
		}
	}
}

// address is an A or AAAA record.
func address(owner string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(owner, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: a.AsSlice()}
}

// pods answers names that spell an address: 10-244-0-7.<namespace>.pod.
func (b *builder) pods(l []string) bool {
	if len(l) == 0 {
		return true
	}
	if !b.src.NamespaceExists(l[0]) {
		return false
	}
	if len(l) == 1 {
		return true
	}
	a, ok := undash(l[1])
	if !ok || len(l) > 2 {
		return false
	}
	b.addresses([]netip.Addr{a})
	return true
}

// dash writes an address as a label: 10-244-0-7, fd00--7.
func dash(a netip.Addr) string {
	s := strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
	// A label must not begin or end with a dash: ::1 is 0--1, fd00:: is fd00--0.
	if strings.HasPrefix(s, "-") {
		s = "0" + s
	}
	if strings.HasSuffix(s, "-") {
		s += "0"
	}
	return s
}

// undash reads what dash writes, or any other spelling of an address with dashes.
func undash(label string) (netip.Addr, bool) {
	sep := ":"
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		sep = "."
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", sep))
	return a.Unmap(), err == nil && a.Zone() == ""
}
