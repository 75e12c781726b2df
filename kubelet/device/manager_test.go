package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/numa"
	"bareboat.dev/kubelet/plugins"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a manager that runs.
type host struct {
	*Manager
	t       *testing.T
	dir     string
	changed chan struct{}
	stop    func()
}

func newHost(t *testing.T, dir string) *host {
	t.Helper()
	h := &host{t: t, dir: dir, changed: make(chan struct{}, 100)}
	m, err := New(Config{Dir: dir, Log: slog.New(slog.DiscardHandler), Changed: func() { h.changed <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	h.Manager = m
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		h.stop = func() {}
	}
	t.Cleanup(func() { h.stop() })
	_ = h.register(&api.RegisterRequest{}) // refused, once it is heard: sockets of before have been removed
	return h
}

// await waits until what the node has is as wanted: capacity/allocatable.
func (h *host) await(name, want string) {
	h.t.Helper()
	deadline := time.After(20 * time.Second) // reached only when something is wrong
	for {
		capacity, allocatable := h.Resources()
		c, a := capacity[corev1.ResourceName(name)], allocatable[corev1.ResourceName(name)]
		got := fmt.Sprintf("%d/%d", c.Value(), a.Value())
		if got == want {
			return
		}
		select {
		case <-h.changed:
		case <-deadline:
			h.t.Fatalf("%s is %s, want %s", name, got, want)
		}
	}
}

// fake is a plug-in that gives its devices' names away.
type fake struct {
	api.UnimplementedDevicePluginServer
	server  *grpc.Server
	devices chan []*api.Device
	calls   chan string
	// prefers are the devices that it advises.
	prefers []string
}

func (f *fake) ListAndWatch(_ *api.Empty, s grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	for {
		select {
		case d := <-f.devices:
			if err := s.Send(&api.ListAndWatchResponse{Devices: d}); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (f *fake) Allocate(_ context.Context, r *api.AllocateRequest) (*api.AllocateResponse, error) {
	ids := strings.Join(r.GetContainerRequests()[0].GetDevicesIds(), ",")
	f.calls <- "allocate " + ids
	return &api.AllocateResponse{ContainerResponses: []*api.ContainerAllocateResponse{{
		Envs: map[string]string{"DEVICES": ids}, Mounts: []*api.Mount{{HostPath: "/host", ContainerPath: "/in", ReadOnly: true}},
		Devices: []*api.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/gpu", Permissions: "rw"}},
	}}}, nil
}

func (f *fake) GetPreferredAllocation(_ context.Context, r *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	q := r.GetContainerRequests()[0]
	f.calls <- fmt.Sprint("prefer ", q.GetAllocationSize(), " of ", q.GetAvailableDeviceIDs(), " with ", q.GetMustIncludeDeviceIDs())
	return &api.PreferredAllocationResponse{ContainerResponses: []*api.ContainerPreferredAllocationResponse{{DeviceIDs: f.prefers}}}, nil
}

func (f *fake) PreStartContainer(_ context.Context, r *api.PreStartContainerRequest) (*api.PreStartContainerResponse, error) {
	f.calls <- "start " + strings.Join(r.GetDevicesIds(), ",")
	return &api.PreStartContainerResponse{}, nil
}

// plug starts a plug-in and registers it.
func (h *host) plug(socket, resource string, prefers ...string) *fake {
	h.t.Helper()
	l, err := net.Listen("unix", filepath.Join(h.dir, socket))
	if err != nil {
		h.t.Fatal(err)
	}
	f := &fake{server: grpc.NewServer(), devices: make(chan []*api.Device, 10), calls: make(chan string, 10), prefers: prefers}
	api.RegisterDevicePluginServer(f.server, f)
	go func() { _ = f.server.Serve(l) }()
	h.t.Cleanup(f.server.Stop)
	if err := h.register(&api.RegisterRequest{Version: api.Version, Endpoint: socket, ResourceName: resource, Options: &api.DevicePluginOptions{PreStartRequired: true, GetPreferredAllocationAvailable: len(prefers) > 0}}); err != nil {
		h.t.Fatal(err)
	}
	return f
}

func (h *host) register(r *api.RegisterRequest) error {
	h.t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(h.dir, socketName), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	_, err = api.NewRegistrationClient(conn).Register(h.t.Context(), r, grpc.WaitForReady(true))
	return err
}

func devices(ids string) (all []*api.Device) {
	for id := range strings.FieldsSeq(ids) {
		name, node, near := strings.Cut(strings.TrimPrefix(id, "!"), "@")
		d := &api.Device{ID: name, Health: api.Healthy}
		if strings.HasPrefix(id, "!") {
			d.Health = api.Unhealthy
		}
		if near {
			n, _ := strconv.ParseInt(node, 10, 64)
			d.Topology = &api.TopologyInfo{Nodes: []*api.NUMANode{{ID: n}}}
		}
		all = append(all, d)
	}
	return all
}

func podOf(t *testing.T, uid, spec string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	p.UID = types.UID(uid)
	return p
}

// Reserve takes the devices of all of a pod's containers, as package topology does.
func (h *host) Reserve(p *corev1.Pod) (err error) {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if err := h.Take(p, &list[i], numa.Hint{}); err != nil {
				return errors.Join(err, h.Release(p.UID))
			}
		}
	}
	return h.Commit()
}

const gpus = "example.com/gpu"

func asking(t *testing.T, uid string, n int) *corev1.Pod {
	return podOf(t, uid, fmt.Sprintf(`containers: [{name: app, resources: {limits: {%s: %d, cpu: 1, example.com/other: 3}}}]`, gpus, n))
}

// TestLife shows a plug-in's life and that of its devices: what it tells becomes the node's, pods get devices that nobody else has, and
// keep them over restarts of the plug-in and the kubelet.
func TestLife(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, dir)
	f := h.plug("gpu.sock", gpus)
	f.devices <- devices("a b !c")
	h.await(gpus, "3/2")
	if err := h.Reserve(asking(t, "one", 1)); err != nil {
		t.Fatal(err)
	}
	if err := h.Reserve(asking(t, "two", 2)); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "Requested: 2, Available: 1") {
		t.Errorf("more than there are: %v", err)
	}
	g, err := h.Prepare(t.Context(), "one", "app")
	if err != nil || g.Env["DEVICES"] != "a" || len(g.Mounts) != 1 || len(g.Nodes) != 1 || g.Nodes[0].ContainerPath != "/dev/gpu" {
		t.Errorf("granted %+v, %v", g, err)
	}
	if a, b := <-f.calls, <-f.calls; a != "allocate a" || b != "start a" {
		t.Errorf("called %s, %s", a, b)
	}
	f.devices <- devices("a b c")
	h.await(gpus, "3/3")
	f.server.Stop()
	h.await(gpus, "3/0")
	if err := h.Reserve(asking(t, "late", 1)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("of a plug-in that has gone: %v", err)
	}
	f = h.plug("gpu2.sock", gpus)
	f.devices <- devices("a b c")
	h.await(gpus, "3/3")
	if err := h.Reserve(asking(t, "two", 2)); err != nil {
		t.Fatal(err)
	}

	h.stop()
	h = newHost(t, dir)
	if _, err := h.Prepare(t.Context(), "one", "app"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("before the plug-in is back: %v", err)
	}
	if err := h.Reserve(asking(t, "early", 1)); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no healthy devices present; cannot allocate unhealthy devices example.com/gpu") {
		t.Errorf("before the plug-in is back a pod is told %v", err)
	}
	h.await(gpus, "0/0")
	f = h.plug("gpu.sock", gpus)
	f.devices <- devices("a b c d")
	h.await(gpus, "4/4")
	for uid, want := range map[types.UID]string{"one": "a", "two": "b,c"} {
		if g, err := h.Prepare(t.Context(), uid, "app"); err != nil || g.Env["DEVICES"] != want {
			t.Errorf("after a restart %s has %+v, %v, want %s", uid, g, err, want)
		}
	}
	if err := h.Retain(func(uid types.UID) bool { return uid == "two" }); err != nil {
		t.Fatal(err)
	}
	if err := h.Reserve(asking(t, "three", 2)); err != nil {
		t.Errorf("what others have let go of: %v", err)
	}
	if err := h.Release("three"); err != nil {
		t.Fatal(err)
	}
}

// TestGrace shows that the devices of a plug-in that does not come back are the node's for a while, unhealthy, and then no longer; that it
// came back in time keeps them.
func TestGrace(t *testing.T) {
	h := newHost(t, t.TempDir())
	h.c.Grace = time.Hour
	f := h.plug("gpu.sock", gpus)
	f.devices <- devices("a b")
	h.await(gpus, "2/2")
	f.server.Stop()
	h.await(gpus, "2/0")
	f = h.plug("gpu2.sock", gpus)
	f.devices <- devices("a b")
	h.await(gpus, "2/2")
	h.mu.Lock()
	h.c.Grace = time.Millisecond
	h.mu.Unlock()
	f.server.Stop()
	h.await(gpus, "0/0")
	if err := h.Reserve(asking(t, "late", 1)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("of a plug-in that is long gone: %v", err)
	}
}

// TestInitContainers shows that containers of one pod use init containers' devices again, but not sidecars'.
func TestInitContainers(t *testing.T) {
	h := newHost(t, t.TempDir())
	h.plug("gpu.sock", gpus).devices <- devices("a b c d")
	h.await(gpus, "4/4")
	p := podOf(t, "pod", `
initContainers:
- {name: init, resources: {limits: {example.com/gpu: 2}}}
- {name: side, restartPolicy: Always, resources: {limits: {example.com/gpu: 1}}}
- {name: init2, resources: {limits: {example.com/gpu: 1}}}
containers:
- {name: app, resources: {limits: {example.com/gpu: 1}}}
- {name: app2, resources: {limits: {example.com/gpu: 1}}}
`)
	if err := h.Reserve(p); err != nil {
		t.Fatal(err)
	}
	have := func(name string) string { return strings.Join(h.grants["pod"][name][gpus], "") }
	if have("init") != "ab" || have("side") != "a" || have("init2") != "b" || have("app") != "b" || have("app2") == "a" || have("app2") == "b" {
		t.Errorf("%v", h.grants)
	}
}

// TestPreferences shows that a container's devices are near the nodes that it is to be near, and among these the ones that their plug-in
// prefers; and what hints there are for that.
func TestPreferences(t *testing.T) {
	h := newHost(t, t.TempDir())
	h.c.Nodes = numa.SetOf(0, 1)
	f := h.plug("gpu.sock", gpus, "c", "z")
	f.devices <- devices("a@0 b@0 c@0 x@1 y@1 z@1 u")
	h.await(gpus, "7/7")
	p := asking(t, "one", 2)
	app := &p.Spec.Containers[0]
	hints := fmt.Sprint(h.Hints(p, app)[gpus], h.Hints(p, nil)[gpus], h.Hints(asking(t, "two", 4), nil)[gpus], h.Hints(asking(t, "two", 9), nil)[gpus])
	if want := "[{1 true} {2 true} {3 false}] [{1 true} {2 true} {3 false}] [{3 true}] []"; hints != want {
		t.Errorf("hints are %s, want %s", hints, want)
	}
	if err := h.Take(p, app, numa.Hint{Nodes: numa.SetOf(0)}); err != nil {
		t.Fatal(err)
	}
	if call, want := <-f.calls, "prefer 2 of [a b c] with []"; call != want {
		t.Errorf("the plug-in is asked %s, want %s", call, want)
	}
	if got := fmt.Sprint(h.Given("one", "app")); got != "map[example.com/gpu:[{a true [0]} {c true [0]}]]" {
		t.Errorf("it has %s", got)
	}
	if got := fmt.Sprint(h.Hints(p, app)[gpus]); got != "[{1 true} {3 false}]" {
		t.Errorf("who has its devices has the hints %s", got)
	}
	// Three are not near: the plug-in is asked about the rest.
	p = asking(t, "two", 3)
	if err := h.Take(p, &p.Spec.Containers[0], numa.Hint{Nodes: numa.SetOf(0)}); err != nil {
		t.Fatal(err)
	}
	if call, want := <-f.calls, "prefer 3 of [u x y z b] with [b]"; call != want {
		t.Errorf("the plug-in is asked %s, want %s", call, want)
	}
	if got := fmt.Sprint(h.grants["two"]); got != "map[app:map[example.com/gpu:[b x z]]]" {
		t.Errorf("it has %s", got)
	}
	p = asking(t, "claimed", 3)
	p.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{RequestMappings: []corev1.ContainerExtendedResourceRequest{{ContainerName: "app", ResourceName: gpus}}}
	if err := h.Reserve(p); err != nil || h.grants["claimed"] != nil || len(h.Hints(p, nil)) > 0 {
		t.Errorf("what a resource claim gives is given by the plug-in too: %v, %v", h.grants["claimed"], err)
	}
}

func (f *fake) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// TestFound shows plug-ins that are found by a socket of their own: their devices are the node's as long as it is there, and who is not what
// it should be is told so.
func TestFound(t *testing.T) {
	h := newHost(t, t.TempDir())
	at := filepath.Join(t.TempDir(), "gpu.sock")
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{server: grpc.NewServer(), devices: make(chan []*api.Device, 10), calls: make(chan string, 10)}
	api.RegisterDevicePluginServer(f.server, f)
	go func() { _ = f.server.Serve(l) }()
	t.Cleanup(f.server.Stop)
	f.devices <- devices("a b")
	found := plugins.Plugin{Socket: "/plugins_registry/gpu.sock", Name: gpus, Endpoint: at, Versions: []string{api.Version}}
	if err := h.Handler().Register(t.Context(), found); err != nil {
		t.Fatal(err)
	}
	h.await(gpus, "2/2")
	h.Handler().Deregister(found.Socket)
	h.await(gpus, "2/0")
	for want, change := range map[string]func(*plugins.Plugin){
		"none is v1beta1":             func(p *plugins.Plugin) { p.Versions = []string{"v1"} },
		`ResourceName "x" is invalid`: func(p *plugins.Plugin) { p.Name = "x" },
		"not an absolute path":        func(p *plugins.Plugin) { p.Endpoint = "gpu.sock" },
	} {
		p := found
		change(&p)
		if err := h.Handler().Register(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestRegister shows which registrations are refused.
func TestRegister(t *testing.T) {
	h := newHost(t, t.TempDir())
	for want, r := range map[string]*api.RegisterRequest{
		"is not supported by kubelet":     {Version: "v1alpha1", Endpoint: "a", ResourceName: gpus},
		`ResourceName "gpu" is invalid`:   {Version: api.Version, Endpoint: "a", ResourceName: "gpu"},
		`"kubernetes.io/gpu" is invalid`:  {Version: api.Version, Endpoint: "a", ResourceName: "kubernetes.io/gpu"},
		`endpoint "../a" is not the name`: {Version: api.Version, Endpoint: "../a", ResourceName: gpus},
	} {
		if err := h.register(r); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", r, err, want)
		}
	}
}
