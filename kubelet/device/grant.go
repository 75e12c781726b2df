package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"bareboat.dev/kubelet/durable"
)

// ErrUnavailable: there are not enough healthy devices that nobody has.
var ErrUnavailable = errors.New("devices are unavailable")

// grants is what has been given away: pod, container, resource, devices.
type grants map[types.UID]map[string]map[string][]string

// Grant is what a container gets with its devices.
type Grant struct {
	// Env, Annotations and CDI devices as plug-ins give them.
	Env, Annotations map[string]string
	Mounts           []Mount
	Nodes            []Node
	CDI              []string
}

// Mount is a file or folder of the host.
type Mount struct {
	HostPath, ContainerPath string
	ReadOnly                bool
}

// Node is a device node; Permissions are some of r, w and m.
type Node struct {
	HostPath, ContainerPath, Permissions string
}

// demand is what a container asks for of resources that plug-ins look after.
func demand(c *corev1.Container, known map[string]bool) map[string]int {
	want := map[string]int{}
	for name, q := range c.Resources.Limits {
		if known[string(name)] && q.Value() > 0 {
			want[string(name)] = int(q.Value())
		}
	}
	return want
}

// Reserve chooses the devices of a pod that is admitted. [ErrUnavailable]; then it has none.
func (m *Manager) Reserve(p *corev1.Pod) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grants[p.UID] != nil {
		return nil // it has its devices from an earlier run
	}
	pod := map[string]map[string][]string{}
	// What an init container has had is used again; what a sidecar has, it keeps.
	reusable := map[string][]string{}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			c := &list[i]
			for name, n := range demand(c, m.resources) {
				ids, err := m.chooseLocked(pod, reusable[name], name, n)
				if err != nil {
					return err
				}
				if pod[c.Name] == nil {
					pod[c.Name] = map[string][]string{}
				}
				pod[c.Name][name] = ids
				switch {
				case i < len(p.Spec.InitContainers) && &p.Spec.InitContainers[i] == c && !sidecar(c):
					reusable[name] = union(reusable[name], ids)
				default:
					reusable[name] = minus(reusable[name], ids)
				}
			}
		}
	}
	if len(pod) == 0 {
		return nil
	}
	if m.grants == nil {
		m.grants = grants{}
	}
	m.grants[p.UID] = pod
	if err := m.saveLocked(); err != nil {
		delete(m.grants, p.UID)
		return err
	}
	return nil
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(id string) bool { return slices.Contains(b, id) })
}

// chooseLocked picks devices for a container of a pod whose earlier containers have those of pod, of which reusable may be used again.
func (m *Manager) chooseLocked(pod map[string]map[string][]string, reusable []string, name string, n int) ([]string, error) {
	taken := map[string]bool{}
	mark := func(containers map[string]map[string][]string) {
		for _, resources := range containers {
			for _, id := range resources[name] {
				taken[id] = true
			}
		}
	}
	for _, containers := range m.grants {
		mark(containers)
	}
	mark(pod)
	for _, id := range reusable {
		delete(taken, id)
	}
	p := m.plugins[name]
	if p == nil || p.healthy() == 0 {
		return nil, fmt.Errorf("%w: no healthy devices present; cannot allocate unhealthy devices %s", ErrUnavailable, name)
	}
	ids, ok := Choose(p.devices, taken, reusable, nil, n)
	if !ok {
		free := 0
		for _, d := range p.devices {
			if d.Healthy && !taken[d.ID] {
				free++
			}
		}
		return nil, fmt.Errorf("%w: requested number of devices unavailable for %s. Requested: %d, Available: %d", ErrUnavailable, name, n, free)
	}
	return ids, nil
}

// Prepare asks the plug-ins for what a container needs to use its devices. A container without devices gets nothing.
func (m *Manager) Prepare(ctx context.Context, uid types.UID, container string) (Grant, error) {
	m.mu.Lock()
	resources := m.grants[uid][container]
	m.mu.Unlock()
	g := Grant{Env: map[string]string{}, Annotations: map[string]string{}}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	for name, ids := range resources {
		p, ok := m.pluginOf(name)
		if !ok {
			return g, fmt.Errorf("%w: the plug-in of %s has not registered since the kubelet started", ErrUnavailable, name)
		}
		answer, err := p.client.Allocate(ctx, &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: ids}}})
		if err == nil && len(answer.GetContainerResponses()) != 1 {
			err = fmt.Errorf("it answered for %d containers, want 1", len(answer.GetContainerResponses()))
		}
		if err == nil && p.options.GetPreStartRequired() {
			_, err = p.client.PreStartContainer(ctx, &api.PreStartContainerRequest{DevicesIds: ids})
		}
		if err != nil {
			return g, fmt.Errorf("device plug-in of %s: %w", name, err)
		}
		g.add(answer.GetContainerResponses()[0])
	}
	return g, nil
}

func (g *Grant) add(r *api.ContainerAllocateResponse) {
	for k, v := range r.GetEnvs() {
		g.Env[k] = v
	}
	for k, v := range r.GetAnnotations() {
		g.Annotations[k] = v
	}
	for _, mount := range r.GetMounts() {
		g.Mounts = append(g.Mounts, Mount{mount.GetHostPath(), mount.GetContainerPath(), mount.GetReadOnly()})
	}
	for _, d := range r.GetDevices() {
		g.Nodes = append(g.Nodes, Node{d.GetHostPath(), d.GetContainerPath(), d.GetPermissions()})
	}
	for _, d := range r.GetCdiDevices() {
		g.CDI = append(g.CDI, d.GetName())
	}
}

// Release frees a pod's devices.
func (m *Manager) Release(uid types.UID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grants[uid] == nil {
		return nil
	}
	delete(m.grants, uid)
	return m.saveLocked()
}

// Retain frees the devices of all pods but those that keep says.
func (m *Manager) Retain(keep func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.grants)
	for uid := range m.grants {
		if !keep(uid) {
			delete(m.grants, uid)
		}
	}
	if len(m.grants) == n {
		return nil
	}
	return m.saveLocked()
}

func (m *Manager) saveLocked() error { return m.save(checkpointName, m.grants) }

func (m *Manager) save(name string, content any) error {
	data, err := json.Marshal(content)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.c.Dir, 0o750); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(m.c.Dir, name), data, 0o600)
}

func readGrants(path string) (grants, error) {
	g := grants{}
	if err := readJSON(path, &g); err != nil {
		return nil, fmt.Errorf("%s cannot be read; remove it if no pod of this node has devices: %w", path, err)
	}
	return g, nil
}

// readJSON reads a file into content; a file that is not there leaves it as it is.
func readJSON(path string, content any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, content)
}
