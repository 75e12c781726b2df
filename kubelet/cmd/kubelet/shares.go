package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/kubelet/config"
	"bareboat.dev/kubelet/cpus"
	"bareboat.dev/kubelet/eviction"
	"bareboat.dev/kubelet/memory"
	"bareboat.dev/kubelet/numa"
	"bareboat.dev/kubelet/topology"
)

// shares is who decides on what pods have alone.
type shares struct {
	cpus     *cpus.Manager
	memory   *memory.Manager
	topology *topology.Manager
}

// makeShares makes who decides on what pods have alone, of the machine's CPUs and memory, and of devices.
func (k *kubelet) makeShares(m numa.Machine) (s shares, err error) {
	if err := os.MkdirAll(k.c.RootDir, 0o750); err != nil {
		return s, err
	}
	own := cpus.Config{Policy: cpus.Policy(k.c.CPUManagerPolicy), File: k.c.RootDir + "/cpu_manager.json", All: m.CPUs}
	if own.Options, err = cpus.ParseOptions(k.c.CPUManagerPolicyOptions); err != nil {
		return s, err
	}
	if own.Reserved, err = reservedCPUs(k.c, m.CPUs); err != nil {
		return s, err
	}
	if s.cpus, err = cpus.New(own); err != nil {
		return s, err
	}
	promised := memory.Config{Policy: memory.Policy(k.c.MemoryManagerPolicy), File: k.c.RootDir + "/memory_manager.json", Nodes: m.Nodes}
	if promised.Policy == memory.Static {
		if promised.Reserved, err = reservedMemory(k.c, m, k.node.Capacity()); err != nil {
			return s, err
		}
	}
	if s.memory, err = memory.New(promised); err != nil {
		return s, err
	}
	near := topology.Config{Policy: numa.Policy(k.c.TopologyManagerPolicy), Scope: topology.Scope(k.c.TopologyManagerScope), Machine: m}
	if near.Options, err = topology.ParseOptions(k.c.TopologyManagerPolicyOptions); err != nil {
		return s, err
	}
	s.topology, err = topology.New(near, k.devices, s.cpus, s.memory)
	return s, err
}

// reserved is what pods do not get: what is reserved for others, and what is left free so that nobody is evicted at once.
func reserved(c *config.Config, capacity corev1.ResourceList) (corev1.ResourceList, error) {
	sum, err := c.Reserved()
	if err != nil {
		return nil, err
	}
	e, err := c.Eviction()
	if err != nil {
		return nil, err
	}
	for name, s := range map[corev1.ResourceName]eviction.Signal{corev1.ResourceMemory: eviction.MemoryAvailable, corev1.ResourceEphemeralStorage: eviction.NodeFSAvailable} {
		have, whole := sum[name], capacity[name]
		have.Add(*resource.NewQuantity(e.Hard[s].Least(whole.Value()), resource.BinarySI))
		sum[name] = have
	}
	return sum, nil
}

// reservedCPUs are the CPUs that no container has alone: those that are named, or as many as are reserved, from the first core on.
func reservedCPUs(c *config.Config, all []numa.CPU) ([]int, error) {
	named, err := numa.ParseList(c.ReservedCPUs)
	if err != nil || len(named) > 0 {
		return named, err
	}
	sum, err := c.Reserved()
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, cpu := range all {
		ids = append(ids, cpu.ID)
	}
	// Quantities round up: a part of a CPU cannot be given away.
	reserved, _ := numa.TakeCPUs(all, ids, min(int(sum.Cpu().Value()), len(ids)), 0, numa.CPUOptions{})
	return reserved, nil
}

// reservedMemory is what the system has of each NUMA node. It must add up to what pods do not get.
func reservedMemory(c *config.Config, m numa.Machine, capacity corev1.ResourceList) (map[int]map[string]int64, error) {
	byNode, err := c.MemoryByNode()
	if err != nil {
		return nil, err
	}
	want, err := reserved(c, capacity)
	if err != nil {
		return nil, err
	}
	sums := map[string]int64{}
	for id, resources := range byNode {
		if !m.Set().Has(id) {
			return nil, fmt.Errorf("--reserved-memory: this machine has no NUMA node %d", id)
		}
		for name, n := range resources {
			sums[name] += n
		}
	}
	for name := range want {
		if name == corev1.ResourceMemory || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			sums[string(name)] += 0
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		q := want[corev1.ResourceName(name)]
		if have := resource.NewQuantity(sums[name], resource.BinarySI); q.Value() != sums[name] {
			return nil, fmt.Errorf("--reserved-memory: the total amount %q of type %q is not equal to the value %q that --system-reserved, --kube-reserved and --eviction-hard keep from pods", have, name, q.String())
		}
	}
	return byNode, nil
}
