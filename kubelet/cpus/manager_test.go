package cpus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// TestStatic shows, on four cores of one thread each of which the first is reserved, who gets CPUs alone and what others have then.
func TestStatic(t *testing.T) {
	c := Config{Policy: Static, File: filepath.Join(t.TempDir(), "state"), Reserved: []int{0}}
	for i := range 4 {
		c.All = append(c.All, numa.CPU{ID: i, Core: i})
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	look := func(want string) {
		t.Helper()
		if got := fmt.Sprint(m.CPUSet("one", "app"), " ", m.CPUSet("two", "app"), " ", m.Shared()); got != want {
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
	if m, err = New(c); err != nil { // another kubelet
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
	c.Reserved = nil
	if _, err := New(c); err == nil {
		t.Error("without reserved CPUs the system would have none")
	}
	c.Policy = None
	if m, err = New(c); err != nil || m.CPUSet("one", "app") != "" || m.Reserve(podOf(t, "one", guaranteed("2"))) != nil {
		t.Errorf("without the policy: %v", err)
	}
}

// TestFormat shows lists as the kernel has them, there and back.
func TestFormat(t *testing.T) {
	for in, want := range map[string]string{"": "", "0": "0", "3,1,2": "1-3", "0-1,3,5-6\n": "0-1,3,5-6", "2,2": "2", "x": "error", "3-1": "error", "-1": "error", "0-99999": "error"} {
		ids, err := Parse(in)
		got := Format(ids)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestHost shows the topology that the kernel tells of, here of two cores with two threads each on two nodes.
func TestHost(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("online", "0-3")
	for id := range 4 {
		write(fmt.Sprintf("cpu%d/topology/core_id", id), fmt.Sprint(id%2))
		write(fmt.Sprintf("cpu%d/topology/physical_package_id", id), fmt.Sprint(id%2))
		write(fmt.Sprintf("cpu%d/node%d/x", id, id%2), "")
	}
	all, err := Host(root)
	if want := "[{0 0 0 0} {1 1 1 1} {2 0 0 0} {3 1 1 1}]"; err != nil || fmt.Sprint(all) != want {
		t.Errorf("%v, %v; want %s", all, err, want)
	}
	if all, err := Host("/sys/devices/system/cpu"); err != nil || len(all) == 0 {
		t.Errorf("this host: %v, %v", all, err)
	}
}
