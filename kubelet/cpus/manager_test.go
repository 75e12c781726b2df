package cpus

import (
	"errors"
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

func guaranteed(cpu string) string {
	r := fmt.Sprintf("resources: {requests: {cpu: %[1]s, memory: 1Mi}, limits: {cpu: %[1]s, memory: 1Mi}}", cpu)
	return "{containers: [{name: app, " + r + "}]}"
}

// manager takes the CPUs of all of a pod's containers, as package topology does.
type manager struct{ *Manager }

func open(c Config) (manager, error) {
	m, err := New(c)
	return manager{m}, err
}

func (m manager) Reserve(p *corev1.Pod, near ...int) error {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if err := m.Take(p, &list[i], numa.Hint{Nodes: numa.SetOf(near...)}); err != nil {
				return errors.Join(err, m.Release(p.UID))
			}
		}
	}
	return m.Commit()
}

// TestStatic shows, on four cores of one thread each of which the first is reserved, who gets CPUs alone and what others have then.
func TestStatic(t *testing.T) {
	c := Config{Policy: Static, File: filepath.Join(t.TempDir(), "state"), Reserved: []int{0}}
	for i := range 4 {
		c.All = append(c.All, numa.CPU{ID: i, Core: i})
	}
	m, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	look := func(want string) {
		t.Helper()
		if got := fmt.Sprint(m.CPUSet("one", "app"), " ", m.CPUSet("two", "app"), " ", m.CPUSet("", "")); got != want {
			t.Errorf("CPUs are %s, want %s", got, want)
		}
	}
	look("0-3 0-3 0-3")
	for _, spec := range []string{guaranteed("500m"), guaranteed("1500m"), `{containers: [{name: app, resources: {requests: {cpu: 1}}}]}`} {
		if err := m.Reserve(podOf(t, "one", spec)); err != nil || m.Exclusive("one") {
			t.Errorf("%s: %v", spec, err)
		}
	}
	if err := m.Reserve(podOf(t, "one", guaranteed("2"))); err != nil {
		t.Fatal(err)
	}
	look("1-2 0,3 0,3")
	if err := m.Reserve(podOf(t, "two", guaranteed("2"))); !errors.Is(err, ErrUnavailable) {
		t.Errorf("more than there are: %v", err)
	}
	if m, err = open(c); err != nil { // another kubelet
		t.Fatal(err)
	}
	look("1-2 0,3 0,3")
	if err := m.Reserve(podOf(t, "two", guaranteed("1"))); err != nil {
		t.Fatal(err)
	}
	look("1-2 3 0")
	if err := m.Release("one"); err != nil {
		t.Fatal(err)
	}
	look("0-2 3 0-2")
	if err := m.Retain(func(types.UID) bool { return false }); err != nil {
		t.Fatal(err)
	}
	look("0-3 0-3 0-3")
	if m.Reserve(podOf(t, "one", guaranteed("1"))) != nil {
		t.Fatal(err)
	}
	for want, wrong := range map[string]func(*Config){
		"CPU 1, which is now reserved":                func(c *Config) { c.Reserved = []int{0, 1} },
		"CPU 1, which this host no longer has":        func(c *Config) { c.All = append([]numa.CPU{c.All[0]}, c.All[2:]...) },
		"but the CPU manager's policy is none; drain": func(c *Config) { c.Policy = None },
	} {
		other := c
		wrong(&other)
		if _, err := open(other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("what was given away cannot be upheld: %v, want %s", err, want)
		}
	}
	if err := m.Release("one"); err != nil {
		t.Fatal(err)
	}
	c.Reserved = nil
	if _, err := open(c); err == nil {
		t.Error("without reserved CPUs the system would have none")
	}
	c.Policy = None
	if m, err = open(c); err != nil || m.CPUSet("one", "app") != "" || m.Reserve(podOf(t, "one", guaranteed("2"))) != nil {
		t.Errorf("without the policy: %v", err)
	}
}

// twoSockets are two sockets of two cores of two threads, a NUMA node each: 0, 1, 4, 5 and 2, 3, 6, 7.
func twoSockets() (all []numa.CPU) {
	for id := range 8 {
		core := id % 4
		all = append(all, numa.CPU{ID: id, Core: core, Socket: core / 2, Node: core / 2})
	}
	return all
}

// TestNear shows that CPUs come from near nodes, what hints there are for that, and that containers use again what init containers had.
func TestNear(t *testing.T) {
	c := Config{Policy: Static, File: filepath.Join(t.TempDir(), "state"), All: twoSockets(), Reserved: []int{0}}
	m, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	r := func(n int) string {
		return fmt.Sprintf("resources: {requests: {cpu: %[1]d, memory: 1Mi}, limits: {cpu: %[1]d, memory: 1Mi}}", n)
	}
	p := podOf(t, "one", fmt.Sprintf(`{initContainers: [{name: big, %s}, {name: side, restartPolicy: Always, %s}], containers: [{name: a, %s}, {name: b, %s}]}`, r(3), r(1), r(2), r(1)))
	hints := func(p *corev1.Pod, c *corev1.Container, want string) {
		t.Helper()
		if got := fmt.Sprint(m.Hints(p, c)["cpu"]); got != want {
			t.Errorf("hints are %s, want %s", got, want)
		}
	}
	hints(p, nil, "[{2 true} {3 false}]") // four at once: node 0 has three
	hints(p, &p.Spec.InitContainers[0], "[{1 true} {2 true} {3 false}]")
	if err := m.Reserve(p, 1); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.grants["one"]); got != "map[a:[2 6] b:[7] big:[2 3 6] side:[3]]" {
		t.Errorf("they have %s", got)
	}
	hints(p, &p.Spec.Containers[0], "[{2 true} {3 false}]")
	if got := fmt.Sprint(m.Allocatable(), m.Own("one", "a"), m.Own("two", "a")); got != "[1 2 3 4 5 6 7] [2 6] []" {
		t.Errorf("CPUs are %s", got)
	}
	other := podOf(t, "two", guaranteed("4"))
	hints(other, &other.Spec.Containers[0], "[]")
	pod := podOf(t, "two", `{resources: {requests: {cpu: 1, memory: 1Mi}, limits: {cpu: 1, memory: 1Mi}}, containers: [{name: a, `+r(1)+`}]}`)
	if err := m.Reserve(pod); err != nil || m.Exclusive("two") || m.Hints(pod, nil) != nil {
		t.Errorf("a pod with resources of its own has CPUs: %v", err)
	}
}

// TestOptions shows what options refuse, and what they exclude.
func TestOptions(t *testing.T) {
	for want, given := range map[string]map[string]string{
		`unknown CPU Manager Policy option: "x"`:                                   {"x": "true"},
		`bad value for option "full-pcpus-only"`:                                   {"full-pcpus-only": "maybe"},
		"full-pcpus-only and distribute-cpus-across-cores can not be used":         {"full-pcpus-only": "true", "distribute-cpus-across-cores": "true"},
		"prefer-align-cpus-by-uncorecache and distribute-cpus-across-numa can not": {"prefer-align-cpus-by-uncorecache": "true", "distribute-cpus-across-numa": "true"},
	} {
		if _, err := ParseOptions(given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", given, err, want)
		}
	}
	o, err := ParseOptions(map[string]string{"full-pcpus-only": "true", "strict-cpu-reservation": "true", "align-by-socket": "false"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := open(Config{Policy: Static, Options: o, File: filepath.Join(t.TempDir(), "state"), All: twoSockets(), Reserved: []int{0}})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]string{
		"3": "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2",
		"8": "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 6, requested CPUs = 8, CPUs per core = 2",
		"6": "",
	} {
		var aligned SMTAlignmentError
		err := m.Reserve(podOf(t, "one", guaranteed(n)))
		if want == "" && err != nil || want != "" && (!errors.As(err, &aligned) || aligned.Error() != want || aligned.Reason() != "SMTAlignmentError") {
			t.Errorf("%s: %v, want %s", n, err, want)
		}
		if want == "" {
			if got := m.CPUSet("one", "app") + " " + m.CPUSet("", ""); got != "1-3,5-7 4" { // not the reserved one, nor its core
				t.Errorf("CPUs are %s", got)
			}
		}
		if err := m.Release("one"); err != nil {
			t.Fatal(err)
		}
	}
	o, err = ParseOptions(map[string]string{"align-by-socket": "true"})
	if err != nil {
		t.Fatal(err)
	}
	// Four nodes in two sockets: two of one socket are as good as one.
	all := twoSockets()
	for i := range all {
		all[i].Node = all[i].Core
	}
	if m, err = open(Config{Policy: Static, Options: o, File: filepath.Join(t.TempDir(), "state"), All: all, Reserved: []int{0}}); err != nil {
		t.Fatal(err)
	}
	p := podOf(t, "one", guaranteed("2"))
	if got := fmt.Sprint(m.Hints(p, nil)["cpu"]); !strings.HasPrefix(got, "[{2 true} {3 true} {4 true} {5 false}") {
		t.Errorf("hints are %s", got)
	}
}
