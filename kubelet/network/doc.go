// Package network is the built-in pod network: one bridge, a veth pair per pod, addresses from the node's podCIDR.
//
// A pod's eth0 is one end of a veth pair whose other end is a port of the bridge [DefaultBridge]; the bridge has the first address of
// each of the node's pod ranges and is the pods' gateway. Traffic that leaves the cluster's pod range is masqueraded; host ports are
// redirected to the pod. Nodes reach each other's pods by routes ([Network.SyncRoutes]).
//
// The contract:
//
//   - An address belongs to one pod from before its interface exists until after it is gone, across crashes: allocations are files that
//     are written before and removed after.
//   - Setup and Teardown may be repeated after any failure. Setup of a pod that is set up returns what it has.
//   - Nodes on one segment are reached directly, others through VXLAN: see [Network.SyncRoutes].
//   - Only what carries bareboat's mark is ever changed or removed: interfaces by name prefix and alias, rules in chains named
//     BAREBOAT-*, routes by protocol number.
//   - Methods may be called from any number of goroutines.
//
// Example:
//
//	n, err := network.Open(network.Config{PodCIDRs: []netip.Prefix{cidr}, StateDir: "/var/lib/bareboat/network"})
//	attached, err := n.Setup(ctx, network.Attachment{PodUID: uid, NetNSPath: pod.NetNSPath()})
//	status.PodIP = attached.IPs[0].String()
package network
