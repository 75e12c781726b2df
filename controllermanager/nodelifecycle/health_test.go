package nodelifecycle

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// cluster is a world of nodes with the heartbeats that a monitor saw.
type cluster struct {
	w       *plantest.World
	seen    map[string]time.Time
	budgets Budgets
}

func nodes(n int, zones ...string) *cluster {
	c := &cluster{w: plantest.New(), seen: map[string]time.Time{}}
	for i := range n {
		name := fmt.Sprintf("n%03d", i)
		labels := map[string]string{}
		if len(zones) > 0 {
			labels[corev1.LabelTopologyZone] = zones[i%len(zones)]
		}
		plantest.Put(c.w, plan.Nodes, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
		})
		c.seen[name] = c.w.Now
	}
	return c
}

// run lets time pass second by second; alive nodes keep renewing and report themselves ready.
func (c *cluster) run(t *testing.T, d time.Duration, alive func(name string) bool) {
	t.Helper()
	for range int(d / time.Second) {
		c.w.Advance(time.Second)
		for _, n := range plantest.List[*corev1.Node](c.w, plan.Nodes) {
			if alive(n.Name) {
				c.seen[n.Name] = c.w.Now
				if n.Status.Conditions[0].Status != corev1.ConditionTrue {
					next := n.DeepCopy()
					next.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
					plantest.Put(c.w, plan.Nodes, next)
				}
			}
		}
		c.step(t)
	}
}

func (c *cluster) step(t *testing.T) plan.Plan {
	t.Helper()
	p, budgets := Health(HealthInput{Config: DefaultConfig(), Nodes: plantest.List[*corev1.Node](c.w, plan.Nodes), Seen: c.seen, Budgets: c.budgets}, c.w.Now)
	c.budgets = budgets
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	for _, x := range p.Writes {
		if err := c.w.Apply(x); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (c *cluster) evicting() int {
	n := 0
	for _, node := range plantest.List[*corev1.Node](c.w, plan.Nodes) {
		if slices.ContainsFunc(node.Spec.Taints, isEvicting) {
			n++
		}
	}
	return n
}

func (c *cluster) unknown() int {
	n := 0
	for _, node := range plantest.List[*corev1.Node](c.w, plan.Nodes) {
		if condition(node, corev1.NodeReady).Status == corev1.ConditionUnknown {
			n++
		}
	}
	return n
}

func all(string) bool  { return true }
func none(string) bool { return false }
func except(names ...string) func(string) bool {
	return func(name string) bool { return !slices.Contains(names, name) }
}

// A node that falls silent becomes unknown after the grace period, not before, is tainted, and recovers entirely.
func TestSilentNode(t *testing.T) {
	c := nodes(4)
	c.run(t, 49*time.Second, except("n001"))
	if c.unknown() != 0 {
		t.Error("unknown before the grace period is over")
	}
	c.run(t, 5*time.Second, except("n001"))
	n := plantest.Get[*corev1.Node](c.w, plan.Nodes, "", "n001")
	ready := condition(n, corev1.NodeReady)
	if ready.Status != corev1.ConditionUnknown || ready.Reason != "NodeStatusUnknown" || condition(n, corev1.NodeMemoryPressure) == nil {
		t.Errorf("conditions %+v", n.Status.Conditions)
	}
	var taints []string
	for _, taint := range n.Spec.Taints {
		taints = append(taints, taint.Key+":"+string(taint.Effect))
	}
	if !slices.Equal(taints, []string{"node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"}) {
		t.Errorf("taints %v", taints)
	}
	c.run(t, 5*time.Second, all)
	if n := plantest.Get[*corev1.Node](c.w, plan.Nodes, "", "n001"); len(n.Spec.Taints) != 0 {
		t.Errorf("taints stay: %v", n.Spec.Taints)
	}
}

// While nothing changes nothing is written, and the next look is when the first node's grace is over.
func TestQuiet(t *testing.T) {
	c := nodes(3)
	c.seen["n002"] = c.w.Now.Add(-20 * time.Second)
	if p := c.step(t); !p.Empty() || p.After != 30*time.Second {
		t.Errorf("%d writes, looks again after %v; want none, 30s", len(p.Writes), p.After)
	}
}

// When all nodes stall for a minute, as when the store does, none is even marked unknown; when they stay silent, all become
// unknown but none is evicted.
func TestEverythingStalls(t *testing.T) {
	c := nodes(6, "a", "b")
	c.run(t, 60*time.Second, none)
	if c.unknown() != 0 || c.evicting() != 0 {
		t.Errorf("after 60s: %d unknown, %d evicting; want none", c.unknown(), c.evicting())
	}
	c.run(t, 10*time.Second, all)
	c.run(t, 10*time.Minute, none)
	if c.unknown() != 6 || c.evicting() != 0 {
		t.Errorf("after 10 minutes: %d unknown, %d evicting; want 6, 0", c.unknown(), c.evicting())
	}
}

// One node of a single-node cluster that falls silent is unknown after the grace period and never evicted.
func TestSingleNode(t *testing.T) {
	c := nodes(1)
	c.run(t, 10*time.Minute, none)
	if c.unknown() != 1 || c.evicting() != 0 {
		t.Errorf("%d unknown, %d evicting; want 1, 0", c.unknown(), c.evicting())
	}
}

// Nodes that fail one after another get their evicting taints at the zone's rate: one at once, then one in ten seconds.
func TestEvictionRate(t *testing.T) {
	c := nodes(20)
	dead := []string{"n001", "n002", "n003", "n004"}
	c.run(t, 52*time.Second, except(dead...))
	if got := c.evicting(); got != 1 {
		t.Errorf("%d evicting at once, want 1", got)
	}
	c.run(t, 9*time.Second, except(dead...))
	if got := c.evicting(); got != 2 {
		t.Errorf("%d evicting after 10 s, want 2", got)
	}
	c.run(t, 25*time.Second, except(dead...))
	if got := c.evicting(); got != 4 {
		t.Errorf("%d evicting after 35 s, want 4", got)
	}
}

// In a small zone most of whose nodes failed nothing is evicted; a zone that failed entirely is evicted as long as another
// works; a large one slowly.
func TestDisruptedZones(t *testing.T) {
	c := nodes(10)
	c.run(t, 5*time.Minute, func(name string) bool { return name < "n004" })
	if c.evicting() != 0 {
		t.Errorf("small, partly disrupted: %d evicting, want 0", c.evicting())
	}
	c = nodes(8, "a", "b")
	c.run(t, 5*time.Minute, func(name string) bool { return name[3] != '0' && name[3] != '2' && name[3] != '4' && name[3] != '6' })
	if c.evicting() != 4 {
		t.Errorf("zone a down: %d evicting, want 4", c.evicting())
	}
	c = nodes(100)
	c.run(t, 50*time.Second+250*time.Second, func(name string) bool { return name < "n040" })
	if got := c.evicting(); got < 2 || got > 4 {
		t.Errorf("large, partly disrupted: %d evicting in 250 s, want about 3", got)
	}
}

// Conditions and spec.unschedulable become NoSchedule taints; taints of others stay.
func TestConditionTaints(t *testing.T) {
	c := nodes(1)
	n := plantest.Get[*corev1.Node](c.w, plan.Nodes, "", "n000").DeepCopy()
	n.Spec.Unschedulable = true
	n.Spec.Taints = []corev1.Taint{{Key: "mine", Effect: corev1.TaintEffectNoExecute}, {Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}
	n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue})
	plantest.Put(c.w, plan.Nodes, n)
	c.step(t)
	var got []string
	for _, taint := range plantest.Get[*corev1.Node](c.w, plan.Nodes, "", "n000").Spec.Taints {
		got = append(got, taint.Key)
	}
	if !slices.Equal(got, []string{"mine", corev1.TaintNodeDiskPressure, corev1.TaintNodeUnschedulable}) {
		t.Errorf("taints %v", got)
	}
}

// A node that comes and one that goes are told of once each, in upstream's words.
func TestMembersAreTold(t *testing.T) {
	node := func(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	in := HealthInput{
		Config: DefaultConfig(), Nodes: []*corev1.Node{node("old"), node("new")}, Known: map[string]*corev1.Node{"old": node("old"), "gone": node("gone")},
		Seen: map[string]time.Time{"old": at, "new": at},
	}
	p, _ := Health(in, at)
	var told []string
	for _, e := range p.Events {
		told = append(told, e.About.GetName()+" "+e.Reason+": "+e.Message)
	}
	want := []string{"new RegisteredNode: Node new event: Registered Node new in Controller", "gone RemovingNode: Node gone event: Removing Node gone from Controller"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
