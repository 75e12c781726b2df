package network

import (
	"context"
	"errors"
)

// Network is the node's end of the pod network. See the package comment.
type Network struct{}

// Open makes the bridge, its addresses, forwarding and the masquerade rules, or finds them as they should be, and reads the allocations.
func Open(c Config) (*Network, error) { return nil, errors.ErrUnsupported }

// Setup connects a pod. If it fails, what it had made is taken away again.
func (n *Network) Setup(ctx context.Context, a Attachment) (Attached, error) {
	return Attached{}, errors.ErrUnsupported
}

// Teardown disconnects a pod and frees its addresses and ports. A pod without network is fine; so is one whose namespace is gone.
func (n *Network) Teardown(ctx context.Context, podUID string) error { return errors.ErrUnsupported }

// Get returns what Setup returned. [ErrNotFound].
func (n *Network) Get(podUID string) (Attached, error) { return Attached{}, errors.ErrUnsupported }

// List returns all pods that have addresses.
func (n *Network) List() []Attached { return nil }

// Retain tears down all pods but those that keep says: after a restart, for what was lost in between.
func (n *Network) Retain(ctx context.Context, keep func(podUID string) bool) error {
	return errors.ErrUnsupported
}

// Stats reads the counters of a pod's interface. [ErrNotFound].
func (n *Network) Stats(podUID string) (Stats, error) { return Stats{}, errors.ErrUnsupported }

// SyncRoutes makes the routes to other nodes' pods exactly these. A route whose gateway is not on a directly connected
// segment is an error, named in it; the others are set all the same.
func (n *Network) SyncRoutes(ctx context.Context, routes []Route) error { return errors.ErrUnsupported }

// Close frees what the process holds. The network stays as it is.
func (n *Network) Close() error { return nil }

// Cleanup removes everything that this package made on the node: interfaces, bridge, routes, rules, allocations. For the end of a node.
func Cleanup(ctx context.Context, c Config) error { return errors.ErrUnsupported }
