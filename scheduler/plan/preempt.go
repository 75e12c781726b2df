package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Budget is a PodDisruptionBudget as preemption sees it.
type Budget struct {
	Namespace string
	Selector  labels.Selector
	// Allowed is how many more of its pods may be disrupted now.
	Allowed int32
}

// Preemption is which pods to delete so that a pod can go to a node.
type Preemption struct {
	// Node to nominate; empty if preemption does not help.
	Node string
	// Victims are the pods to delete, the most important first.
	Victims []*corev1.Pod
	// Displaced are pods of lower priority that were nominated for the node and lose the room kept for them.
	Displaced []*corev1.Pod
	// Why explains an empty Node, for Unschedulable.Preemption.
	Why string
}

// maxCandidates bounds how many nodes are tried out for one pod: as many as kube-scheduler does at 1,000 nodes. They are taken
// from where the last search ended, so that every node has its turn.
const maxCandidates = 100

// Preempt looks for a node where deleting pods of lower priority makes room for a pod that Schedule has just refused. It deletes
// as few and as unimportant pods as it can: first those whose removal violates no budget. It changes nothing; call Nominate to
// keep the room. Reasons and choices are those of kube-scheduler's DefaultPreemption.
func (c *Cluster) Preempt(pod *corev1.Pod, budgets []Budget) Preemption {
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy == corev1.PreemptNever {
		return Preemption{Why: "not eligible due to preemptionPolicy=Never."}
	}
	if c.leavingRoom(pod) {
		return Preemption{Why: "not eligible due to a terminating pod on the nominated node."}
	}
	s, err := c.shapeOf(pod)
	if err != nil {
		return Preemption{Why: err.Error()}
	}
	hopeful, hopeless := c.resolvable(pod, s)
	var best *sacrifice
	alone := len(s.ports) == 0 && c.demands(pod) == nil
	for _, i := range c.rotate(hopeful) {
		var try trial = &wholeTrial{c, pod, s, i}
		if alone {
			try = newRoomTrial(s, &c.nodes[i])
		}
		if v := c.sacrificeOn(pod, i, budgets, try); v != nil && (best == nil || v.less(best)) {
			best = v
		}
	}
	if best == nil {
		return Preemption{Why: c.noPreemption(len(hopeful), hopeless)}
	}
	out := Preemption{Node: c.nodes[best.node].name}
	for _, p := range best.victims {
		if p.nominated {
			out.Displaced = append(out.Displaced, p.pod)
		} else {
			out.Victims = append(out.Victims, p.pod)
		}
	}
	return out
}

// Nominate keeps room for a pod on a node whose pods are being deleted for it: it counts there as if it were placed until it is
// scheduled, forgotten or nominated elsewhere.
func (c *Cluster) Nominate(pod *corev1.Pod, nodeName string) {
	if s, err := c.shapeOf(pod); err == nil {
		c.Forget(pod.UID)
		c.place(pod, s, c.slot(nodeName))
		c.pods[pod.UID].nominated = true
	}
}

// leavingRoom tells whether pods are already going for this one.
func (c *Cluster) leavingRoom(pod *corev1.Pod) bool {
	i, ok := c.byName[pod.Status.NominatedNodeName]
	if !ok || pod.Status.NominatedNodeName == "" {
		return false
	}
	for _, p := range c.nodes[i].pods {
		if p.pod.DeletionTimestamp != nil && priorityOf(p.pod) < priorityOf(pod) {
			return true
		}
	}
	return false
}

func (c *Cluster) noPreemption(hopeful, hopeless int) string {
	reasons := map[string]int{}
	if hopeful > 0 {
		reasons["No preemption victims found for incoming pod"] = hopeful
	}
	if hopeless > 0 {
		reasons["Preemption is not helpful for scheduling"] = hopeless
	}
	return fmt.Sprintf("0/%d nodes are available: %s.", c.live, histogram(reasons))
}

// resolvable lists the nodes whose verdict removing pods might change, and counts the others.
func (c *Cluster) resolvable(pod *corev1.Pod, s *shape) (nodes []int32, hopeless int) {
	k, r := c.demands(pod), c.ranking(s, partition{})
	if k != nil {
		k.countSpread(c, r)
	}
	for i := range r.entries {
		e := &r.entries[i]
		if !e.known {
			continue
		}
		v := e.verdict
		if v == feasible && k != nil {
			v = k.rejectNode(c, &c.nodes[i])
		} else if refused, _ := k.refused(); refused != "" {
			v = volumesRefused
		}
		if c.verdicts.list[v].resolvable {
			nodes = append(nodes, int32(i))
		} else {
			hopeless++
		}
	}
	return nodes, hopeless
}

// demands are a pod's constraints; one that cannot be parsed was refused before.
func (c *Cluster) demands(pod *corev1.Pod) *constraints {
	k, err := c.topology.constraintsOf(c, pod)
	if err != nil {
		return nil
	}
	return k
}

// rotate picks maxCandidates nodes, going on where it ended last time.
func (c *Cluster) rotate(nodes []int32) []int32 {
	if len(nodes) <= maxCandidates {
		return nodes
	}
	start, _ := slices.BinarySearch(nodes, c.nextCandidate)
	out := make([]int32, maxCandidates)
	for j := range out {
		out[j] = nodes[(start+j)%len(nodes)]
	}
	c.nextCandidate = out[maxCandidates-1] + 1
	return out
}

// sacrifice is what deleting pods from one node would cost.
type sacrifice struct {
	node       int32
	victims    []*placed
	violations int
}

// sacrificeOn finds the pods that must go from a node: all of lower priority go at first, then as many as fit come back, those
// that a budget protects before the others, the more important first. Nil if not even all of them make room.
func (c *Cluster) sacrificeOn(pod *corev1.Pod, i int32, budgets []Budget, try trial) *sacrifice {
	var lower []*placed
	for _, p := range c.nodes[i].pods {
		if priorityOf(p.pod) < priorityOf(pod) {
			lower = append(lower, p)
		}
	}
	if len(lower) == 0 {
		return nil
	}
	slices.SortFunc(lower, func(a, b *placed) int { return moreImportant(a.pod, b.pod) })
	protected := violating(lower, budgets)
	for _, p := range lower {
		try.takeOut(p)
	}
	if !try.takes() {
		for _, p := range lower {
			try.putBack(p)
		}
		return nil
	}
	out := &sacrifice{node: i}
	for _, first := range []bool{true, false} {
		for j, p := range lower {
			if protected[j] != first {
				continue
			}
			if try.putBack(p); !try.takes() {
				try.takeOut(p)
				out.victims = append(out.victims, p)
				if first {
					out.violations++
				}
			}
		}
	}
	for _, p := range out.victims {
		try.putBack(p)
	}
	slices.SortFunc(out.victims, func(a, b *placed) int { return moreImportant(a.pod, b.pod) })
	return out
}

// trial tries out what a node would take without some of its pods. Everything taken out is put back in the end.
type trial interface {
	takeOut(p *placed)
	putBack(p *placed)
	takes() bool
}

// roomTrial is for pods that ask for nothing but resources: sums are enough. It works on a node of its own that has the same sums,
// and counts pods by how many more it may have.
type roomTrial struct {
	shape *shape
	node  node
}

func newRoomTrial(s *shape, n *node) *roomTrial {
	return &roomTrial{s, node{allocatable: n.allocatable, used: slices.Clone(n.used), allowedPods: n.allowedPods - len(n.pods)}}
}

func (t *roomTrial) takeOut(p *placed) { t.node.account(p.shape, -1); t.node.allowedPods++ }
func (t *roomTrial) putBack(p *placed) { t.node.account(p.shape, 1); t.node.allowedPods-- }
func (t *roomTrial) takes() bool       { return t.shape.fits(&t.node) }

// wholeTrial changes the state itself, so that every rule is tried. The rankings are not told: they will find all as it was.
type wholeTrial struct {
	c     *Cluster
	pod   *corev1.Pod
	shape *shape
	node  int32
}

func (t *wholeTrial) takeOut(p *placed) {
	t.c.trying = true
	t.c.remove(p)
	t.c.trying = false
}

func (t *wholeTrial) putBack(p *placed) {
	t.c.trying = true
	t.c.insert(p)
	t.c.trying = false
}

// takes tells whether the node would take the pod as things are.
func (t *wholeTrial) takes() bool {
	c, s, n := t.c, t.shape, &t.c.nodes[t.node]
	if s.filterObject(c, n, s.matchesAffinity(n.obj)) != feasible || s.filterPods(c, n) != feasible {
		return false
	}
	k := c.demands(t.pod)
	if k == nil {
		return true
	}
	if len(k.hard) > 0 {
		k.countSpread(c, c.ranking(s, partition{}))
	}
	return k.rejectNode(c, n) == feasible
}

// violating marks the pods whose removal, one after another in this order, would overdraw a budget.
func violating(pods []*placed, budgets []Budget) []bool {
	allowed := make([]int32, len(budgets))
	for i := range budgets {
		allowed[i] = budgets[i].Allowed
	}
	out := make([]bool, len(pods))
	for j, p := range pods {
		for i, b := range budgets {
			if b.Namespace != p.pod.Namespace || b.Selector.Empty() || !b.Selector.Matches(labels.Set(p.pod.Labels)) {
				continue
			}
			if allowed[i]--; allowed[i] < 0 {
				out[j] = true
			}
		}
	}
	return out
}

// less tells which of two sacrifices is the smaller, by kube-scheduler's order: fewer violated budgets, then a less important most
// important victim, then a smaller sum of priorities, then fewer victims, then the one whose most important victims began later.
func (a *sacrifice) less(b *sacrifice) bool {
	return cmp.Or(
		cmp.Compare(a.violations, b.violations),
		cmp.Compare(a.highest(), b.highest()),
		cmp.Compare(a.sum(), b.sum()),
		cmp.Compare(len(a.victims), len(b.victims)),
		b.began().Compare(a.began()),
	) < 0
}

func (a *sacrifice) highest() int64 {
	if len(a.victims) == 0 {
		return -1 << 40
	}
	return int64(priorityOf(a.victims[0].pod))
}

// sum counts each victim above the least priority there is, so that more victims of negative priority are not taken for fewer.
func (a *sacrifice) sum() (sum int64) {
	for _, p := range a.victims {
		sum += int64(priorityOf(p.pod)) + 1<<31
	}
	return sum
}

// began is when the oldest of the most important victims began.
func (a *sacrifice) began() time.Time {
	var earliest time.Time
	for _, p := range a.victims {
		if int64(priorityOf(p.pod)) != a.highest() {
			continue
		}
		if t := startOf(p.pod); earliest.IsZero() || t.Before(earliest) {
			earliest = t
		}
	}
	return earliest
}

// moreImportant orders pods: higher priority first, then the longer running.
func moreImportant(a, b *corev1.Pod) int {
	return cmp.Or(cmp.Compare(priorityOf(b), priorityOf(a)), startOf(a).Compare(startOf(b)), cmp.Compare(a.UID, b.UID))
}

// startOf is when a pod began; one that has not counts as the youngest.
func startOf(pod *corev1.Pod) time.Time {
	if pod.Status.StartTime == nil {
		return time.Unix(1<<40, 0)
	}
	return pod.Status.StartTime.Time
}

func priorityOf(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}
