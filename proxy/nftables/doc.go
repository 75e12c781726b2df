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
//	frontend             address . protocol . port           → verdict: goto a chain for its shape and number of endpoints
//	endpoint             address . protocol . port . number  → address . port
//	endpoint-local       the same for this node's endpoints, where traffic policies tell them apart
//	nodeport, nodeport-endpoint, nodeport-endpoint-local     the same three by protocol . port
//	sources              address . protocol . port . client  prefixes that may use a load balancer address
//	deny, deny-nodeport                                      → verdict: reject or drop what was not translated
//	hairpin              address . address                   endpoints of this node, to be masqueraded towards themselves
//	sticky               client . address . protocol . port  → address . port, written by the packets themselves
//	affinity, member and their nodeport- forms               which translated packets are written there
//
// The chain for, say, three endpoints behind a cluster address draws a number below three and looks up address . protocol .
// port . number; what comes out is the destination. Chain names tell the shape: "ip-cluster-3", "np-external-3-sticky",
// "fw-ip-local-3-1".
//
// Session affinity is remembered by a translated connection's first packet on its way through the filter hooks, where
// both what the client asked for and what it got are known. When an endpoint goes, clients that are stuck to it are
// forgotten.
//
// The rules use only what the nft tool can print: "nft list table ip bareboat-proxy" shows all of this.
package nftables
