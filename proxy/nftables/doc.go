// Package nftables makes the kernel match a plan.Set with one nftables table, over netlink.
//
//	a, err := nftables.New(nftables.Config{Family: plan.IPv4, ClusterCIDRs: cidrs})
//	err = a.Apply(ctx, set, nil)     // everything
//	err = a.Apply(ctx, set, changed) // only these services differ since the last successful call
//	err = a.Cleanup(ctx)             // delete the table
//
// # Contract
//
// Everything is in the table "bareboat-proxy" of the family; nothing else is touched. An Apply is one transaction, in which
// only elements that differ are named. The first Apply of a process compares with the elements that the kernel lists; if
// the chains there were made by another version or with other settings, the whole table is replaced in one transaction.
//
// # Elements, not chains
//
// A service is a few elements of maps, an endpoint is one or two; chains are shared by all services of the same shape, so
// that neither adding a service nor finding it costs more when there are many:
//
//	frontend       address . protocol . port           → verdict: goto a chain for its shape and number of endpoints
//	frontend-pool  address . protocol . port           → cluster pool . local pool (64-bit names)
//	nodeport, nodeport-pool                            the same by protocol . port
//	endpoint       pool . number                       → address . port
//	member         pool . address . port               for session affinity: is the endpoint still there?
//	sticky         client . pool                       → address . port, written by the packets themselves
//	sources        address . protocol . port . client  prefixes that may use a load balancer address
//	deny, deny-nodeport                                → verdict: reject or drop what was not translated
//	hairpin        address . address                   endpoints of this node, to be masqueraded towards themselves
//
// The chain for, say, three endpoints behind a cluster address draws a number below three and looks up pool . number; what
// comes out is the destination. Chain names tell the shape: "ip-cluster-3", "np-external-3-sticky-10800",
// "fw-ip-local-3-1".
package nftables
