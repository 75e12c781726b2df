// Package cpus gives containers CPUs of their own: the static policy of Kubernetes' CPU manager
// (https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/).
//
// A container of a Guaranteed pod that asks for whole CPUs has them alone, chosen by [numa.TakeCPUs] when its pod is admitted; all other
// containers share what is left. Reserved CPUs are given to nobody alone. Choices are a file that is written before anybody learns of
// them, so that they survive the kubelet.
//
//	m, err := cpus.New(cpus.Config{Policy: cpus.Static, File: "/var/lib/kubelet/cpu_manager.json", All: all, Reserved: []int{0}})
//	err = m.Reserve(pod)                       // ErrUnavailable
//	spec.Cpus = m.CPUSet(pod.UID, "container") // "2-3"
//	shared := m.Shared()                       // what everybody else has now
package cpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/durable"
	"bareboat.dev/kubelet/numa"
	"bareboat.dev/kubelet/pod"
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

// Config is what a manager is told.
type Config struct {
	Policy Policy
	// File holds what has been given away. Its directory must be there by the first Reserve.
	File string
	// All are the host's CPUs, Reserved those that nobody gets alone.
	All      []numa.CPU
	Reserved []int
}

// Manager gives CPUs away. Its methods may be called from any number of goroutines. With the policy None it does nothing.
type Manager struct {
	c  Config
	mu sync.Mutex
	// grants are by pod and container.
	grants map[types.UID]map[string][]int
}

// New makes a manager and reads what an earlier one gave away.
func New(c Config) (*Manager, error) {
	m := &Manager{c: c, grants: map[types.UID]map[string][]int{}}
	if c.Policy != Static {
		return m, nil
	}
	if len(c.Reserved) == 0 || len(c.Reserved) >= len(c.All) {
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
	return m, nil
}

// Reserve chooses the CPUs of a pod that is admitted. [ErrUnavailable]; then it has none.
func (m *Manager) Reserve(p *corev1.Pod) error {
	if m.c.Policy != Static || pod.QOSClass(&p.Spec) != corev1.PodQOSGuaranteed {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grants[p.UID] != nil {
		return nil // it has its CPUs from an earlier run
	}
	mine := map[string][]int{}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			if err := m.takeLocked(c, mine); err != nil {
				return err
			}
		}
	}
	for i := range p.Spec.Containers {
		if err := m.takeLocked(&p.Spec.Containers[i], mine); err != nil {
			return err
		}
	}
	if len(mine) == 0 {
		return nil
	}
	m.grants[p.UID] = mine
	if err := m.saveLocked(); err != nil {
		delete(m.grants, p.UID)
		return err
	}
	return nil
}

// takeLocked chooses the CPUs of one container, if it is to have any alone. Init containers that end share: their pod's others have not
// begun by then.
func (m *Manager) takeLocked(c *corev1.Container, mine map[string][]int) error {
	milli := c.Resources.Limits.Cpu().MilliValue()
	const whole = 1000
	if milli < whole || milli%whole != 0 {
		return nil
	}
	free := m.freeLocked()
	for _, ids := range mine {
		free = slices.DeleteFunc(free, func(id int) bool { return slices.Contains(ids, id) })
	}
	n := int(milli / whole)
	ids, ok := numa.TakeCPUs(m.c.All, free, n, nil)
	if !ok {
		return fmt.Errorf("%w: requested=%d, available=%d", ErrUnavailable, n, len(free))
	}
	mine[c.Name] = ids
	return nil
}

// freeLocked are the CPUs that may be given to a container alone.
func (m *Manager) freeLocked() []int {
	return slices.DeleteFunc(m.sharedLocked(), func(id int) bool { return slices.Contains(m.c.Reserved, id) })
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
		if !given[c.ID] {
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
		return Format(ids)
	}
	return Format(m.sharedLocked())
}

// Active says whether there is anything to keep up to date, Exclusive whether a pod has CPUs of its own.
func (m *Manager) Active() bool { return m.c.Policy == Static }
func (m *Manager) Exclusive(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.grants[uid] != nil
}

// Shared is the set of those that have none of their own.
func (m *Manager) Shared() string { return m.CPUSet("", "") }

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
	if err != nil {
		return err
	}
	return durable.WriteFile(m.c.File, data, 0o600)
}

// Format writes a list as the kernel reads it (cpuset(7)).
func Format(ids []int) string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		if part := strconv.Itoa(ids[i]); i == j {
			parts = append(parts, part)
		} else {
			parts = append(parts, part+"-"+strconv.Itoa(ids[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// Parse reads what Format writes.
func Parse(text string) (ids []int, err error) {
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		if part == "" {
			continue
		}
		low, high, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(low)
		b := a
		if err == nil && ranged {
			b, err = strconv.Atoi(high)
		}
		const most = 1 << 13 // CPUs that Linux can be built for
		if err != nil || a < 0 || b < a || b >= most {
			return nil, fmt.Errorf("%q: want a list of CPUs such as 0-3,8", text)
		}
		for id := a; id <= b; id++ {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
