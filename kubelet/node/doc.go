// Package node keeps the node's own objects: it registers the Node, reports its addresses, capacity, conditions and images,
// and renews its Lease.
//
// The Lease is the heartbeat. The Node's status is written when it has changed, and every few minutes so that its
// heartbeat times stay recent.
package node
