package topology

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/cpus"
	"bareboat.dev/kubelet/memory"
	"bareboat.dev/kubelet/numa"
)

// cards are devices of which each node has two.
type cards struct {
	free    map[int]int
	given   map[types.UID][]int
	commits error
}

func (d *cards) Hints(_ *corev1.Pod, c *corev1.Container) map[string][]numa.Hint {
	if c == nil || c.Name == "plain" {
		return nil
	}
	hints, _ := numa.Hints(numa.SetOf(0, 1), func(s numa.Set) (could, can bool) {
		n := 0
		for _, id := range s.List() {
			n += d.free[id]
		}
		return true, n > 0
	})
	return map[string][]numa.Hint{"example.com/card": hints}
}

func (d *cards) Take(p *corev1.Pod, c *corev1.Container, near numa.Hint) error {
	if c.Name == "plain" {
		return nil
	}
	nodes := append(near.Nodes.List(), 0, 1)
	for _, id := range nodes {
		if d.free[id] > 0 {
			d.free[id]--
			d.given[p.UID] = append(d.given[p.UID], id)
			return nil
		}
	}
	return errors.New("no cards")
}

func (d *cards) Commit() error { return d.commits }
func (d *cards) Release(uid types.UID) error {
	for _, id := range d.given[uid] {
		d.free[id]++
	}
	delete(d.given, uid)
	return nil
}

func (d *cards) Retain(keep func(types.UID) bool) error {
	for uid := range d.given {
		if !keep(uid) {
			_ = d.Release(uid)
		}
	}
	return nil
}

// machine has two nodes of two CPUs and 100 MiB.
func machine() (m numa.Machine) {
	for id := range 4 {
		m.CPUs = append(m.CPUs, numa.CPU{ID: id, Core: id, Socket: id / 2, Node: id / 2})
	}
	for id := range 2 {
		m.Nodes = append(m.Nodes, numa.Node{ID: id, Memory: 100 << 20, Distances: map[int]int{0: 10, 1: 21}})
	}
	return m
}

type world struct {
	*Manager
	t      *testing.T
	cpus   *cpus.Manager
	memory *memory.Manager
	cards  *cards
}

func newWorld(t *testing.T, policy numa.Policy, scope Scope) *world {
	t.Helper()
	dir, m := t.TempDir(), machine()
	w := &world{t: t, cards: &cards{free: map[int]int{0: 1, 1: 2}, given: map[types.UID][]int{}}}
	var err error
	if w.cpus, err = cpus.New(cpus.Config{Policy: cpus.Static, File: filepath.Join(dir, "cpu"), All: m.CPUs, Reserved: []int{3}}); err != nil {
		t.Fatal(err)
	}
	if w.memory, err = memory.New(memory.Config{Policy: memory.Static, File: filepath.Join(dir, "memory"), Nodes: m.Nodes}); err != nil {
		t.Fatal(err)
	}
	o, err := ParseOptions(nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.Manager, err = New(Config{Policy: policy, Scope: scope, Options: o, Machine: m}, w.cards, w.cpus, w.memory); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) reserve(uid string, containers ...string) string {
	w.t.Helper()
	p := &corev1.Pod{}
	p.UID = types.UID(uid)
	var list []string
	for _, c := range containers {
		name, cpu, _ := strings.Cut(c, " ")
		list = append(list, fmt.Sprintf("{name: %s, resources: {requests: {cpu: %[2]s, memory: 10Mi}, limits: {cpu: %[2]s, memory: 10Mi}}}", name, cpu))
	}
	if err := yaml.UnmarshalStrict([]byte("{containers: ["+strings.Join(list, ", ")+"]}"), &p.Spec); err != nil {
		w.t.Fatal(err)
	}
	var got []string
	if err := w.Reserve(p); err != nil {
		var r *Refusal
		if !errors.As(err, &r) {
			w.t.Fatal(err)
		}
		if w.cpus.Exclusive(p.UID) || w.memory.Exclusive(p.UID) || w.cards.given[p.UID] != nil {
			w.t.Errorf("%s is refused but has something", uid)
		}
		return r.Reason + ": " + r.Message
	}
	for i := range p.Spec.Containers {
		name := p.Spec.Containers[i].Name
		got = append(got, fmt.Sprintf("%s on %s of %s", name, w.cpus.CPUSet(p.UID, name), w.memory.NodeSet(p.UID, name)))
	}
	return strings.Join(got, "; ") + fmt.Sprint("; cards of ", w.cards.given[p.UID])
}

// TestPolicies shows where pods get their CPUs, memory and devices on two nodes under each policy, and how they are refused.
func TestPolicies(t *testing.T) {
	const apart = "TopologyAffinityError: Resources cannot be allocated with Topology locality"
	for _, c := range []struct {
		policy numa.Policy
		scope  Scope
		pods   [][]string
		want   []string
	}{
		{numa.None, Container, [][]string{{"a 1"}, {"b 1", "c 1"}}, []string{"a on 2 of 0; cards of [0]", "b on 0 of 0; c on 1 of 0; cards of [1 1]"}},
		{numa.SingleNode, Container, [][]string{{"a 2"}, {"b 1"}, {"c 1"}}, []string{"a on 0-1 of 0; cards of [0]", "b on 2 of 1; cards of [1]", apart}},
		{numa.SingleNode, Container, [][]string{{"a 3"}}, []string{apart}},
		{numa.SingleNode, Container, [][]string{{"plain 500m"}}, []string{"plain on 0-3 of 0; cards of []"}},
		{numa.Restricted, Container, [][]string{{"a 1"}, {"plain 2"}}, []string{"a on 0 of 0; cards of [0]", apart}},
		{numa.BestEffort, Container, [][]string{{"a 1"}, {"plain 2"}}, []string{"a on 0 of 0; cards of [0]", "plain on 1-2 of 0; cards of []"}},
		{numa.BestEffort, Container, [][]string{{"a 2"}, {"b 2"}}, []string{"a on 0-1 of 0; cards of [0]", "UnexpectedAdmissionError: Allocate failed due to not enough cpus available to satisfy request: requested=2, available=1, which is unexpected"}},
		{numa.SingleNode, Pod, [][]string{{"plain 1", "plain2 2"}}, []string{apart}},
		{numa.SingleNode, Pod, [][]string{{"a 1", "b 1"}}, []string{"a on 0 of 0; b on 1 of 0; cards of [0 1]"}},
	} {
		w := newWorld(t, c.policy, c.scope)
		for i, pod := range c.pods {
			if got := w.reserve(fmt.Sprint(i), pod...); got != c.want[i] {
				t.Errorf("%s, %s: %v: %s, want %s", c.policy, c.scope, pod, got, c.want[i])
			}
		}
	}
}

// TestNothingIsLeft shows that a pod whose choices cannot be saved has nothing, and that pods give back what they have.
func TestNothingIsLeft(t *testing.T) {
	w := newWorld(t, numa.BestEffort, Container)
	w.cards.commits = errors.New("disk full")
	if got := w.reserve("one", "a 1"); got != "UnexpectedAdmissionError: Allocate failed due to disk full, which is unexpected" {
		t.Error(got)
	}
	w.cards.commits = nil
	for _, uid := range []string{"one", "two"} {
		if got := w.reserve(uid, "a 1"); strings.Contains(got, "Error") {
			t.Error(got)
		}
	}
	if err := w.Retain(func(uid types.UID) bool { return uid == "two" }); err != nil || w.cpus.Exclusive("one") || !w.cpus.Exclusive("two") || len(w.cards.given) != 1 {
		t.Errorf("after one is gone: %v, %v", w.cards.given, err)
	}
	if n, failed := testutil.ToFloat64(w.metrics.requests), testutil.ToFloat64(w.metrics.errors); n != 3 || failed != 1 {
		t.Errorf("%v requests are counted, %v errors", n, failed)
	}
	if err := w.Release("two"); err != nil || w.cpus.Exclusive("two") || w.memory.Exclusive("two") {
		t.Error("it has not given back what it had:", err)
	}
}

// TestOptions shows what options there are, and that a machine of too many nodes is refused.
func TestOptions(t *testing.T) {
	for want, given := range map[string]map[string]string{
		`unknown Topology Manager Policy option: "x"`: {"x": "true"},
		"bad value for option":                        {"prefer-closest-numa-nodes": "maybe"},
		"unable to convert policy option to integer":  {"max-allowable-numa-nodes": "many"},
		"should not be less than 8":                   {"max-allowable-numa-nodes": "7"},
	} {
		if _, err := ParseOptions(given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", given, err, want)
		}
	}
	var m numa.Machine
	for id := range 9 {
		m.Nodes = append(m.Nodes, numa.Node{ID: id})
	}
	for most, good := range map[string]bool{"8": false, "9": true} {
		o, err := ParseOptions(map[string]string{"max-allowable-numa-nodes": most, "prefer-closest-numa-nodes": "true"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{Policy: numa.Restricted, Options: o, Machine: m}); (err == nil) != good {
			t.Errorf("nine nodes where %s may be: %v", most, err)
		}
	}
}
