package memory

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	helpers "k8s.io/component-helpers/resource"

	"bareboat.dev/kubelet/numa"
	"bareboat.dev/kubelet/pod"
)

// wanted is what a container is to be promised, by resource: memory and huge pages of Guaranteed pods. Pods with resources of their own are
// promised nothing (upstream's PodLevelResourceManagers is off).
func wanted(p *corev1.Pod, c *corev1.Container) map[string]int64 {
	if pod.QOSClass(&p.Spec) != corev1.PodQOSGuaranteed || helpers.IsPodLevelResourcesSet(p) {
		return nil
	}
	want := map[string]int64{}
	for name, q := range c.Resources.Requests {
		if name == corev1.ResourceMemory || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			if n := q.Value(); n > 0 {
				want[string(name)] = n
			}
		}
	}
	return want
}

// wantedByPod is what a pod's containers have at once, at most.
func wantedByPod(p *corev1.Pod) map[string]int64 {
	most, sidecars := map[string]int64{}, map[string]int64{}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		for name, n := range wanted(p, c) {
			if stays(c) {
				sidecars[name] += n
			} else {
				most[name] = max(most[name], sidecars[name]+n)
			}
		}
	}
	for i := range p.Spec.Containers {
		for name, n := range wanted(p, &p.Spec.Containers[i]) {
			sidecars[name] += n
		}
	}
	for name, n := range sidecars {
		most[name] = max(most[name], n)
	}
	return most
}

// stays says whether an init container goes on beside those that come after it.
func stays(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// Hints are the sets of NUMA nodes on which a container's memory, or all of a pod's if c is nil, could be; nil if it is promised none.
func (m *Manager) Hints(p *corev1.Pod, c *corev1.Container) map[string][]numa.Hint {
	if m.c.Policy != Static {
		return nil
	}
	want := wantedByPod(p)
	if c != nil {
		want = wanted(p, c)
	}
	if len(want) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	hints := numa.Memory{Allocatable: m.allocatable, Given: m.given()}.Hints(want, m.reusableLocked(p))
	if c != nil && m.grants[p.UID][c.Name] != nil {
		hints = []numa.Hint{{Nodes: m.grants[p.UID][c.Name][0].Nodes, Preferred: true}} // it has it from an earlier run
	}
	all := map[string][]numa.Hint{}
	for name := range want {
		all[name] = hints
	}
	return all
}

// Take promises a container its memory, near some nodes if it is to be near any. It is not saved before [Manager.Commit].
func (m *Manager) Take(p *corev1.Pod, c *corev1.Container, near numa.Hint) error {
	if m.c.Policy != Static {
		return nil
	}
	want := wanted(p, c)
	if len(want) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grants[p.UID][c.Name] != nil {
		return nil // it has its memory from an earlier run
	}
	blocks, err := numa.Memory{Allocatable: m.allocatable, Given: m.given()}.Take(want, near, m.reusableLocked(p))
	if err != nil {
		return err
	}
	for i := range blocks {
		m.inheritLocked(p, &blocks[i])
	}
	if m.grants[p.UID] == nil {
		m.grants[p.UID] = map[string][]numa.Block{}
	}
	m.grants[p.UID][c.Name], m.dirty = blocks, true
	return nil
}

// endedLocked are the blocks of a pod's init containers that have ended when the next container begins.
func (m *Manager) endedLocked(p *corev1.Pod) (blocks []*numa.Block) {
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; !stays(c) {
			mine := m.grants[p.UID][c.Name]
			for j := range mine {
				blocks = append(blocks, &mine[j])
			}
		}
	}
	return blocks
}

// reusableLocked tells what a pod's init containers leave to those after them, of a set of nodes and a resource.
func (m *Manager) reusableLocked(p *corev1.Pod) func(numa.Set, string) int64 {
	ended := m.endedLocked(p)
	return func(s numa.Set, resource string) (n int64) {
		for _, b := range ended {
			if b.Nodes == s && b.Resource == resource {
				for _, from := range b.From {
					n += from
				}
			}
		}
		return n
	}
}

// inheritLocked moves to a new block what it lacks, from the blocks of init containers.
func (m *Manager) inheritLocked(p *corev1.Pod, to *numa.Block) {
	lacks := to.Size
	for _, n := range to.From {
		lacks -= n
	}
	for _, b := range m.endedLocked(p) {
		if b.Nodes != to.Nodes || b.Resource != to.Resource {
			continue
		}
		for _, node := range slices.Sorted(maps.Keys(b.From)) {
			n := min(b.From[node], lacks)
			b.From[node], to.From[node], lacks = b.From[node]-n, to.From[node]+n, lacks-n
		}
	}
}
