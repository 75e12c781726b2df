package csi

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"bareboat.dev/kubelet/plugins"
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

// Config is what a registry is told.
type Config struct {
	// Root is the kubelet's directory, /var/lib/kubelet.
	Root string
	// Node is the node's name.
	Node string
	API  API
	Log  *slog.Logger
}

const (
	// publishRetry is when telling the API is tried again.
	publishRetry = 30 * time.Second
	// periodEvery is how often it is looked whether drivers want to be asked again and again how many volumes they can have here.
	periodEvery = 5 * time.Minute
)

// Registry knows the drivers that are registered on this node.
type Registry struct {
	c Config
	// changed asks for the API to be told of the drivers.
	changed chan struct{}

	mu      sync.Mutex
	drivers map[string]*driver // by the path of their registration socket
}

// NewRegistry makes a registry; the API is told of its drivers while Run runs.
func NewRegistry(c Config) *Registry {
	return &Registry{c: c, changed: make(chan struct{}, 1), drivers: map[string]*driver{}}
}

// Run tells the API of the drivers until ctx ends. It begins when it is known which there are.
func (r *Registry) Run(ctx context.Context) error {
	again, recount := time.NewTimer(publishRetry), time.NewTimer(0)
	again.Stop()
	recount.Stop()
	defer again.Stop()
	defer recount.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
			next, _ := r.recount(ctx)
			recount.Reset(next)
		case <-again.C:
		case <-recount.C:
			next, changed := r.recount(ctx)
			if recount.Reset(next); !changed {
				continue
			}
		}
		if err := r.publish(ctx); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if len(r.list()) == 0 {
				level = slog.LevelDebug // there is nothing that anybody waits to hear
			}
			r.c.Log.Log(ctx, level, "CSI drivers were not published", "error", err)
			again.Reset(publishRetry)
		}
	}
}

// recount asks drivers how many volumes they can have here that want to be asked (CSIDriver.spec.nodeAllocatableUpdatePeriodSeconds). It returns
// when to do so again, and whether any has said another number.
func (r *Registry) recount(ctx context.Context) (next time.Duration, changed bool) {
	next = periodEvery
	for _, d := range r.list() {
		object, err := r.object(ctx, d.name)
		if err != nil || object.Spec.NodeAllocatableUpdatePeriodSeconds == nil {
			continue
		}
		next = min(next, time.Duration(*object.Spec.NodeAllocatableUpdatePeriodSeconds)*time.Second)
		other, err := r.count(ctx, d)
		if changed = changed || other; err != nil {
			r.c.Log.Warn("CSI driver does not say how many volumes it can have here", "driver", d.name, "error", err)
		}
	}
	return next, changed
}

// count asks a driver how many volumes it can have here, and says whether that is another number than before.
func (r *Registry) count(ctx context.Context, d *driver) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, measureLimit)
	defer cancel()
	info, err := d.node.NodeGetInfo(ctx, &spec.NodeGetInfoRequest{})
	if err != nil {
		return false, fmt.Errorf("NodeGetInfo: %w", err)
	}
	if info.GetMaxVolumesPerNode() == d.maxVolumes {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for socket, known := range r.drivers {
		if known == d {
			other := *d
			other.maxVolumes, changed = info.GetMaxVolumesPerNode(), true
			r.drivers[socket] = &other
		}
	}
	return changed, nil
}

// Register implements [plugins.Handler], of the type CSIPlugin.
func (r *Registry) Register(ctx context.Context, p plugins.Plugin) error {
	if p.Name == "" || strings.ContainsAny(p.Name, "/\x00") || p.Name == ".." {
		return fmt.Errorf("invalid driver name %q", p.Name)
	}
	if !slices.ContainsFunc(p.Versions, func(v string) bool { return strings.HasPrefix(strings.TrimPrefix(v, "v"), "1.") }) {
		return fmt.Errorf("versions %v of CSI driver %s: none is 1.x", p.Versions, p.Name)
	}
	if !filepath.IsAbs(p.Endpoint) {
		return fmt.Errorf("endpoint %q of CSI driver %s is not an absolute path", p.Endpoint, p.Name)
	}
	d, err := open(ctx, p.Name, p.Endpoint)
	if err != nil {
		return err
	}
	d.made = p.Made
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drivers[p.Socket] = d
	return nil
}

// Deregister implements [plugins.Handler].
func (r *Registry) Deregister(socket string) {
	r.mu.Lock()
	d := r.drivers[socket]
	delete(r.drivers, socket)
	r.mu.Unlock()
	if d != nil {
		d.close()
	}
}

// Synced implements [plugins.Handler]. The API is told only then: at the start, drivers that are about to register are not to be missed.
func (r *Registry) Synced() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
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

// list returns the drivers, sorted by name. If there are several of one name, as while one is replaced, it is that of the newest socket.
func (r *Registry) list() []*driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest := map[string]*driver{}
	for _, d := range r.drivers {
		if old := newest[d.name]; old == nil || d.made.After(old.made) {
			newest[d.name] = d
		}
	}
	return slices.SortedFunc(maps.Values(newest), func(a, b *driver) int { return strings.Compare(a.name, b.name) })
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
