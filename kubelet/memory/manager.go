// Package memory gives containers memory and huge pages from NUMA nodes of their own choosing: the static policy of Kubernetes' memory
// manager (https://kubernetes.io/docs/tasks/administer-cluster/memory-manager/).
//
// A container of a Guaranteed pod has its memory promised by one node, or by a group of nodes, when its pod is admitted, and the kernel lets it
// allocate there alone. What an init container was promised is used again by those that come after it. Promises are a file that is written
// before anybody learns of them, so that they survive the kubelet.
//
//	m, err := memory.New(memory.Config{Policy: memory.Static, File: "/var/lib/kubelet/memory_manager.json", Nodes: machine.Nodes, Reserved: reserved})
//	err = m.Take(pod, container, numa.Hint{})  // numa.ErrMemory
//	err = m.Commit()
//	spec.Mems = m.NodeSet(pod.UID, "container") // "0"
//
// It is one of the providers that package topology asks.
package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/durable"
	"bareboat.dev/kubelet/numa"
)

// Policy is whether containers have memory of NUMA nodes promised, as --memory-manager-policy names it.
type Policy string

// The policies.
const (
	None   Policy = "None"
	Static Policy = "Static"
)

// Config is what a manager is told.
type Config struct {
	Policy Policy
	// File holds what has been promised. Its directory must be there by the first Commit.
	File  string
	Nodes []numa.Node
	// Reserved is what the system has of each node, by resource, in bytes.
	Reserved map[int]map[string]int64
}

// Manager promises memory. Its methods may be called from any number of goroutines. With the policy None it does nothing.
type Manager struct {
	c           Config
	allocatable map[int]map[string]int64

	mu sync.Mutex
	// grants are by pod and container; dirty says that they are not in the file as they are.
	grants map[types.UID]map[string][]numa.Block
	dirty  bool
}

// New makes a manager and reads what an earlier one promised. It fails if that cannot be upheld: then the node must be drained, and the file
// removed.
func New(c Config) (*Manager, error) {
	m := &Manager{c: c, grants: map[types.UID]map[string][]numa.Block{}, allocatable: allocatable(c.Nodes, c.Reserved)}
	data, err := os.ReadFile(c.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		if err := json.Unmarshal(data, &m.grants); err != nil {
			return nil, fmt.Errorf("%s cannot be read; remove it if no pod of this node has memory of its own: %w", c.File, err)
		}
	}
	if c.Policy != Static && len(m.grants) > 0 {
		return nil, fmt.Errorf("pods have memory of their own, but the memory manager's policy is %s; drain this node and remove %s before the kubelet starts again", c.Policy, c.File)
	}
	for id, resources := range m.allocatable {
		for name, have := range resources {
			for _, b := range m.given() {
				if b.Resource == name {
					have -= b.From[id]
				}
			}
			if have < 0 {
				return nil, fmt.Errorf("pods have more %s of NUMA node %d than it has for them now; drain this node and remove %s before the kubelet starts again", name, id, c.File)
			}
		}
	}
	return m, nil
}

// allocatable is what each node has for containers.
func allocatable(nodes []numa.Node, reserved map[int]map[string]int64) map[int]map[string]int64 {
	all := map[int]map[string]int64{}
	for _, n := range nodes {
		mine := map[string]int64{}
		plain := n.Memory
		for size, bytes := range n.HugePages {
			name := HugePages(size)
			mine[name] = max(bytes-reserved[n.ID][name], 0)
			plain -= bytes
		}
		mine[string(corev1.ResourceMemory)] = max(plain-reserved[n.ID][string(corev1.ResourceMemory)], 0)
		all[n.ID] = mine
	}
	return all
}

// HugePages names the resource of huge pages of a size in bytes.
func HugePages(size int64) string {
	return corev1.ResourceHugePagesPrefix + resource.NewQuantity(size, resource.BinarySI).String()
}

// given is all that has been promised.
func (m *Manager) given() (all []numa.Block) {
	for _, containers := range m.grants {
		for _, blocks := range containers {
			all = append(all, blocks...)
		}
	}
	return all
}

// Commit writes what has been taken. Nobody may learn of it before.
func (m *Manager) Commit() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirty {
		return nil
	}
	return m.saveLocked()
}

// NodeSet is the NUMA nodes of a container as the kernel takes them, "0-1"; empty if it may use any.
func (m *Manager) NodeSet(uid types.UID, container string) string {
	var nodes numa.Set
	for _, b := range m.Blocks(uid, container) {
		nodes |= b.Nodes
	}
	return numa.FormatList(nodes.List())
}

// Blocks is what a container has been promised, Exclusive whether a pod has been promised anything.
func (m *Manager) Blocks(uid types.UID, container string) []numa.Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.grants[uid][container])
}

func (m *Manager) Exclusive(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.grants[uid] != nil
}

// Allocatable is what the nodes have for containers, a block for each resource of each node; none if the policy is None.
func (m *Manager) Allocatable() (blocks []numa.Block) {
	if m.c.Policy != Static {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(m.allocatable)) {
		for _, name := range slices.Sorted(maps.Keys(m.allocatable[id])) {
			if n := m.allocatable[id][name]; n > 0 {
				blocks = append(blocks, numa.Block{Resource: name, Nodes: numa.SetOf(id), Size: n})
			}
		}
	}
	return blocks
}

// Retain takes the promises to all pods back but those that keep says.
func (m *Manager) Retain(keep func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.grants)
	maps.DeleteFunc(m.grants, func(uid types.UID, _ map[string][]numa.Block) bool { return !keep(uid) })
	if len(m.grants) == n {
		return nil
	}
	return m.saveLocked()
}

// Release takes the promises to a pod back.
func (m *Manager) Release(uid types.UID) error {
	return m.Retain(func(other types.UID) bool { return other != uid })
}

func (m *Manager) saveLocked() error {
	data, err := json.Marshal(m.grants)
	if err == nil {
		err = durable.WriteFile(m.c.File, data, 0o600)
	}
	m.dirty = err != nil
	return err
}
