// Package zone answers questions about a cluster's names, as the Kubernetes DNS specification 1.1
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md) has them.
//
// It is pure: the state of the cluster is handed in through Source, answers are values. No sockets, clock, logging or
// randomness.
//
//	z := zone.Zone{Domain: "cluster.local.", Nameservers: []netip.Addr{dnsAddr}}
//	a := z.Answer(source, zone.Question{Name: "web.shop.svc.cluster.local.", Type: dns.TypeA})
//	// a.Code == dns.RcodeSuccess, a.Records: one A record
//
// # What exists
//
//	dns-version.<zone>                                TXT "1.1.0"
//	<service>.<ns>.svc.<zone>                         A, AAAA: the cluster addresses; of a headless service, its ready
//	                                                  endpoints; CNAME for ExternalName
//	_<port>._<protocol>.<service>.<ns>.svc.<zone>     SRV
//	<endpoint>.<service>.<ns>.svc.<zone>              A, AAAA; endpoint is the endpoint's hostname or its address with
//	                                                  dashes, as CoreDNS names it
//	<a-b-c-d>.<ns>.pod.<zone>                         A, AAAA: the address in the name
//	reverse names of cluster and endpoint addresses   PTR
//	<zone>                                            SOA, NS
//
// A name that exists, but not with the type that was asked for, or that has names below it, gets an empty success
// (NODATA); any other name in the zone gets NXDOMAIN. Both carry the zone's SOA, whose last field says how long the
// absence may be remembered (RFC 2308).
package zone
