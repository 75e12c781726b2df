package agent

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/device"
)

// devicesOf is what a container gets from device plug-ins.
func (a *Agent) devicesOf(ctx context.Context, p *corev1.Pod, c *corev1.Container) (device.Grant, error) {
	return a.Devices.Prepare(ctx, p.UID, c.Name)
}

// grantMounts and grantEnv add what comes with devices; the container's own environment comes first.
func grantMounts(mounts []specs.Mount, g device.Grant) []specs.Mount {
	for _, m := range g.Mounts {
		mounts = append(mounts, bind(m.HostPath, m.ContainerPath, m.ReadOnly))
	}
	return mounts
}

func grantEnv(env []string, g device.Grant) []string {
	own := map[string]bool{}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		own[name] = true
	}
	for name, value := range g.Env {
		if !own[name] {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// addDevices makes device nodes in a container and lets it use them, those of CDI devices included.
func (a *Agent) addDevices(spec *specs.Spec, g device.Grant) error {
	for _, n := range g.Nodes {
		d, ok := deviceAt(n.HostPath)
		if !ok {
			return fmt.Errorf("device plug-in gives %s, which is no device of this host", n.HostPath)
		}
		if n.ContainerPath != "" {
			d.Path = n.ContainerPath
		}
		major, minor := d.Major, d.Minor
		spec.Linux.Devices = append(spec.Linux.Devices, d)
		spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices,
			specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &major, Minor: &minor, Access: n.Permissions})
	}
	if len(g.Annotations) > 0 && spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	for k, v := range g.Annotations {
		spec.Annotations[k] = v
	}
	if len(g.CDI) > 0 {
		return a.Claims.InjectCDI(spec, g.CDI...)
	}
	return nil
}
