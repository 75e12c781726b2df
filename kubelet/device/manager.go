package device

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"bareboat.dev/kubelet/numa"
)

const (
	// socketName is the registration socket's; plug-ins know it.
	socketName = "kubelet.sock"
	// checkpointName is the file of what has been given to whom, resourcesName that of the resources that plug-ins have ever registered for.
	checkpointName = "bareboat_checkpoint.json"
	resourcesName  = "bareboat_resources.json"
	// resourcesMax bounds the resources of one node: hosts have a handful, and plug-ins that make names up must not fill the disk.
	resourcesMax = 1 << 10
	// DefaultGrace is how long the devices of a plug-in that has gone still count as the node's, unhealthy: plug-ins are upgraded meanwhile
	// (upstream's endpoint grace period).
	DefaultGrace = 5 * time.Minute
	// callLimit bounds a call to a plug-in (upstream's limit of PreStartContainer; Allocate has none there).
	callLimit = api.KubeletPreStartContainerRPCTimeoutInSecs * time.Second
	// adviceLimit bounds asking a plug-in which devices it prefers: the admission of all pods waits for it. Plug-ins decide by a table.
	adviceLimit = 5 * time.Second
	// devicesMax bounds what a plug-in may tell of: a message of that many devices is a few MB.
	devicesMax = 1 << 16
)

// Config is what a manager is told.
type Config struct {
	// Dir holds the sockets and the checkpoint.
	Dir string
	Log *slog.Logger
	// Nodes are the host's NUMA nodes; none if devices need not be near anything.
	Nodes numa.Set
	// Changed is called when what the node has may have changed.
	Changed func()
	// Grace is how long the devices of a plug-in that has gone still count as the node's; 0 for DefaultGrace.
	Grace time.Duration
}

// Manager follows plug-ins and gives their devices away. Its methods may be called from any number of goroutines.
type Manager struct {
	api.UnimplementedRegistrationServer
	c Config

	mu sync.Mutex
	// plugins are those that have registered since the kubelet started, by the name of their resource.
	plugins map[string]*plugin
	// resources are those that plug-ins have registered for, in this run or an earlier one; saved whenever there is a new one.
	resources map[string]bool
	// grants is what has been given away; dirty says that it is not in the file as it is.
	grants grants
	dirty  bool
	run    context.Context
	wg     sync.WaitGroup
}

// plugin is one registration.
type plugin struct {
	resource string
	// endpoint is the path of its socket, and socket that of its registration if that is another.
	endpoint, socket string
	options          *api.DevicePluginOptions
	conn             *grpc.ClientConn
	client           api.DevicePluginClient
	cancel           context.CancelFunc
	// devices are what it has told last; none of them healthy once it has gone, and none at all when it has not come back in time.
	devices []Device
	// expiry ends what it has told of when it has gone; nil while it is there.
	expiry *time.Timer
}

// New makes a manager and reads what an earlier one gave away.
func New(c Config) (*Manager, error) {
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	m := &Manager{c: c, plugins: map[string]*plugin{}}
	var err error
	if m.resources, err = readResources(filepath.Join(c.Dir, resourcesName)); err != nil {
		return nil, err
	}
	m.grants, err = readGrants(filepath.Join(c.Dir, checkpointName))
	return m, err
}

// Run serves registrations until ctx ends. Plug-ins that were there before register again when they see that the socket is new.
func (m *Manager) Run(ctx context.Context) error {
	if err := os.MkdirAll(m.c.Dir, 0o750); err != nil {
		return err
	}
	if err := removeSockets(m.c.Dir); err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(m.c.Dir, socketName))
	if err != nil {
		return fmt.Errorf("device plug-ins' registration: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	m.run = ctx
	m.mu.Unlock()
	s := grpc.NewServer()
	api.RegisterRegistrationServer(s, m)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	err = s.Serve(l)
	cancel()
	m.wg.Wait()
	m.mu.Lock()
	for _, p := range m.plugins {
		p.keepLocked()
	}
	m.mu.Unlock()
	if errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}
	return err
}

// removeSockets removes the sockets of an earlier run: that is how plug-ins know that they must register again.
func removeSockets(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSocket != 0 {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// Register implements the registration service.
func (m *Manager) Register(_ context.Context, r *api.RegisterRequest) (*api.Empty, error) {
	switch {
	case r.GetVersion() != api.Version:
		return nil, status.Errorf(codes.InvalidArgument, "requested API version %q is not supported by kubelet. Supported version is %q", r.GetVersion(), api.SupportedVersions)
	case !extended(r.GetResourceName()):
		return nil, status.Errorf(codes.InvalidArgument, "the ResourceName %q is invalid", r.GetResourceName())
	case r.GetEndpoint() == "" || r.GetEndpoint() != filepath.Base(r.GetEndpoint()) || r.GetEndpoint() == socketName:
		return nil, status.Errorf(codes.InvalidArgument, "endpoint %q is not the name of a socket beside %s", r.GetEndpoint(), socketName)
	}
	if err := m.plug(&plugin{resource: r.GetResourceName(), endpoint: filepath.Join(m.c.Dir, r.GetEndpoint()), options: r.GetOptions()}); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &api.Empty{}, nil
}

// plug takes a plug-in in, instead of an earlier one of its resource.
func (m *Manager) plug(p *plugin) (err error) {
	if p.conn, err = grpc.NewClient("unix:"+p.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}
	p.client = api.NewDevicePluginClient(p.conn)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run == nil || m.run.Err() != nil {
		err = errors.New("the kubelet does not take device plug-ins now")
	} else {
		err = m.rememberLocked(p.resource)
	}
	if err != nil {
		_ = p.conn.Close()
		return err
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(m.run)
	if old := m.plugins[p.resource]; old != nil {
		old.cancel()
		old.keepLocked()
		p.devices = old.devices // until it has told of its own
	}
	m.plugins[p.resource] = p
	m.wg.Go(func() { m.follow(ctx, p) })
	m.c.Log.Info("device plug-in registered", "resource", p.resource, "endpoint", p.endpoint)
	return nil
}

// extended says whether a name is one of an extended resource: qualified, and not of Kubernetes' own domain.
func extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return ok && len(validation.IsQualifiedName(name)) == 0 && len(validation.IsQualifiedName("requests."+name)) == 0 &&
		domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io")
}

// follow takes in what a plug-in tells until it is gone, replaced, or the manager ends.
func (m *Manager) follow(ctx context.Context, p *plugin) {
	defer p.conn.Close()
	err := m.listen(ctx, p)
	m.mu.Lock()
	current := m.plugins[p.resource] == p
	if current {
		for i := range p.devices {
			p.devices[i].Healthy = false
		}
		if m.run.Err() == nil {
			p.expiry = time.AfterFunc(m.c.Grace, func() { m.expire(p) })
		}
	}
	m.mu.Unlock()
	if ctx.Err() == nil {
		m.c.Log.Warn("device plug-in is gone; its devices are given to nobody until it registers again", "resource", p.resource, "error", err)
	}
	if current {
		m.c.Changed()
	}
}

// expire forgets the devices of a plug-in that has not come back in time. Its resource stays known.
func (m *Manager) expire(p *plugin) {
	m.mu.Lock()
	over := p.expiry == nil || m.run.Err() != nil
	if !over {
		p.devices = nil
	}
	m.mu.Unlock()
	if !over {
		m.c.Changed()
	}
}

// keepLocked ends the wait for the end of a plug-in's devices.
func (p *plugin) keepLocked() {
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
}

func (m *Manager) listen(ctx context.Context, p *plugin) error {
	stream, err := p.client.ListAndWatch(ctx, &api.Empty{})
	for err == nil {
		var told *api.ListAndWatchResponse
		if told, err = stream.Recv(); err != nil {
			break
		}
		if len(told.GetDevices()) > devicesMax {
			return fmt.Errorf("it tells of %d devices; at most %d are followed", len(told.GetDevices()), devicesMax)
		}
		devices := make([]Device, 0, len(told.GetDevices()))
		for _, d := range told.GetDevices() {
			one := Device{ID: d.GetID(), Healthy: d.GetHealth() == api.Healthy}
			for _, n := range d.GetTopology().GetNodes() {
				one.Nodes = append(one.Nodes, int(n.GetID()))
			}
			devices = append(devices, one)
		}
		m.mu.Lock()
		p.devices = devices
		m.mu.Unlock()
		m.c.Changed()
	}
	return err
}

// Resources are the devices that there are, and those of them that are healthy. A resource whose plug-in has not registered since the
// kubelet started has none: the scheduler sends nobody, and it is not taken for one that no plug-in looks after.
func (m *Manager) Resources() (capacity, allocatable corev1.ResourceList) {
	capacity, allocatable = corev1.ResourceList{}, corev1.ResourceList{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.resources {
		all, healthy := 0, 0
		if p := m.plugins[name]; p != nil {
			all, healthy = len(p.devices), p.healthy()
		}
		capacity[corev1.ResourceName(name)] = *resource.NewQuantity(int64(all), resource.DecimalSI)
		allocatable[corev1.ResourceName(name)] = *resource.NewQuantity(int64(healthy), resource.DecimalSI)
	}
	return capacity, allocatable
}

// healthy is how many of a plug-in's devices are.
func (p *plugin) healthy() (n int) {
	for _, d := range p.devices {
		if d.Healthy {
			n++
		}
	}
	return n
}

// pluginOf returns a copy of a resource's plug-in; false if none has registered since the kubelet started.
func (m *Manager) pluginOf(name string) (plugin, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.plugins[name]; p != nil {
		return *p, true
	}
	return plugin{}, false
}

// rememberLocked notes that a plug-in looks after a resource, so that a later kubelet knows before the plug-in has registered again.
func (m *Manager) rememberLocked(name string) error {
	if m.resources[name] {
		return nil
	}
	if len(m.resources) >= resourcesMax {
		return fmt.Errorf("plug-ins have registered for %d resources; a node has no more", resourcesMax)
	}
	m.resources[name] = true
	if err := m.save(resourcesName, slices.Sorted(maps.Keys(m.resources))); err != nil {
		delete(m.resources, name)
		return err
	}
	return nil
}

func readResources(path string) (map[string]bool, error) {
	var names []string
	if err := readJSON(path, &names); err != nil {
		return nil, fmt.Errorf("%s cannot be read; remove it, and let all device plug-ins register before pods are sent here: %w", path, err)
	}
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	return known, nil
}
