package topology

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestReadMachine shows a machine of two sockets with a NUMA node each, of one core of two threads, as sysfs tells of it; and one whose kernel does
// not know NUMA.
func TestReadMachine(t *testing.T) {
	root := t.TempDir()
	put := func(path, content string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const cpu, node = "sys/devices/system/cpu/", "sys/devices/system/node/"
	put(cpu+"online", "0-3")
	for id := range 4 {
		socket := id % 2
		at := fmt.Sprint(cpu, "cpu", id)
		put(at+"/topology/physical_package_id", fmt.Sprint(socket))
		put(at+"/topology/core_id", "0") // the same in both sockets
		put(at+"/topology/core_cpus_list", fmt.Sprintf("%d,%d", socket, socket+2))
		put(at+"/cache/index0/level", "1")
		put(at+"/cache/index3/level", "3")
		put(at+"/cache/index3/shared_cpu_list", fmt.Sprintf("%d,%d", socket, socket+2))
	}
	put("proc/meminfo", "MemTotal:       4 kB\nMemFree: 1 kB")
	m, err := ReadMachine(root)
	if got := fmt.Sprint(m, err); got != "{[{0 0 0 0 0} {1 1 1 0 1} {2 0 0 0 0} {3 1 1 0 1}] [{0 4096 map[] map[0:10]}]} <nil>" {
		t.Errorf("without NUMA: %s", got)
	}
	put(node+"online", "0-1")
	for id := range 2 {
		put(fmt.Sprint(node, "node", id, "/meminfo"), fmt.Sprintf("Node %d MemTotal:       %d kB\nNode %d MemFree: 1 kB", id, 2+id, id))
		put(fmt.Sprint(node, "node", id, "/distance"), []string{"10 21", "21 10"}[id])
		put(fmt.Sprint(node, "node", id, "/hugepages/hugepages-2048kB/nr_hugepages"), fmt.Sprint(id))
		for _, c := range []int{id, id + 2} {
			put(fmt.Sprint(cpu, "cpu", c, "/node", id, "/x"), "")
		}
	}
	m, err = ReadMachine(root)
	if got := fmt.Sprint(m, m.Set().List(), err); got != "{[{0 0 0 0 0} {1 1 1 1 1} {2 0 0 0 0} {3 1 1 1 1}] [{0 2048 map[2097152:0] map[0:10 1:21]} {1 3072 map[2097152:2097152] map[0:21 1:10]}]} [0 1] <nil>" {
		t.Errorf("two sockets: %s", got)
	}
	put(node+"online", "0,64")
	if _, err := ReadMachine(root); err == nil {
		t.Error("a node beyond what is supported is accepted")
	}
	if m, err := ReadMachine("/"); err != nil || len(m.CPUs) == 0 || len(m.Nodes) == 0 || m.Nodes[0].Memory == 0 {
		t.Errorf("this host: %+v, %v", m, err)
	}
}
