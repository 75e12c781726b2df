package nftables

import (
	"fmt"
	"strings"

	"bareboat.dev/proxy/plan"
)

// kind is what a chain does before it picks an endpoint.
type kind uint8

const (
	// plain picks from the first pool, whoever asks.
	plain kind = iota
	// fromCluster marks traffic from outside the cluster for masquerading, then picks: cluster addresses.
	fromCluster
	// external marks all traffic, then picks: external addresses under policy Cluster.
	external
	// local serves the cluster's own traffic from the first pool and other traffic, unmarked, from the second: external
	// addresses under policy Local.
	local
)

var kindNames = [...]string{"plain", "cluster", "external", "local"}

// shape determines a shared chain completely.
type shape struct {
	nodePort bool // found by protocol and port alone
	guarded  bool // only for clients in the sources set
	kind     kind
	cluster  int // endpoints in the first pool
	local    int // in the second; only for kind local
	sticky   int32
}

func (s shape) String() string {
	var b strings.Builder
	if s.guarded {
		b.WriteString("fw-")
	}
	b.WriteString(map[bool]string{false: "ip-", true: "np-"}[s.nodePort])
	fmt.Fprintf(&b, "%s-%d", kindNames[s.kind], s.cluster)
	if s.kind == local {
		fmt.Fprintf(&b, "-%d", s.local)
	}
	if s.sticky > 0 {
		fmt.Fprintf(&b, "-sticky-%d", s.sticky)
	}
	return b.String()
}

// needs lists the shapes of the chains that this one's rules refer to.
func (s shape) needs() []shape {
	switch {
	case s.guarded:
		s.guarded = false
		return []shape{s}
	case s.kind == local && s.cluster > 0:
		s.kind, s.local = plain, 0
		return []shape{s}
	}
	return nil
}

// depth orders chains: one refers only to chains of less depth.
func (s shape) depth() int {
	d := 0
	for _, n := range s.needs() {
		d = max(d, n.depth()+1)
	}
	return d
}

// shapeOf is the chain for a frontend; ok is false if nobody serves it.
func shapeOf(p plan.Port, f plan.Frontend) (s shape, ok bool) {
	s = shape{nodePort: f.Kind == plan.NodePort, cluster: len(p.Cluster), sticky: p.AffinitySeconds}
	switch {
	case !f.External() && f.LocalOnly:
		s.kind, s.cluster = plain, len(p.Local) // its only pool is the local one
	case !f.External():
		s.kind = fromCluster
	case f.LocalOnly:
		s.kind, s.local = local, len(p.Local)
	default:
		s.kind = external
	}
	s.guarded = f.Restricted
	return s, s.cluster+s.local > 0
}
