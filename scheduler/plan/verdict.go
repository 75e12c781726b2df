package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Plugin is a set of kube-scheduler's filter plugins.
type Plugin uint32

// The plugins, in the order in which they filter: the first that rejects a node gives the reason.
const (
	NodeUnschedulable Plugin = 1 << iota
	TaintToleration
	NodeAffinity
	NodePorts
	NodeResourcesFit
	PodTopologySpread
	InterPodAffinity
)

// String lists the plugins by name.
func (p Plugin) String() string {
	var out []string
	for i, name := range []string{
		"NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity",
	} {
		if p&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}

// verdict is why a node was rejected.
type verdict struct {
	plugin  Plugin
	reasons []string
	// resolvable tells that removing pods from the node might help.
	resolvable bool
}

// verdictID numbers verdicts; feasible is none.
type verdictID int32

const feasible verdictID = 0

// verdictTable numbers verdicts, so that rankings can count them in arrays.
type verdictTable struct {
	list []verdict
	ids  map[string]verdictID
}

func newVerdictTable() *verdictTable {
	return &verdictTable{list: make([]verdict, 1), ids: map[string]verdictID{}}
}

func (t *verdictTable) id(v verdict) verdictID {
	key := fmt.Sprintf("%d %v %s", v.plugin, v.resolvable, strings.Join(v.reasons, "\x00"))
	id, ok := t.ids[key]
	if !ok {
		id = verdictID(len(t.list))
		t.list = append(t.list, v)
		t.ids[key] = id
	}
	return id
}

// Unschedulable explains why no node would do.
type Unschedulable struct {
	// Nodes is how many there are.
	Nodes int
	// Reasons counts nodes by reason; a node may have several.
	Reasons map[string]int
	// Plugins are those that rejected nodes.
	Plugins Plugin
	// Preemption says what came of looking for pods to preempt; empty if it was not tried.
	Preemption string
}

// String is the explanation in kube-scheduler's words.
func (u *Unschedulable) String() string {
	if u.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	text := fmt.Sprintf("0/%d nodes are available: %s.", u.Nodes, histogram(u.Reasons))
	if u.Preemption != "" {
		text += " preemption: " + u.Preemption
	}
	return text
}

// histogram joins "count reason" pairs in lexical order.
func histogram(reasons map[string]int) string {
	parts := make([]string, 0, len(reasons))
	for reason, n := range reasons {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// count adds n nodes with a verdict.
func (u *Unschedulable) count(v verdict, n int) {
	if n == 0 {
		return
	}
	u.Plugins |= v.plugin
	for _, reason := range v.reasons {
		u.Reasons[reason] += n
	}
}
