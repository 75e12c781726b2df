package cpus

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bareboat.dev/kubelet/numa"
)

// Host reads the CPUs that are online below root, /sys/devices/system/cpu on a real host (sysfs-devices-system-cpu).
func Host(root string) ([]numa.CPU, error) {
	online, err := os.ReadFile(filepath.Join(root, "online"))
	if err != nil {
		return nil, err
	}
	ids, err := Parse(string(online))
	if err != nil {
		return nil, err
	}
	all := make([]numa.CPU, 0, len(ids))
	for _, id := range ids {
		dir := filepath.Join(root, fmt.Sprint("cpu", id))
		all = append(all, numa.CPU{ID: id, Core: number(dir, "topology/core_id", id), Socket: number(dir, "topology/physical_package_id", 0), Node: nodeOf(dir)})
	}
	return all, nil
}

// number reads a number; otherwise if there is none, as in some virtual machines.
func number(dir, file string, otherwise int) int {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return otherwise
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

// nodeOf is the NUMA node of a CPU: its directory has a link of that name.
func nodeOf(dir string) int {
	links, _ := filepath.Glob(filepath.Join(dir, "node[0-9]*"))
	for _, l := range links {
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(l), "node")); err == nil {
			return n
		}
	}
	return 0
}
