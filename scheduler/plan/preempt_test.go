package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// important returns a pod of a priority that requests cpus and began at minute start.
func important(name string, priority int32, cpus string, start int) *corev1.Pod {
	at := metav1.NewTime(time.Unix(int64(60*start), 0))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"name": name}},
		Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse(cpus)},
		}}}},
		Status: corev1.PodStatus{StartTime: &at},
	}
}

// preemption describes a decision as "node: victims" or the reason.
func preemption(p Preemption) string {
	if p.Node == "" {
		return p.Why
	}
	var victims []string
	for _, v := range p.Victims {
		victims = append(victims, v.Name)
	}
	return p.Node + ": " + strings.Join(victims, " ")
}

// Shows whom preemption picks and what it says when it cannot help; nodes have four cpus each.
func TestPreempt(t *testing.T) {
	for _, tc := range []struct {
		name    string
		placed  map[string][]*corev1.Pod
		pod     *corev1.Pod
		budgets []Budget
		want    string
	}{
		{"the less important node", map[string][]*corev1.Pod{
			"n1": {important("a", 5, "4", 1)}, "n2": {important("b", 3, "4", 1)},
		}, important("p", 9, "4", 0), nil, "n2: b"},
		{"as few as possible", map[string][]*corev1.Pod{
			"n1": {important("a", 1, "1", 1), important("b", 1, "1", 2), important("c", 1, "2", 3)},
		}, important("p", 9, "2", 0), nil, "n1: c"},
		{"the younger of equals", map[string][]*corev1.Pod{
			"n1": {important("old", 1, "4", 1)}, "n2": {important("young", 1, "4", 7)},
		}, important("p", 9, "4", 0), nil, "n2: young"},
		{"what no budget protects", map[string][]*corev1.Pod{
			"n1": {important("a", 1, "4", 1)}, "n2": {important("b", 2, "4", 1)},
		}, important("p", 9, "4", 0), []Budget{{"default", labels.SelectorFromSet(labels.Set{"name": "a"}), 0}}, "n2: b"},
		{"nobody of the same priority", map[string][]*corev1.Pod{
			"n1": {important("a", 9, "4", 1)},
		}, important("p", 9, "4", 0), nil, "0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		{"nothing where the node is too small", map[string][]*corev1.Pod{
			"n1": {important("a", 1, "4", 1)}, "n2": {important("b", 1, "4", 1)},
		}, important("p", 9, "8", 0), nil, "0/2 nodes are available: 2 Preemption is not helpful for scheduling."},
	} {
		c := New()
		for _, name := range slices.Sorted(maps.Keys(tc.placed)) {
			c.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
				"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("10"),
			}}})
			for _, p := range tc.placed[name] {
				if err := c.SetPod(p, name); err != nil {
					t.Fatal(err)
				}
			}
		}
		if d := c.Schedule(tc.pod); d.Node != "" {
			t.Errorf("%s: went to %s without preemption", tc.name, d.Node)
		}
		if got := preemption(c.Preempt(tc.pod, tc.budgets)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// Shows that a room kept for a nominated pod is taken by nobody of the same priority, by the pod itself when it is there, and by a
// more important pod, which deletes nobody for it.
func TestNominate(t *testing.T) {
	c := New()
	c.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
		"cpu": resource.MustParse("4"), "pods": resource.MustParse("10"),
	}}})
	first := important("first", 5, "4", 0)
	c.Nominate(first, "n1")
	if d := c.Schedule(important("rival", 5, "1", 0)); d.Node != "" {
		t.Error("the kept room was given away")
	}
	top := important("top", 9, "4", 0)
	if d := c.Schedule(top); d.Node != "" {
		t.Error("the kept room was given away without asking")
	}
	if p := c.Preempt(top, nil); p.Node != "n1" || len(p.Victims) != 0 || len(p.Displaced) != 1 {
		t.Errorf("preemption: %+v", p)
	}
	if d := c.Schedule(first); d.Node != "n1" {
		t.Errorf("the nominated pod: %v", d.Why)
	}
}

// Shows over random clusters that what preemption deletes makes room, that nothing it keeps could be kept out of its list, and that
// looking changes no later decision.
func TestPreemptProperties(t *testing.T) {
	found := 0
	for seed := range uint64(40) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 3))}
		c, w := New(), &world{map[string]*corev1.Node{}, map[string]*corev1.Pod{}}
		labelNamespaces(c)
		for i := range 5 {
			name := fmt.Sprintf("node-%d", i)
			w.nodes[name] = g.node(name)
			c.SetNode(w.nodes[name])
		}
		for range 60 {
			pod := g.pod()
			priority := int32(g.IntN(4))
			pod.Spec.Priority = &priority
			check(t, c, w, pod) // also that the search before has left no trace
			if w.pods[pod.Name] != nil {
				w.pods[pod.Name].Spec.Priority = &priority
				continue
			}
			p := c.Preempt(pod, nil)
			if p.Node == "" {
				continue
			}
			found++
			victims := map[string]*corev1.Pod{}
			for _, v := range p.Victims {
				if priorityOf(v) >= priority {
					t.Fatalf("seed %d: %s of priority %d is to go for one of %d", seed, v.Name, priorityOf(v), priority)
				}
				victims[v.Name] = w.pods[v.Name]
				delete(w.pods, v.Name)
			}
			if rs := w.reject(pod, w.nodes[p.Node]); len(rs) > 0 {
				t.Fatalf("seed %d: without %v %s still rejects: %v", seed, slices.Sorted(maps.Keys(victims)), p.Node, rs)
			}
			maps.Copy(w.pods, victims)
			for name, v := range victims {
				others := maps.Clone(victims)
				delete(others, name)
				for other := range others {
					delete(w.pods, other)
				}
				if rs := w.reject(pod, w.nodes[p.Node]); len(rs) == 0 {
					t.Fatalf("seed %d: %s need not go", seed, name)
				}
				maps.Copy(w.pods, others)
				_ = v
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d preemptions: the test shows little", found)
	}
}
