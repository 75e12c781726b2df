package memory

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/numa"
)

func podOf(t *testing.T, uid, spec string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	p.UID = types.UID(uid)
	return p
}

func resources(what string) string {
	return fmt.Sprintf("resources: {requests: {cpu: 1, %[1]s}, limits: {cpu: 1, %[1]s}}", what)
}

// twoNodes have 100 MiB each, of which 20 are in huge pages, and 10 are the system's.
func twoNodes(t *testing.T) Config {
	const mi = 1 << 20
	c := Config{Policy: Static, File: filepath.Join(t.TempDir(), "state"), Reserved: map[int]map[string]int64{0: {"memory": 10 * mi}, 1: {"memory": 10 * mi}}}
	for id := range 2 {
		c.Nodes = append(c.Nodes, numa.Node{ID: id, Memory: 100 * mi, HugePages: map[int64]int64{2 * mi: 20 * mi}})
	}
	return c
}

// TestStatic shows whose memory is promised, by which nodes, and that promises outlive the kubelet.
func TestStatic(t *testing.T) {
	c := twoNodes(t)
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	take := func(uid, what, want string) {
		t.Helper()
		p := podOf(t, uid, "{containers: [{name: app, "+resources(what)+"}]}")
		err := m.Take(p, &p.Spec.Containers[0], numa.Hint{})
		if got := m.NodeSet(p.UID, "app"); err != nil && !strings.Contains(err.Error(), want) || err == nil && got != want {
			t.Errorf("%s: on %s, %v; want %s", what, got, err, want)
		}
	}
	take("one", "memory: 60Mi", "0")
	take("two", "memory: 60Mi, hugepages-2Mi: 4Mi", "1")
	take("three", "memory: 60Mi", "failed to get the default NUMA affinity")
	take("four", "memory: 5Mi, hugepages-2Mi: 18Mi", "0")
	loose := podOf(t, "loose", "{containers: [{name: app, resources: {requests: {memory: 60Mi}}}]}")
	if err := m.Take(loose, &loose.Spec.Containers[0], numa.Hint{}); err != nil || m.Exclusive("loose") || m.Hints(loose, nil) != nil {
		t.Errorf("memory of a pod that is not Guaranteed: %v", err)
	}
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.Allocatable()); got != "[{hugepages-2Mi 1 20971520 map[]} {memory 1 73400320 map[]} {hugepages-2Mi 2 20971520 map[]} {memory 2 73400320 map[]}]" {
		t.Errorf("nodes have %s", got)
	}
	if m, err = New(c); err != nil { // another kubelet
		t.Fatal(err)
	}
	take("five", "memory: 10Mi", "1")
	if err := m.Release("two"); err != nil {
		t.Fatal(err)
	}
	take("three", "memory: 60Mi", "1")
	for want, wrong := range map[string]func(*Config){
		"more memory of NUMA node 0 than it has": func(c *Config) { c.Reserved = map[int]map[string]int64{0: {"memory": 50 << 20}} },
		"policy is None; drain":                  func(c *Config) { c.Policy = None },
	} {
		other := c
		wrong(&other)
		if _, err := New(other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("what was promised cannot be upheld: %v, want %s", err, want)
		}
	}
	if err := m.Retain(func(types.UID) bool { return false }); err != nil {
		t.Fatal(err)
	}
	take("all", "memory: 140Mi", "0-1")
}

// TestAgain shows that containers use again what their pod's init containers were promised, and what hints there are then.
func TestAgain(t *testing.T) {
	m, err := New(twoNodes(t))
	if err != nil {
		t.Fatal(err)
	}
	p := podOf(t, "pod", fmt.Sprintf("{initContainers: [{name: first, %s}, {name: side, restartPolicy: Always, %s}], containers: [{name: a, %s}, {name: b, %s}]}",
		resources("memory: 40Mi"), resources("memory: 10Mi"), resources("memory: 30Mi"), resources("memory: 20Mi")))
	if got := fmt.Sprint(m.Hints(p, nil)); got != "map[memory:[{1 true} {2 true} {3 false}]]" {
		t.Errorf("hints are %s", got)
	}
	for i := range p.Spec.InitContainers {
		if err := m.Take(p, &p.Spec.InitContainers[i], numa.Hint{Nodes: numa.SetOf(1)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range p.Spec.Containers {
		if err := m.Take(p, &p.Spec.Containers[i], numa.Hint{Nodes: numa.SetOf(1)}); err != nil {
			t.Fatal(err)
		}
	}
	sum := int64(0)
	for _, b := range m.given() {
		sum += b.From[1]
	}
	if sum != 60<<20 || m.Blocks("pod", "b")[0].Size != 20<<20 {
		t.Errorf("it has %d MiB: %v", sum>>20, m.grants)
	}
	if got := fmt.Sprint(m.Hints(p, &p.Spec.Containers[0])); got != "map[memory:[{2 true}]]" {
		t.Errorf("hints of who has memory are %s", got)
	}
}
