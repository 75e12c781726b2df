package device

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"bareboat.dev/kubelet/plugins"
)

// Register implements [plugins.Handler], of the type DevicePlugin: plug-ins may register by a socket of their own instead of calling the
// kubelet's. Their name is that of their resource.
func (h *handler) Register(ctx context.Context, p plugins.Plugin) error {
	switch {
	case !slices.Contains(p.Versions, api.Version):
		return fmt.Errorf("versions %v of device plug-in %s: none is %s", p.Versions, p.Name, api.Version)
	case !extended(p.Name):
		return fmt.Errorf("the ResourceName %q is invalid", p.Name)
	case !filepath.IsAbs(p.Endpoint):
		return fmt.Errorf("endpoint %q of device plug-in %s is not an absolute path", p.Endpoint, p.Name)
	}
	conn, err := grpc.NewClient("unix:"+p.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	options, err := api.NewDevicePluginClient(conn).GetDevicePluginOptions(ctx, &api.Empty{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("GetDevicePluginOptions: %w", err)
	}
	return h.m.plug(&plugin{resource: p.Name, endpoint: p.Endpoint, socket: p.Socket, options: options})
}

// Deregister implements [plugins.Handler].
func (h *handler) Deregister(socket string) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	for _, p := range h.m.plugins {
		if p.socket == socket {
			p.cancel()
		}
	}
}

// Synced implements [plugins.Handler].
func (h *handler) Synced() {}

// handler is the manager as a [plugins.Handler]; its own Register is that of the registration service.
type handler struct{ m *Manager }

// Handler takes device plug-ins in that register by a socket of their own.
func (m *Manager) Handler() plugins.Handler { return &handler{m} }
