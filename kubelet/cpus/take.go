package cpus

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	helpers "k8s.io/component-helpers/resource"

	"bareboat.dev/kubelet/numa"
	"bareboat.dev/kubelet/pod"
)

// wanted is how many CPUs a container is to have alone: those of Guaranteed pods that ask for whole ones. Pods with resources of their own
// have none (upstream's PodLevelResourceManagers is off).
func wanted(p *corev1.Pod, c *corev1.Container) int {
	const whole = 1000
	milli := c.Resources.Requests.Cpu().MilliValue()
	if milli%whole != 0 || pod.QOSClass(&p.Spec) != corev1.PodQOSGuaranteed || helpers.IsPodLevelResourcesSet(p) {
		return 0
	}
	return int(milli / whole)
}

// wantedByPod is how many CPUs a pod's containers have alone at once, at most.
func wantedByPod(p *corev1.Pod) int {
	most, sidecars := 0, 0
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		n := wanted(p, c)
		if stays(c) {
			sidecars += n
		} else {
			most = max(most, sidecars+n)
		}
	}
	apps := 0
	for i := range p.Spec.Containers {
		apps += wanted(p, &p.Spec.Containers[i])
	}
	return max(most, sidecars+apps)
}

// stays says whether an init container goes on beside those that come after it.
func stays(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// Hints are the sets of NUMA nodes on which a container's CPUs, or all of a pod's if c is nil, could be; nil if it is to have none alone.
func (m *Manager) Hints(p *corev1.Pod, c *corev1.Container) map[string][]numa.Hint {
	if m.c.Policy != Static {
		return nil
	}
	n := wantedByPod(p)
	if c != nil {
		n = wanted(p, c)
	}
	if n == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := m.reusableLocked(p)
	free := m.freeLocked()
	if c != nil && m.grants[p.UID][c.Name] != nil {
		keep, free = m.grants[p.UID][c.Name], nil // it has them from an earlier run
	}
	hints, least := numa.Hints(m.nodes, func(s numa.Set) (could, can bool) {
		all, kept, left := 0, 0, 0
		for _, cpu := range m.c.All {
			if s.Has(cpu.Node) {
				all++
				if slices.Contains(keep, cpu.ID) {
					kept++
				} else if slices.Contains(free, cpu.ID) {
					left++
				}
			}
		}
		return all >= n, kept == len(keep) && kept+left >= n
	})
	if m.c.Options.BySocket {
		for i := range hints {
			hints[i].Preferred = hints[i].Preferred || numa.SocketAligned(m.c.All, hints[i].Nodes, least)
		}
	}
	return map[string][]numa.Hint{string(corev1.ResourceCPU): hints}
}

// Take chooses the CPUs of a container, if it is to have any alone, near some nodes if it is to be near any. It is not saved before [Manager.Commit].
func (m *Manager) Take(p *corev1.Pod, c *corev1.Container, near numa.Hint) error {
	n := wanted(p, c)
	if m.c.Policy != Static || n == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grants[p.UID][c.Name] != nil {
		return nil // it has its CPUs from an earlier run
	}
	keep, free := m.reusableLocked(p), m.freeLocked()
	if err := m.alignedLocked(n, len(keep)); err != nil {
		return err
	}
	if len(keep)+len(free) < n {
		return fmt.Errorf("%w: requested=%d, available=%d", ErrUnavailable, n, len(keep)+len(free))
	}
	ids, _ := numa.TakeCPUs(m.c.All, keep, min(n, len(keep)), near.Nodes, m.c.Options.CPUOptions)
	more, _ := numa.TakeCPUs(m.c.All, free, n-len(ids), near.Nodes, m.c.Options.CPUOptions)
	if m.grants[p.UID] == nil {
		m.grants[p.UID] = map[string][]int{}
	}
	m.grants[p.UID][c.Name], m.dirty = append(ids, more...), true
	return nil
}

// alignedLocked refuses what would share a core, if nobody may: kept are CPUs that the pod has already.
func (m *Manager) alignedLocked(n, kept int) error {
	if !m.c.Options.FullCores {
		return nil
	}
	if per := numa.ThreadsPerCore(m.c.All); n%per != 0 {
		return SMTAlignmentError{Requested: n, PerCore: per, Free: -1}
	} else if free := len(without(m.sharedLocked(), numa.Siblings(m.c.All, m.c.Reserved))); n > free+kept {
		return SMTAlignmentError{Requested: n, PerCore: per, Free: free}
	}
	return nil
}

// reusableLocked are the CPUs of a pod's init containers that have ended when the next one begins, and that no other container has since.
func (m *Manager) reusableLocked(p *corev1.Pod) (ids []int) {
	var held []int
	lasting := map[string]bool{}
	for i := range p.Spec.InitContainers {
		lasting[p.Spec.InitContainers[i].Name] = stays(&p.Spec.InitContainers[i])
	}
	for name, list := range m.grants[p.UID] {
		if stays, is := lasting[name]; is && !stays {
			ids = append(ids, list...)
		} else {
			held = append(held, list...)
		}
	}
	slices.Sort(ids)
	return without(slices.Compact(ids), held)
}

// freeLocked are the CPUs that may be given to a container alone.
func (m *Manager) freeLocked() []int { return without(m.sharedLocked(), m.c.Reserved) }

func without(ids, others []int) []int {
	return slices.DeleteFunc(ids, func(id int) bool { return slices.Contains(others, id) })
}
