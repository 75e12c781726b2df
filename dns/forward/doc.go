// Package forward asks other name servers what this one does not know, and remembers the answers for as long as their
// owners allow.
//
//	f := forward.New(forward.Config{Upstreams: forward.FromResolvConf("/etc/resolv.conf"), Self: addrs})
//	reply, err := f.Resolve(ctx, query)
//
// # Contract
//
// Resolve returns a message of its own that the caller may modify. Identical questions under way at the same time are
// asked once. A server that does not answer within half a second is joined by the next one; one that failed is asked last
// for a while. Answers that do not repeat the question are discarded. Nothing stale is ever served. This host's own
// addresses are never asked, and a server that leads back here is noticed (see Loop) and not asked any more.
package forward
