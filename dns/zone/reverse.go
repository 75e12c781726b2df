package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// reverse reads the address in a complete name below in-addr.arpa or ip6.arpa.
func reverse(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var text strings.Builder
	for i := len(rest) - 1; i >= 0; i -= 2 {
		text.WriteByte(rest[i])
		if i > 0 && rest[i-1] != '.' {
			return netip.Addr{}, false
		}
		if i > 0 && text.Len()%5 == 4 {
			text.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(text.String())
	return a, err == nil && a.Is6() && a.Zone() == ""
}

// pointer answers a reverse name: the service that has the address, or else the endpoints that do. An address of neither
// is not ours to deny.
func (z Zone) pointer(src Source, q Question, addr netip.Addr) Answer {
	var names []string
	for _, s := range src.ServicesAt(addr) {
		names = append(names, s.Name+"."+s.Namespace+".svc."+z.Domain)
	}
	if len(names) == 0 {
		for _, s := range src.SlicesAt(addr) {
			service := s.Labels[discoveryv1.LabelServiceName]
			if _, ok := src.Service(s.Namespace, service); !ok {
				continue
			}
			for i := range s.Endpoints {
				if a, name, ok := ready(&s.Endpoints[i]); ok && a == addr {
					names = append(names, name+"."+service+"."+s.Namespace+".svc."+z.Domain)
				}
			}
		}
	}
	if len(names) == 0 {
		return Answer{}
	}
	slices.Sort(names)
	out := Answer{Mine: true}
	if q.Type != dns.TypePTR {
		out.Authority = []dns.RR{z.soa(src, z.Domain)}
		return out
	}
	for _, n := range slices.Compact(names) {
		out.Records = append(out.Records, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: n})
	}
	return out
}
