// Package plan decides what a node's packet filter has to do for Services.
//
// It is pure: services, endpoint slices and facts about this node go in, a plain value comes out that prints readably
// and compares with ==-like Equal methods. It has no clock, no I/O, no logging and no goroutines. The appliers
// (packages iptables and nftables) make the kernel match the value; they never look at an API object.
//
//	svc := plan.ForService(service, slices, node, plan.IPv4)   // one service, one family
//	set := plan.NewSet(plan.IPv4)
//	changed := set.Put(svc)                                    // keys whose rules may differ now
//	fmt.Print(set)
//
// # Words
//
// A Port is one port of a Service in one IP family. It has two pools of endpoints, Cluster and Local (the ones on this
// node), and Frontends: the addresses at which packets for it arrive. A Frontend says which pool serves it; a frontend
// whose pool is empty says whether to reject or to drop.
//
// # Decisions taken here
//
//   - Headless and ExternalName services, and those labelled service.kubernetes.io/service-proxy-name, have no rules.
//   - Endpoints that are ready serve. If a pool has none, endpoints that are terminating but still serving do
//     (KEP-1669), so that a rolling update of the last replica drops nothing.
//   - Topology hints (by node, then by zone) narrow the Cluster pool when every ready endpoint carries a hint of that
//     type and at least one names this node or zone; otherwise they are ignored (KEP-2433, KEP-3015, KEP-4444).
//   - An external address under externalTrafficPolicy Local still uses the Cluster pool for traffic that starts inside
//     the cluster: that traffic needs no source address preserved across nodes.
//   - Two services that claim one address, protocol and port (possible with load balancer and external addresses) are
//     resolved by Set: the service with the smaller key serves it, until it gives it up.
package plan
