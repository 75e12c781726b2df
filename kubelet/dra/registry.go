package dra

import (
	"context"
	"errors"
	"fmt"

	"bareboat.dev/kubelet/plugins"
)

// ErrNoDriver says that a driver is not registered on this node.
var ErrNoDriver = errors.New("not found among the registered DRA drivers")

// registered is a driver that has registered, by its socket.
type registered struct {
	plugin plugins.Plugin
	driver *driver
}

// find returns a driver by its name. If there are several, as while one is replaced, it is that of the newest socket.
func (m *Manager) find(name string) (*driver, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var newest registered
	for _, r := range m.drivers {
		if r.driver.name == name && (newest.driver == nil || r.plugin.Made.After(newest.plugin.Made)) {
			newest = r
		}
	}
	if newest.driver == nil {
		return nil, fmt.Errorf("driver name %s %w", name, ErrNoDriver)
	}
	return newest.driver, nil
}

// Register implements [plugins.Handler], of the type DRAPlugin. What has ended may be given back now.
func (m *Manager) Register(_ context.Context, p plugins.Plugin) error {
	d, err := accept(p)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.drivers[p.Socket] = registered{p, d}
	m.mu.Unlock()
	m.wake()
	return nil
}

// Deregister implements [plugins.Handler].
func (m *Manager) Deregister(socket string) {
	m.mu.Lock()
	r, is := m.drivers[socket]
	delete(m.drivers, socket)
	m.mu.Unlock()
	if is {
		r.driver.close()
	}
}

// Synced implements [plugins.Handler].
func (m *Manager) Synced() {}
