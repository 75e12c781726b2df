package nodelifecycle

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

// HealthInput is what Health decides from.
type HealthInput struct {
	Config Config
	Nodes  []*corev1.Node
	// Known are the nodes that there were at the decision before; none at the first.
	Known map[string]*corev1.Node
	// Seen is when each node last gave a sign of life, by this process's clock.
	Seen map[string]time.Time
	// Budgets are the zones' eviction budgets after the decision before.
	Budgets Budgets
}

// Health decides conditions and taints of all nodes, and returns the zones' budgets after it.
func Health(in HealthInput, now time.Time) (plan.Plan, Budgets) {
	var p plan.Plan
	nodes := slices.Clone(in.Nodes)
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	tellMembers(&p, nodes, in.Known)
	grace := graceFor(in, nodes, now)
	zones := survey(nodes)
	budgets := in.Budgets.refill(zones, in.Config, now)
	allDown := zones.allDown()
	for _, n := range nodes {
		if n.DeletionTimestamp != nil {
			continue
		}
		deadline := in.Seen[n.Name].Add(grace)
		if !now.Before(deadline) {
			if w, ok := silence(n, now); ok {
				p.Add(w)
				p.Event(n, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", n.Name)
				continue
			}
		} else if condition(n, corev1.NodeReady) == nil || condition(n, corev1.NodeReady).Status != corev1.ConditionUnknown {
			p.LookAgain(now, deadline)
		}
		taints := retaint(n, allDown, budgets, now)
		if wait := budgets.pending(n, taints, allDown); wait > 0 {
			p.LookAgain(now, now.Add(wait))
		}
		if !sameTaints(n.Spec.Taints, taints) {
			next := n.DeepCopy()
			next.Spec.Taints = taints
			p.Add(plan.Update(plan.Nodes, next))
		}
	}
	return p, budgets
}

// tellMembers tells of nodes that have come and gone, as upstream words it.
func tellMembers(p *plan.Plan, nodes []*corev1.Node, known map[string]*corev1.Node) {
	here := map[string]bool{}
	for _, n := range nodes {
		here[n.Name] = true
		if known[n.Name] == nil {
			p.Event(n, corev1.EventTypeNormal, "RegisteredNode", "Node %s event: Registered Node %s in Controller", n.Name, n.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !here[name] {
			p.Event(known[name], corev1.EventTypeNormal, "RemovingNode", "Node %s event: Removing Node %s from Controller", name, name)
		}
	}
}

// graceFor doubles the grace period while all of several nodes are silent at once.
func graceFor(in HealthInput, nodes []*corev1.Node, now time.Time) time.Duration {
	silent := 0
	for _, n := range nodes {
		if !now.Before(in.Seen[n.Name].Add(in.Config.Grace)) {
			silent++
		}
	}
	if len(nodes) > 1 && silent == len(nodes) {
		return 2 * in.Config.Grace
	}
	return in.Config.Grace
}

func condition(n *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// silence marks what the kubelet reports as unknown.
func silence(n *corev1.Node, now time.Time) (plan.Write, bool) {
	next := n.DeepCopy()
	changed := false
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		c := condition(next, t)
		switch {
		case c == nil:
			next.Status.Conditions = append(next.Status.Conditions, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: n.CreationTimestamp, LastTransitionTime: metav1.NewTime(now),
			})
			changed = true
		case c.Status != corev1.ConditionUnknown:
			c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			c.LastTransitionTime = metav1.NewTime(now)
			changed = true
		}
	}
	return plan.UpdateStatus(plan.Nodes, next), changed
}

// conditionTaints are the NoSchedule taints that conditions bring.
var conditionTaints = []struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	key       string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
}

// retaint returns the node's taints as they should be. Taints that are not this controller's are kept as they are; an
// evicting taint is added only if the zone's budget has a node left, and that node is then taken from it.
func retaint(n *corev1.Node, allDown bool, budgets Budgets, now time.Time) []corev1.Taint {
	schedule := map[string]bool{}
	for _, t := range conditionTaints {
		if c := condition(n, t.condition); c != nil && c.Status == t.status {
			schedule[t.key] = true
		}
	}
	if n.Spec.Unschedulable {
		schedule[corev1.TaintNodeUnschedulable] = true
	}
	execute := evictingKey(n)
	if allDown {
		execute = ""
	}
	evicting := slices.ContainsFunc(n.Spec.Taints, isEvicting)
	if execute != "" && !evicting && !budgets.take(zoneOf(n)) {
		execute = ""
	}
	var out []corev1.Taint
	for _, t := range n.Spec.Taints {
		switch {
		case t.Effect == corev1.TaintEffectNoSchedule && owned(t.Key):
			if !schedule[t.Key] {
				continue
			}
			delete(schedule, t.Key)
		case isEvicting(t):
			if t.Key != execute {
				continue
			}
			execute = ""
		}
		out = append(out, t)
	}
	for _, t := range conditionTaints {
		if schedule[t.key] {
			out = append(out, corev1.Taint{Key: t.key, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	if schedule[corev1.TaintNodeUnschedulable] {
		out = append(out, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	if execute != "" {
		at := metav1.NewTime(now)
		out = append(out, corev1.Taint{Key: execute, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at})
	}
	return out
}

// evictingKey is the NoExecute taint that the node's Ready condition calls for.
func evictingKey(n *corev1.Node) string {
	switch c := condition(n, corev1.NodeReady); {
	case c == nil:
		return ""
	case c.Status == corev1.ConditionFalse:
		return corev1.TaintNodeNotReady
	case c.Status == corev1.ConditionUnknown:
		return corev1.TaintNodeUnreachable
	}
	return ""
}

func isEvicting(t corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable)
}

// owned reports whether a NoSchedule taint of that key is this controller's.
func owned(key string) bool {
	return key == corev1.TaintNodeUnschedulable || slices.ContainsFunc(conditionTaints, func(t struct {
		condition corev1.NodeConditionType
		status    corev1.ConditionStatus
		key       string
	}) bool {
		return t.key == key
	})
}

func sameTaints(a, b []corev1.Taint) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Taint) bool { return x.Key == y.Key && x.Value == y.Value && x.Effect == y.Effect })
}
