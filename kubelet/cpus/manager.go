// Package cpus gives containers CPUs of their own: the static policy of Kubernetes' CPU manager
// (https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/).
//
// A container of a Guaranteed pod that asks for whole CPUs has them alone, chosen by [numa.TakeCPUs] when its pod is admitted; all other
// containers share what is left. Reserved CPUs are given to nobody alone. What an init container has had is used again by those that come
// after it. Choices are a file that is written before anybody learns of them, so that they survive the kubelet.
//
//	m, err := cpus.New(cpus.Config{Policy: cpus.Static, File: "/var/lib/kubelet/cpu_manager.json", All: all, Reserved: []int{0}})
//	err = m.Take(pod, container, numa.Hint{})  // ErrUnavailable, SMTAlignmentError
//	err = m.Commit()
//	spec.Cpus = m.CPUSet(pod.UID, "container") // "2-3"
//	shared := m.CPUSet("", "")                 // what everybody else has now
//
// It is one of the providers that package topology asks.
package cpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/durable"
	"bareboat.dev/kubelet/numa"
)

// Policy is whether containers get CPUs of their own, as --cpu-manager-policy names it.
type Policy string

// The policies.
const (
	None   Policy = "none"
	Static Policy = "static"
)

// ErrUnavailable: there are not enough CPUs that nobody has alone.
var ErrUnavailable = errors.New("not enough cpus available to satisfy request")

// SMTAlignmentError: the option full-pcpus-only is set, and a container would share a core.
type SMTAlignmentError struct {
	Requested, PerCore int
	// Free is how many CPUs there are on cores that nobody has a part of, if there are too few of them; -1 if the request is not of whole
	// cores.
	Free int
}

// Error implements error, in upstream's words.
func (e SMTAlignmentError) Error() string {
	if e.Free >= 0 {
		return fmt.Sprintf("SMT Alignment Error: not enough free physical CPUs: available physical CPUs = %d, requested CPUs = %d, CPUs per core = %d", e.Free, e.Requested, e.PerCore)
	}
	return fmt.Sprintf("SMT Alignment Error: requested %d cpus not multiple cpus per core = %d", e.Requested, e.PerCore)
}

// Reason is that of a pod's status.
func (SMTAlignmentError) Reason() string { return "SMTAlignmentError" }

// Config is what a manager is told.
type Config struct {
	Policy  Policy
	Options Options
	// File holds what has been given away. Its directory must be there by the first Commit.
	File string
	// All are the host's CPUs, Reserved those that nobody gets alone.
	All      []numa.CPU
	Reserved []int
}

// Manager gives CPUs away. Its methods may be called from any number of goroutines. With the policy None it does nothing.
type Manager struct {
	c     Config
	nodes numa.Set

	mu sync.Mutex
	// grants are by pod and container; dirty says that they are not in the file as they are.
	grants map[types.UID]map[string][]int
	dirty  bool
}

// New makes a manager and reads what an earlier one gave away. It fails if that cannot be upheld: then the node must be drained, and the file
// removed.
func New(c Config) (*Manager, error) {
	m := &Manager{c: c, grants: map[types.UID]map[string][]int{}}
	for _, cpu := range c.All {
		m.nodes |= numa.SetOf(cpu.Node)
	}
	if c.Policy == Static && (len(c.Reserved) == 0 || len(c.Reserved) >= len(c.All)) {
		return nil, fmt.Errorf("the static policy needs some reserved CPUs, and others: of %d, %d are reserved", len(c.All), len(c.Reserved))
	}
	data, err := os.ReadFile(c.File)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m.grants)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read; remove it if no pod of this node has CPUs of its own: %w", c.File, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w; drain this node and remove %s before the kubelet starts again", err, c.File)
	}
	return m, nil
}

// check says what is wrong with what an earlier kubelet gave away.
func (m *Manager) check() error {
	for uid, containers := range m.grants {
		for name, ids := range containers {
			for _, id := range ids {
				switch {
				case m.c.Policy != Static:
					return fmt.Errorf("container %s of pod %s has CPUs of its own, but the CPU manager's policy is %s", name, uid, m.c.Policy)
				case slices.Contains(m.c.Reserved, id):
					return fmt.Errorf("container %s of pod %s has CPU %d, which is now reserved", name, uid, id)
				case !slices.ContainsFunc(m.c.All, func(c numa.CPU) bool { return c.ID == id }):
					return fmt.Errorf("container %s of pod %s has CPU %d, which this host no longer has", name, uid, id)
				}
			}
		}
	}
	return nil
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

// sharedLocked are the CPUs that nobody has alone.
func (m *Manager) sharedLocked() (ids []int) {
	given := map[int]bool{}
	for _, containers := range m.grants {
		for _, list := range containers {
			for _, id := range list {
				given[id] = true
			}
		}
	}
	for _, c := range m.c.All {
		if !given[c.ID] && !(m.c.Options.StrictReservation && slices.Contains(m.c.Reserved, c.ID)) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// CPUSet is the CPUs of a container as the kernel takes them, "0-3,8"; empty if the policy is None.
func (m *Manager) CPUSet(uid types.UID, container string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c.Policy != Static {
		return ""
	}
	if ids := m.grants[uid][container]; len(ids) > 0 {
		return numa.FormatList(ids)
	}
	return numa.FormatList(m.sharedLocked())
}

// Active says whether there is anything to keep up to date, Exclusive whether a pod has CPUs of its own.
func (m *Manager) Active() bool { return m.c.Policy == Static }
func (m *Manager) Exclusive(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.grants[uid] != nil
}

// Own are the CPUs that a container has alone, Allocatable those that containers may have alone.
func (m *Manager) Own(uid types.UID, container string) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.grants[uid][container])
}

func (m *Manager) Allocatable() (ids []int) {
	for _, c := range m.c.All {
		if m.c.Policy == Static && !slices.Contains(m.c.Reserved, c.ID) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// Retain gives the CPUs of all pods back but those that keep says.
func (m *Manager) Retain(keep func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.grants)
	maps.DeleteFunc(m.grants, func(uid types.UID, _ map[string][]int) bool { return !keep(uid) })
	if len(m.grants) == n {
		return nil
	}
	return m.saveLocked()
}

// Release gives a pod's CPUs back.
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
