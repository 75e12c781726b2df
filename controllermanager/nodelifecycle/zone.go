package nodelifecycle

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// zone is a region and a zone, each empty if the node does not say.
type zone struct{ region, name string }

func zoneOf(n *corev1.Node) zone {
	return zone{n.Labels[corev1.LabelTopologyRegion], n.Labels[corev1.LabelTopologyZone]}
}

// census counts a zone's nodes.
type census struct{ ready, down int }

type zones map[zone]census

func survey(nodes []*corev1.Node) zones {
	out := zones{}
	for _, n := range nodes {
		z := zoneOf(n)
		c := out[z]
		if r := condition(n, corev1.NodeReady); r != nil && r.Status == corev1.ConditionTrue {
			c.ready++
		} else {
			c.down++
		}
		out[z] = c
	}
	return out
}

// allDown reports whether no node of the cluster is ready.
func (z zones) allDown() bool {
	for _, c := range z {
		if c.ready > 0 {
			return false
		}
	}
	return len(z) > 0
}

// rate is how many nodes per second may get an evicting taint.
func (c census) rate(cfg Config) float64 {
	total := c.ready + c.down
	partly := c.ready > 0 && c.down > 2 && float64(c.down)/float64(total) >= cfg.Unhealthy
	switch {
	case !partly:
		return cfg.EvictionRate
	case total > cfg.LargeCluster:
		return cfg.SecondaryRate
	}
	return 0
}

// Budget is what a zone may spend: it fills at the zone's rate up to one node.
type Budget struct {
	Nodes float64
	Rate  float64
	At    time.Time
}

// Budgets holds every zone's budget. The zero value is valid: a zone not seen before starts with one node.
type Budgets map[zone]*Budget

// refill returns copies of the budgets at the time now.
func (b Budgets) refill(zs zones, cfg Config, now time.Time) Budgets {
	out := Budgets{}
	for z := range maps.Keys(zs) {
		next := Budget{Nodes: 1, At: now}
		if have := b[z]; have != nil {
			next.Nodes = min(1, have.Nodes+have.Rate*now.Sub(have.At).Seconds())
		}
		next.Rate = zs[z].rate(cfg)
		out[z] = &next
	}
	return out
}

// take spends one node, if there is one and the zone is evicting at all.
func (b Budgets) take(z zone) bool {
	have := b[z]
	// A millionth of a node forgives what float arithmetic loses between two refills.
	if have == nil || have.Rate == 0 || have.Nodes < 1-1e-6 {
		return false
	}
	have.Nodes = 0
	return true
}

// pending returns how long until the node's zone can afford the taint that the node still lacks; 0 if it lacks none or
// only a change of the zone's state can help.
func (b Budgets) pending(n *corev1.Node, taints []corev1.Taint, allDown bool) time.Duration {
	have := b[zoneOf(n)]
	if allDown || evictingKey(n) == "" || have == nil || have.Rate == 0 || slices.ContainsFunc(taints, isEvicting) {
		return 0
	}
	return max(time.Millisecond, time.Duration((1-have.Nodes)/have.Rate*float64(time.Second)))
}
