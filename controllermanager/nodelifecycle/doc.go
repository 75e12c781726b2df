// Package nodelifecycle notices nodes that fell silent and moves work away from them, carefully.
//
// Three pure cores:
//
//   - Health turns heartbeats into node conditions and taints. A node that was silent for the grace period becomes Ready
//     Unknown; conditions become NoSchedule taints at once; a node that is not ready or unreachable gets a NoExecute taint, but
//     only as fast as its zone's budget allows, since that taint evicts.
//   - Evict deletes the pods that do not tolerate their node's NoExecute taints, each when its tolerationSeconds are over.
//   - Unready marks the pods of a silent node as not ready, so that services stop sending them requests.
//
// What is done to be wrong rarely. Silence is measured by this process's clock from the last change it saw in the node's Lease or
// status, never by comparing clocks. A leader starts with every node as just seen; so does one that was itself stopped for
// a while. If all nodes of the cluster fall silent at the same time, the fault is more likely ours: they get the grace
// period twice, and as long as none is ready, no node carries an evicting taint.
package nodelifecycle

import "time"

// Config holds the settings, with upstream's flags.
type Config struct {
	// Grace is --node-monitor-grace-period: how long a node may be silent.
	Grace time.Duration
	// EvictionRate and SecondaryRate are --node-eviction-rate and --secondary-node-eviction-rate, in nodes per second and
	// zone: in ordinary times, and in a zone that is partly disrupted.
	EvictionRate, SecondaryRate float64
	// LargeCluster is --large-cluster-size-threshold: in a partly disrupted zone of at most so many nodes none is evicted.
	LargeCluster int
	// Unhealthy is --unhealthy-zone-threshold: the part of a zone's nodes that makes it partly disrupted.
	Unhealthy float64
}

// DefaultConfig returns upstream's defaults.
func DefaultConfig() Config {
	return Config{Grace: 50 * time.Second, EvictionRate: 0.1, SecondaryRate: 0.01, LargeCluster: 50, Unhealthy: 0.55}
}
