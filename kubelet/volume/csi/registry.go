package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	storagev1 "k8s.io/api/storage/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/dirwatch"
	"bareboat.dev/kubelet/volume"
)

// API is what is needed of the API server. Errors that apierrors.IsNotFound recognizes mean that there is no such object.
type API interface {
	CSIDriver(ctx context.Context, name string) (*storagev1.CSIDriver, error)
	VolumeAttachment(ctx context.Context, name string) (*storagev1.VolumeAttachment, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	// Token asks for a token of the pod's service account.
	Token(ctx context.Context, p *corev1.Pod, audience string, seconds *int64) (volume.Token, error)
	// TellInUse makes the node's status say what [InUse] lists, and returns once it names v; with no v it only asks for it.
	TellInUse(ctx context.Context, v corev1.UniqueVolumeName) error
	// PublishDrivers makes the node's CSINode, labels and annotation say which drivers are there.
	PublishDrivers(ctx context.Context, drivers []storagev1.CSINodeDriver, labels map[string]string) error
}

// Config says where drivers register.
type Config struct {
	// Root is the kubelet's directory, /var/lib/kubelet.
	Root string
	// Node is the node's name.
	Node string
	API  API
	// Watches is how the sockets are followed; nil is fine.
	Watches *dirwatch.Source
	Log     *slog.Logger
}

const (
	// registerTries and registerPause are how often and how soon again a socket is tried that does not answer yet: a driver makes its
	// socket just before it listens. Afterwards it is tried again when the socket changes, or at the next publishRetry.
	registerTries = 5
	registerPause = time.Second
	// publishRetry is when what failed is tried again: a registration, or telling the API.
	publishRetry = 30 * time.Second
)

// Registry knows the drivers that are registered on this node.
type Registry struct {
	c Config

	mu      sync.Mutex
	drivers map[string]*driver // by the path of their registration socket
}

// NewRegistry makes a registry; it finds drivers while Run runs.
func NewRegistry(c Config) *Registry { return &Registry{c: c, drivers: map[string]*driver{}} }

// dir is where drivers make their registration sockets.
func (r *Registry) dir() string { return filepath.Join(r.c.Root, "plugins_registry") }

// Run keeps the drivers up to date until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	if err := os.MkdirAll(r.dir(), 0o750); err != nil {
		return err
	}
	w, err := r.c.Watches.Open(r.dir(), dirwatch.Names)
	if err != nil {
		return err
	}
	defer w.Close()
	defer r.closeAll()
	again := time.NewTimer(0)
	defer again.Stop()
	var seen map[string]fs.FileInfo
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, there := <-w.Changed():
			if !there {
				return fmt.Errorf("the directory of plug-ins' sockets %s was removed", r.dir())
			}
			now, err := dirwatch.Sockets(r.dir())
			if err == nil && maps.EqualFunc(now, seen, dirwatch.SameSocket) {
				continue // nothing that concerns us, or the directory is only looked at
			}
		case <-again.C:
		}
		if seen, err = r.sync(ctx); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if len(r.list()) == 0 {
				level = slog.LevelDebug // there is nothing that anybody waits to hear
			}
			r.c.Log.Log(ctx, level, "CSI drivers were not brought up to date", "error", err)
			again.Reset(publishRetry)
		}
	}
}

// sync registers the drivers whose sockets are there and tells the API of all. It returns the sockets.
func (r *Registry) sync(ctx context.Context) (map[string]fs.FileInfo, error) {
	sockets, err := dirwatch.Sockets(r.dir())
	if err != nil {
		return nil, err
	}
	for _, path := range r.paths() {
		if info := sockets[path]; info == nil || !dirwatch.SameSocket(info, r.at(path).socket) {
			r.drop(path)
		}
	}
	var all error
	for _, path := range slices.Sorted(maps.Keys(sockets)) {
		if r.at(path) != nil {
			continue
		}
		if err := r.register(ctx, path, sockets[path]); err != nil {
			r.c.Log.Warn("plug-in was not registered", "socket", path, "error", err)
			all = errors.Join(all, fmt.Errorf("%s: %w", path, err))
		}
	}
	return sockets, errors.Join(all, r.publish(ctx))
}

// register asks a socket what it is, and takes it in if it is a CSI driver. The driver is told how that went.
func (r *Registry) register(ctx context.Context, path string, socket fs.FileInfo) error {
	conn, err := dial(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := registration.NewRegistrationClient(conn)
	ctx, cancel := context.WithTimeout(ctx, registerTries*registerPause)
	defer cancel()
	info, err := client.GetInfo(ctx, &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("GetInfo: %w", err)
	}
	if info.GetType() != registration.CSIPlugin {
		return nil // a device plug-in's: not ours
	}
	d, err := r.accept(ctx, info)
	status := &registration.RegistrationStatus{PluginRegistered: err == nil}
	if err != nil {
		status.Error = err.Error()
	}
	if _, told := client.NotifyRegistrationStatus(ctx, status); err == nil && told != nil {
		d.close()
		return fmt.Errorf("NotifyRegistrationStatus: %w", told)
	}
	if err != nil {
		return err
	}
	d.socket = socket
	r.mu.Lock()
	old := r.drivers[path]
	r.drivers[path] = d
	r.mu.Unlock()
	if old != nil {
		old.close()
	}
	r.c.Log.Info("CSI driver registered", "driver", d.name, "endpoint", d.endpoint, "nodeID", d.nodeID)
	return nil
}

func (r *Registry) accept(ctx context.Context, info *registration.PluginInfo) (*driver, error) {
	if info.GetName() == "" || strings.ContainsAny(info.GetName(), "/\x00") || info.GetName() == ".." {
		return nil, fmt.Errorf("invalid driver name %q", info.GetName())
	}
	if !slices.ContainsFunc(info.GetSupportedVersions(), func(v string) bool { return strings.HasPrefix(strings.TrimPrefix(v, "v"), "1.") }) {
		return nil, fmt.Errorf("versions %v of CSI driver %s: none is 1.x", info.GetSupportedVersions(), info.GetName())
	}
	endpoint := info.GetEndpoint()
	if !filepath.IsAbs(endpoint) {
		return nil, fmt.Errorf("endpoint %q of CSI driver %s is not an absolute path", endpoint, info.GetName())
	}
	return open(ctx, info.GetName(), endpoint)
}

// publish tells the API which drivers are there.
func (r *Registry) publish(ctx context.Context) error {
	var drivers []storagev1.CSINodeDriver
	labels := map[string]string{}
	for _, d := range r.list() {
		n := storagev1.CSINodeDriver{Name: d.name, NodeID: d.nodeID}
		for key, value := range d.topology {
			n.TopologyKeys = append(n.TopologyKeys, key)
			labels[key] = value
		}
		slices.Sort(n.TopologyKeys)
		if d.maxVolumes > 0 {
			count := int32(min(d.maxVolumes, 1<<31-1))
			n.Allocatable = &storagev1.VolumeNodeResources{Count: &count}
		}
		drivers = append(drivers, n)
	}
	return r.c.API.PublishDrivers(ctx, drivers, labels)
}

// list returns the drivers, sorted by name.
func (r *Registry) list() []*driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*driver
	for _, d := range r.drivers {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *driver) int { return strings.Compare(a.name, b.name) })
	return all
}

// find returns a driver by its name.
func (r *Registry) find(name string) (*driver, error) {
	for _, d := range r.list() {
		if d.name == name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("driver name %s %w", name, ErrNoDriver)
}

func (r *Registry) at(path string) *driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drivers[path]
}

func (r *Registry) paths() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for path := range r.drivers {
		all = append(all, path)
	}
	return all
}

// drop forgets the driver of a socket.
func (r *Registry) drop(path string) {
	r.mu.Lock()
	d := r.drivers[path]
	delete(r.drivers, path)
	r.mu.Unlock()
	if d != nil {
		d.close()
		r.c.Log.Info("CSI driver gone", "driver", d.name)
	}
}

func (r *Registry) closeAll() {
	for _, path := range r.paths() {
		r.drop(path)
	}
}
