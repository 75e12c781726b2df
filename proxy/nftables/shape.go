package nftables

import (
	"fmt"
	"strings"

	"bareboat.dev/proxy/plan"
)

// kind is what a chain does before it picks an endpoint.
type kind uint8

const (
	// plain picks from the endpoint map, whoever asks.
	plain kind = iota
	// fromCluster marks traffic from outside the cluster for masquerading, then picks: cluster addresses.
	fromCluster
	// external marks all traffic, then picks: external addresses under policy Cluster.
	external
	// local serves the cluster's own traffic from the endpoint map and other traffic, unmarked, from the local one:
	// external addresses under policy Local.
	local
	// remember writes down which endpoint a client got.
	remember
)

var kindNames = [...]string{"plain", "cluster", "external", "local", "remember"}

// shape determines a shared chain completely.
type shape struct {
	nodePort bool // found by protocol and port alone
	guarded  bool // only for clients in the sources set
	kind     kind
	cluster  int   // endpoints in the endpoint map
	local    int   // in the local one; only for kind local
	sticky   int32 // session affinity: seconds for kind remember, else 1
}

func (s shape) String() string {
	var b strings.Builder
	if s.guarded {
		b.WriteString("fw-")
	}
	b.WriteString(map[bool]string{false: "ip-", true: "np-"}[s.nodePort])
	if s.kind == remember {
		fmt.Fprintf(&b, "remember-%d", s.sticky)
		return b.String()
	}
	fmt.Fprintf(&b, "%s-%d", kindNames[s.kind], s.cluster)
	if s.kind == local {
		fmt.Fprintf(&b, "-%d", s.local)
	}
	if s.sticky > 0 {
		b.WriteString("-sticky")
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
	s = shape{nodePort: f.Kind == plan.NodePort, cluster: len(p.Cluster), sticky: min(p.AffinitySeconds, 1)}
	switch {
	case !f.External() && f.LocalOnly:
		s.kind, s.cluster = plain, len(p.Local) // it has no other
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
