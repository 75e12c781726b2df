// Package server speaks DNS over UDP and TCP: cluster names are answered from the zone, all others by the forwarder.
//
//	s := server.New(server.Config{Zone: z, Source: mirror, Ready: mirror.Synced, Forward: f, Metrics: m})
//	err := s.Serve(ctx, []netip.AddrPort{addr}) // until ctx ends
//
// # Contract
//
// Every socket is bound to a specific address, so that answers leave from the address that was asked. Exactly one question
// of class IN is answered; other classes, zone transfers and updates are refused, what cannot be parsed is answered with
// FORMERR or dropped as RFC 1035 and 6891 have it. Over UDP an answer fits what the client said it takes, or the 512 bytes
// of old, at most 1,232; what does not fit is cut and marked, and the client comes back over TCP. While the cluster's state
// is not known yet, cluster names get SERVFAIL, never a denial.
package server
