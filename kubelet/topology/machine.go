package topology

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bareboat.dev/kubelet/numa"
)

// ReadMachine reads what is below root/sys/devices/system/{cpu,node} (sysfs-devices-system-cpu, sysfs-devices-node in the kernel's documentation);
// root is "/" on a real host. A kernel that does not know NUMA has one node, of all the memory that root/proc/meminfo tells of.
func ReadMachine(root string) (numa.Machine, error) {
	var m numa.Machine
	var err error
	system := filepath.Join(root, "sys/devices/system")
	if m.Nodes, err = readNodes(filepath.Join(system, "node")); err == nil && len(m.Nodes) == 0 {
		m.Nodes, err = oneNode(root)
	}
	if err != nil {
		return m, err
	}
	m.CPUs, err = readCPUs(filepath.Join(system, "cpu"), m.Nodes[0].ID)
	return m, err
}

func readCPUs(dir string, only int) ([]numa.CPU, error) {
	online, err := readList(filepath.Join(dir, "online"))
	if err != nil {
		return nil, err
	}
	all := make([]numa.CPU, 0, len(online))
	for _, id := range online {
		at := filepath.Join(dir, fmt.Sprint("cpu", id))
		all = append(all, numa.CPU{
			ID: id, Core: coreOf(at, id), Socket: number(filepath.Join(at, "topology/physical_package_id"), 0),
			Node: nodeOf(at, only), Cache: cacheOf(at),
		})
	}
	return all, nil
}

// coreOf names a core by the lowest of its threads: core_id is unique in a die only.
func coreOf(dir string, id int) int {
	for _, file := range []string{"topology/core_cpus_list", "topology/thread_siblings_list"} {
		if ids, err := readList(filepath.Join(dir, file)); err == nil && len(ids) > 0 {
			return ids[0]
		}
	}
	return id
}

// cacheOf names a CPU's last-level cache by the lowest CPU that shares it; -1 if there is none, as in some virtual machines.
func cacheOf(dir string) int {
	levels, _ := filepath.Glob(filepath.Join(dir, "cache/index[0-9]*"))
	last, name := 2, -1 // what is below the third level belongs to a core
	for _, at := range levels {
		if level := number(filepath.Join(at, "level"), 0); level > last {
			if ids, err := readList(filepath.Join(at, "shared_cpu_list")); err == nil && len(ids) > 0 {
				last, name = level, ids[0]
			}
		}
	}
	return name
}

// nodeOf is the NUMA node of a CPU: its directory has a link of that name.
func nodeOf(dir string, otherwise int) int {
	links, _ := filepath.Glob(filepath.Join(dir, "node[0-9]*"))
	for _, l := range links {
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(l), "node")); err == nil {
			return n
		}
	}
	return otherwise
}

func readNodes(dir string) ([]numa.Node, error) {
	ids, err := readList(filepath.Join(dir, "online"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []numa.Node
	for _, id := range ids {
		if id >= numa.MaxNodes {
			return nil, fmt.Errorf("this host has a NUMA node %d; nodes from %d on are not supported", id, numa.MaxNodes)
		}
		at := filepath.Join(dir, fmt.Sprint("node", id))
		n := numa.Node{ID: id, HugePages: hugePages(filepath.Join(at, "hugepages")), Distances: map[int]int{}}
		if n.Memory, err = total(filepath.Join(at, "meminfo")); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(filepath.Join(at, "distance"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for i, d := range strings.Fields(string(data)) {
			if far, err := strconv.Atoi(d); err == nil && i < len(ids) {
				n.Distances[ids[i]] = far
			}
		}
		all = append(all, n)
	}
	return all, nil
}

// oneNode is the only node of a kernel that does not know NUMA.
func oneNode(root string) ([]numa.Node, error) {
	const itself = 10
	n := numa.Node{HugePages: hugePages(filepath.Join(root, "sys/kernel/mm/hugepages")), Distances: map[int]int{0: itself}}
	var err error
	n.Memory, err = total(filepath.Join(root, "proc/meminfo"))
	return []numa.Node{n}, err
}

// total reads the MemTotal of a meminfo, of a node's ("Node 0 MemTotal: 1024 kB") or the host's.
func total(file string) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if _, rest, ok := strings.Cut(line, "MemTotal:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %q: %w", file, strings.TrimSpace(line), err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("%s does not tell MemTotal", file)
}

// hugePages reads how much memory is in huge pages, by their size.
func hugePages(dir string) map[int64]int64 {
	all := map[int64]int64{}
	sizes, _ := filepath.Glob(filepath.Join(dir, "hugepages-*kB"))
	for _, at := range sizes {
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(at), "hugepages-"), "kB"), 10, 64)
		if err == nil {
			all[kb<<10] = kb << 10 * int64(number(filepath.Join(at, "nr_hugepages"), 0))
		}
	}
	return all
}

// number reads a number; otherwise if there is none.
func number(file string, otherwise int) int {
	data, err := os.ReadFile(file)
	if err != nil {
		return otherwise
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

func readList(file string) ([]int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ids, err := numa.ParseList(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return ids, nil
}
