// Package iptables makes the kernel match a plan.Set with iptables rules, for either backend (legacy or nf_tables).
//
//	a, err := iptables.New(iptables.Config{Family: plan.IPv4, ClusterCIDRs: cidrs})
//	err = a.Apply(ctx, set, nil)     // everything
//	err = a.Apply(ctx, set, changed) // only these services differ since the last successful call
//	err = a.Cleanup(ctx)             // leave nothing behind
//
// # Contract
//
// Every chain starts with "BB-"; nothing else is ever changed but the jumps to them from the built-in chains. An Apply is one
// iptables-restore --noflush batch that names only the chains whose rules differ. The first Apply of a process compares
// with what iptables-save shows, so a restart writes what changed while it was away and nothing else: no chain is flushed
// that was right, and one that was not is replaced in the transaction that flushes it. After a failed Apply the state
// of the kernel counts as unknown and is read again by the next.
//
// # Shape
//
// A packet to a service address goes through BB-SERVICES, which knows one jump per /24 (IPv6: /120) in use, then the
// bucket chain of that prefix, then the service port's own chain: at 10,000 cluster addresses about 300 comparisons at
// worst instead of 10,000. One pool of endpoints is one chain of DNAT rules, each taken with probability 1/n of what is
// left; endpoints have chains of their own only under session affinity.
//
//	nat    PREROUTING, OUTPUT → BB-SERVICES → BB-VIP-<prefix> → BB-SVC-<hash> | BB-SVL-<hash> | BB-EXT-<hash> | BB-FW-<hash>
//	                                        → BB-NODEPORTS    → BB-EXT-<hash>
//	       POSTROUTING → BB-POSTROUTING → BB-HAIRPIN
//	filter INPUT, FORWARD, OUTPUT (new connections) → BB-FILTER → BB-VIP-<prefix>, BB-NODEPORTS: REJECT and DROP
//	       FORWARD → BB-FORWARD
//
// BB-SVC is a port's Cluster pool, BB-SVL its Local pool, BB-EXT the way in from outside, BB-FW the source ranges of a
// load balancer address. The filter rules see the original address only if the nat table did not take the packet.
//
// A cluster address that is also an address of this host (as the cluster DNS daemon's is) is never rejected for want of
// endpoints: the packet goes to whoever listens there.
package iptables
