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

// Given are the devices that a container has, by resource; All are the healthy ones of every resource.
func (m *Manager) Given(uid types.UID, container string) map[string][]Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string][]Device{}
	for name, ids := range m.grants[uid][container] {
		for _, id := range ids {
			d := Device{ID: id} // of a plug-in that has not come back no more is known
			if p := m.plugins[name]; p != nil {
				if i := slices.IndexFunc(p.devices, func(d Device) bool { return d.ID == id }); i >= 0 {
					d = p.devices[i]
				}
			}
			all[name] = append(all[name], d)
		}
	}
	return all
}

func (m *Manager) All() map[string][]Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string][]Device{}
	for name, p := range m.plugins {
		for _, d := range p.devices {
			if d.Healthy {
				all[name] = append(all[name], d)
			}
		}
	}
	return all
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

func (m *Manager) saveLocked() error {
	err := m.save(checkpointName, m.grants)
	m.dirty = err != nil
	return err
}

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
