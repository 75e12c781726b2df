package dra

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// Inject gives a container the devices of the claims that it names. The claims are prepared.
func (m *Manager) Inject(spec *specs.Spec, p *corev1.Pod, c *corev1.Container) error {
	ids, err := m.devicesOf(p, c)
	if err != nil {
		return err
	}
	return m.InjectCDI(spec, ids...)
}

// InjectCDI gives a container CDI devices by their names, vendor/class=name. The files are read each time: drivers write them for each
// claim.
func (m *Manager) InjectCDI(spec *specs.Spec, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	options := []cdi.Option{cdi.WithAutoRefresh(false)}
	if len(m.c.CDI) > 0 {
		options = append(options, cdi.WithSpecDirs(m.c.CDI...))
	}
	cache, err := cdi.NewCache(options...)
	if err != nil {
		return fmt.Errorf("read CDI files: %w", err)
	}
	if _, err := cache.InjectDevices(spec, ids...); err != nil {
		return fmt.Errorf("CDI device injection failed: %w", err)
	}
	return nil
}
