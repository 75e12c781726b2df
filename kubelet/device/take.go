package device

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	helpers "k8s.io/component-helpers/resource"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"bareboat.dev/kubelet/numa"
)

// demandLocked is what a container asks for, or a pod if c is nil, of resources that plug-ins look after. Those that a resource claim gives it
// (KEP-5004) are not.
func (m *Manager) demandLocked(p *corev1.Pod, c *corev1.Container) map[string]int {
	limits := corev1.ResourceList{}
	if c != nil {
		limits = c.Resources.Limits
	} else if len(m.resources) > 0 {
		limits = helpers.PodLimits(p, helpers.PodResourcesOptions{ExcludeOverhead: true})
	}
	want := map[string]int{}
	for name, q := range limits {
		if m.resources[string(name)] && q.Value() > 0 && !claimed(p, c, name) {
			want[string(name)] = int(q.Value())
		}
	}
	return want
}

// claimed says whether a resource claim gives a container an extended resource; any container of the pod if c is nil.
func claimed(p *corev1.Pod, c *corev1.Container, name corev1.ResourceName) bool {
	s := p.Status.ExtendedResourceClaimStatus
	return s != nil && slices.ContainsFunc(s.RequestMappings, func(r corev1.ContainerExtendedResourceRequest) bool {
		return r.ResourceName == string(name) && (c == nil || r.ContainerName == c.Name)
	})
}

// requestLocked is what a container, or a pod if c is nil, is to get of a resource beside what others have.
func (m *Manager) requestLocked(p *corev1.Pod, c *corev1.Container, name string, n int) Request {
	r := Request{Taken: map[string]bool{}, N: n}
	if plugin := m.plugins[name]; plugin != nil {
		r.Devices = slices.Clone(plugin.devices)
	}
	for _, containers := range m.grants {
		for _, resources := range containers {
			for _, id := range resources[name] {
				r.Taken[id] = true
			}
		}
	}
	if c != nil && m.grants[p.UID][c.Name][name] != nil {
		r.Keep = m.grants[p.UID][c.Name][name] // it has them from an earlier run
	} else {
		r.Keep = m.reusableLocked(p, name)
	}
	return r
}

// reusableLocked are the devices of a pod's init containers that have ended when the next one begins, and that no other container has since.
func (m *Manager) reusableLocked(p *corev1.Pod, name string) (ids []string) {
	var held []string
	lasting := map[string]bool{}
	for i := range p.Spec.InitContainers {
		lasting[p.Spec.InitContainers[i].Name] = sidecar(&p.Spec.InitContainers[i])
	}
	for container, resources := range m.grants[p.UID] {
		if stays, is := lasting[container]; is && !stays {
			ids = append(ids, resources[name]...)
		} else {
			held = append(held, resources[name]...)
		}
	}
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return slices.Contains(held, id) })
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// Hints are the sets of NUMA nodes that a container's devices could be near to, by resource; those of all of a pod's if c is nil.
func (m *Manager) Hints(p *corev1.Pod, c *corev1.Container) map[string][]numa.Hint {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string][]numa.Hint{}
	for name, n := range m.demandLocked(p, c) {
		all[name] = m.requestLocked(p, c, name, n).Hints(m.c.Nodes)
	}
	return all
}

// Take chooses a container's devices, near some nodes if it is to be near any. They are not saved before [Manager.Commit]. [ErrUnavailable].
// It must not be called twice at once: plug-ins are asked which devices they prefer without holding anything up.
func (m *Manager) Take(p *corev1.Pod, c *corev1.Container, near numa.Hint) error {
	m.mu.Lock()
	want := m.demandLocked(p, c)
	m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		m.mu.Lock()
		have := m.grants[p.UID][c.Name][name] != nil
		r, plugin := m.requestLocked(p, c, name, want[name]), m.plugins[name]
		m.mu.Unlock()
		if have {
			continue // it has them from an earlier run
		}
		if plugin == nil || !slices.ContainsFunc(r.Devices, func(d Device) bool { return d.Healthy }) {
			return fmt.Errorf("%w: no healthy devices present; cannot allocate unhealthy devices %s", ErrUnavailable, name)
		}
		if free := len(r.free()); free < r.N {
			return fmt.Errorf("%w: requested number of devices unavailable for %s. Requested: %d, Available: %d", ErrUnavailable, name, r.N, free)
		}
		r.Near = near.Nodes
		ids, err := Choose(r, plugin.advise())
		if err != nil {
			return err
		}
		m.give(p, c, name, ids)
	}
	return nil
}

func (m *Manager) give(p *corev1.Pod, c *corev1.Container, name string, ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grants[p.UID] == nil {
		m.grants[p.UID] = map[string]map[string][]string{}
	}
	if m.grants[p.UID][c.Name] == nil {
		m.grants[p.UID][c.Name] = map[string][]string{}
	}
	m.grants[p.UID][c.Name][name], m.dirty = ids, true
}

// advise asks the plug-in which devices it prefers; nil if it has no preference.
func (p *plugin) advise() func(available, must []string, n int) ([]string, error) {
	if !p.options.GetGetPreferredAllocationAvailable() {
		return nil
	}
	return func(available, must []string, n int) ([]string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), adviceLimit)
		defer cancel()
		answer, err := p.client.GetPreferredAllocation(ctx, &api.PreferredAllocationRequest{ContainerRequests: []*api.ContainerPreferredAllocationRequest{
			{AvailableDeviceIDs: available, MustIncludeDeviceIDs: must, AllocationSize: int32(n)},
		}})
		if err != nil {
			return nil, fmt.Errorf("device plugin GetPreferredAllocation rpc failed with err: %w", err)
		}
		if len(answer.GetContainerResponses()) == 0 {
			return nil, nil
		}
		return answer.GetContainerResponses()[0].GetDeviceIDs(), nil
	}
}

// Commit saves what has been taken. Nobody may learn of it before.
func (m *Manager) Commit() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirty {
		return nil
	}
	return m.saveLocked()
}
