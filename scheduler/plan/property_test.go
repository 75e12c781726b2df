package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// generator makes random nodes and pods out of a small vocabulary, so that rules meet.
type generator struct {
	*rand.Rand
	made int
	// plain leaves out constraints between pods.
	plain bool
}

func (g *generator) one(list ...string) string { return list[g.IntN(len(list))] }
func (g *generator) sometimes(n int) bool      { return g.IntN(n) == 0 }

func (g *generator) node(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, "disk": g.one("ssd", "hdd")}}}
	if !g.sometimes(8) {
		n.Labels["zone"] = g.one("a", "b", "c")
	}
	n.Spec.Unschedulable = g.sometimes(10)
	if g.sometimes(4) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: g.one("gpu", "infra"), Value: g.one("x", "y"), Effect: corev1.TaintEffect(g.one("NoSchedule", "NoExecute", "PreferNoSchedule"))})
	}
	if g.sometimes(4) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "slow", Effect: corev1.TaintEffectPreferNoSchedule})
	}
	n.Status.Allocatable = corev1.ResourceList{
		"cpu": *resource.NewMilliQuantity(int64(1000*(1+g.IntN(4))), resource.DecimalSI), "memory": *resource.NewQuantity(int64(1+g.IntN(4))<<30, resource.BinarySI),
		"pods": *resource.NewQuantity(int64(2+g.IntN(6)), resource.DecimalSI),
	}
	if g.sometimes(3) {
		n.Status.Allocatable["example.com/gpu"] = *resource.NewQuantity(int64(g.IntN(3)), resource.DecimalSI)
	}
	if g.sometimes(2) {
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"i:latest", "i@sha256:1"}, SizeBytes: int64(g.IntN(1500)) << 20}}
	}
	return n
}

func (g *generator) pod() *corev1.Pod {
	g.made++
	name := fmt.Sprintf("pod-%d", g.made)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: g.one("n1", "n1", "n2"), UID: types.UID(name), Labels: map[string]string{"app": g.one("a", "b")}}}
	if g.sometimes(2) {
		p.Labels["version"] = g.one("1", "2")
	}
	requests := corev1.ResourceList{}
	if !g.sometimes(4) {
		requests["cpu"] = *resource.NewMilliQuantity(int64(g.IntN(8)*100), resource.DecimalSI)
	}
	if !g.sometimes(4) {
		requests["memory"] = *resource.NewQuantity(int64(g.IntN(6))<<28, resource.BinarySI)
	}
	if g.sometimes(6) {
		requests["example.com/gpu"] = *resource.NewQuantity(1, resource.DecimalSI)
	}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: requests}}}
	if g.sometimes(8) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: int32(80 + g.IntN(2)), HostIP: g.one("", "10.0.0.1", "10.0.0.2")}}
	}
	if g.sometimes(5) {
		p.Spec.NodeSelector = map[string]string{"disk": g.one("ssd", "hdd")}
	}
	if g.sometimes(3) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
			Key: g.one("gpu", "infra"), Operator: corev1.TolerationOperator(g.one("", "Exists", "Equal")), Value: "", Effect: corev1.TaintEffect(g.one("", "NoSchedule", "NoExecute")),
		})
	}
	g.nodeAffinity(p)
	if !g.plain {
		g.podConstraints(p)
	}
	return p
}

func (g *generator) nodeAffinity(p *corev1.Pod) {
	term := func() corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
			Key: "zone", Operator: corev1.NodeSelectorOperator(g.one("In", "NotIn")), Values: []string{g.one("a", "b", "c")},
		}}}
	}
	na := &corev1.NodeAffinity{}
	if g.sometimes(6) {
		na.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term()}}
	}
	if g.sometimes(4) {
		na.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.PreferredSchedulingTerm{{Weight: int32(1 + g.IntN(50)), Preference: term()}}
	}
	p.Spec.Affinity = &corev1.Affinity{NodeAffinity: na}
}

func (g *generator) podConstraints(p *corev1.Pod) {
	selector := func() *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": g.one("a", "b")}}
	}
	for g.sometimes(3) && len(p.Spec.TopologySpreadConstraints) < 2 {
		tsc := corev1.TopologySpreadConstraint{
			MaxSkew: int32(1 + g.IntN(2)), TopologyKey: g.one("zone", corev1.LabelHostname), LabelSelector: selector(),
			WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(g.one("DoNotSchedule", "ScheduleAnyway")),
		}
		if g.sometimes(3) && tsc.WhenUnsatisfiable == corev1.DoNotSchedule {
			n := int32(1 + g.IntN(4))
			tsc.MinDomains = &n
		}
		honor, ignore := corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore
		if g.sometimes(4) {
			tsc.NodeTaintsPolicy = &honor
		}
		if g.sometimes(4) {
			tsc.NodeAffinityPolicy = &ignore
		}
		if g.sometimes(4) {
			tsc.MatchLabelKeys = []string{"version"}
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, tsc)
	}
	term := func() corev1.PodAffinityTerm {
		t := corev1.PodAffinityTerm{TopologyKey: g.one("zone", corev1.LabelHostname), LabelSelector: selector()}
		if g.sometimes(4) {
			t.Namespaces = []string{"n2"}
		}
		if g.sometimes(6) {
			t.NamespaceSelector = &metav1.LabelSelector{}
		} else if g.sometimes(5) {
			t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": g.one("n1", "n2")}}
		}
		return t
	}
	weighted := func() []corev1.WeightedPodAffinityTerm {
		return []corev1.WeightedPodAffinityTerm{{Weight: int32(1 + g.IntN(100)), PodAffinityTerm: term()}}
	}
	if g.sometimes(6) {
		p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{}
		if g.sometimes(2) {
			p.Spec.Affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = weighted()
		} else {
			p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{term()}
		}
	}
	if g.sometimes(6) {
		p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{}
		if g.sometimes(2) {
			p.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = weighted()
		} else {
			p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{term()}
		}
	}
}

// labelNamespaces gives the generator's namespaces the labels that its selectors know.
func labelNamespaces(c *Cluster) {
	for _, name := range []string{"n1", "n2"} {
		c.SetNamespace(name, map[string]string{"team": name})
	}
}

// check schedules a pod and compares with what the oracle allows.
func check(t *testing.T, c *Cluster, w *world, pod *corev1.Pod) {
	t.Helper()
	scores, reasons := w.verdict(pod)
	d := c.Schedule(pod)
	if d.Err != nil {
		t.Fatalf("%s: %v", pod.Name, d.Err)
	}
	if d.Node == "" {
		if len(scores) > 0 || !maps.Equal(d.Why.Reasons, reasons) || d.Why.Nodes != len(w.nodes) {
			t.Fatalf("%s: %s\noracle: feasible %v, reasons %v", pod.Name, d.Why, scores, reasons)
		}
		return
	}
	score, ok := scores[d.Node]
	if !ok {
		t.Fatalf("%s went to %s, the oracle allows %v", pod.Name, d.Node, scores)
	}
	for name, other := range scores {
		if other > score {
			t.Fatalf("%s went to %s with score %d, but %s has %d", pod.Name, d.Node, score, name, other)
		}
	}
	placed := pod.DeepCopy()
	placed.Spec.NodeName = d.Node
	w.pods[pod.Name] = placed
}

// Shows that over random histories of nodes and pods every decision is one that the naive rules allow, of the highest score, and
// that what cannot be placed is explained alike.
func TestDecisionsAgainstOracle(t *testing.T) {
	for seed := range uint64(180) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 7)), plain: seed%4 == 0}
		c, w := New(), &world{map[string]*corev1.Node{}, map[string]*corev1.Pod{}}
		labelNamespaces(c)
		c.fewDomains = []int{defaultFewDomains, 3, 0}[seed%3] // divide rankings by all keys, by zones only, by none
		c.maxRankings = int(seed % 2 * 3)                     // few rankings, so that they are dropped and made again, or as many as fit
		c.apartShare = int(seed / 3 % 3)                      // tell any number of nodes apart, only a few, or fewer still
		for range 160 {
			name := fmt.Sprintf("node-%d", g.IntN(9))
			switch k := g.IntN(13); {
			case k < 2 || len(w.nodes) < 3:
				w.nodes[name] = g.node(name)
				c.SetNode(w.nodes[name])
			case k == 2 && g.sometimes(2):
				delete(w.nodes, name)
				c.RemoveNode(name)
			case k < 5 && len(w.pods) > 0:
				names := slices.Sorted(maps.Keys(w.pods))
				victim := w.pods[names[g.IntN(len(names))]]
				delete(w.pods, victim.Name)
				c.Forget(victim.UID)
			case k == 6 && len(w.pods) > 0: // a placed pod is said again, relabelled or moved
				names := slices.Sorted(maps.Keys(w.pods))
				p := w.pods[names[g.IntN(len(names))]].DeepCopy()
				p.Labels["app"] = g.one("a", "b")
				if g.sometimes(3) {
					p.Spec.NodeName = name
				}
				w.pods[p.Name] = p
				if err := c.SetPod(p, p.Spec.NodeName); err != nil {
					t.Fatal(err)
				}
			case k == 5:
				p := g.pod()
				p.Spec.NodeName = name
				w.pods[p.Name] = p
				if err := c.SetPod(p, name); err != nil {
					t.Fatal(err)
				}
			default:
				check(t, c, w, g.pod())
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// Shows that a ranking that has not been asked for during a long history is right when it is asked for again.
func TestLongHistory(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2)), plain: true}
	c, w := New(), &world{map[string]*corev1.Node{}, map[string]*corev1.Pod{}}
	for i := range 6 {
		name := fmt.Sprintf("node-%d", i)
		w.nodes[name] = g.node(name)
		c.SetNode(w.nodes[name])
	}
	for range 4 {
		for range 20 {
			check(t, c, w, g.pod())
		}
		for range 3000 { // two changes each; the list of changes is cut more than once
			p := g.pod()
			c.Schedule(p)
			c.Forget(p.UID)
		}
		for name, p := range w.pods {
			if g.sometimes(2) {
				delete(w.pods, name)
				c.Forget(p.UID)
			}
		}
	}
	if c.base == 0 {
		t.Error("the list of changes was never cut: the test shows nothing")
	}
}

// Shows that the same history gives the same decisions, whatever the order in which maps are walked.
func TestDeterministic(t *testing.T) {
	history := func(seed uint64) (out []string) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 9))}
		c := New()
		c.fewDomains = int(seed%2) * defaultFewDomains
		for i := range 8 {
			c.SetNode(g.node(fmt.Sprintf("node-%d", i)))
		}
		for range 80 {
			pod := g.pod()
			d := c.Schedule(pod)
			if out = append(out, d.Node); d.Node == "" {
				out = append(out, d.Why.String(), fmt.Sprint(c.Preempt(pod, nil)))
			}
		}
		return out
	}
	for seed := range uint64(10) {
		if a, b := history(seed), history(seed); !slices.Equal(a, b) {
			t.Errorf("seed %d:\n%v\n%v", seed, a, b)
		}
	}
}
