package dra

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	beta "k8s.io/kubelet/pkg/apis/dra/v1beta1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"bareboat.dev/kubelet/plugins"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// claims is an API of fixed claims.
type claims map[string]*resourcev1.ResourceClaim

func (c claims) ResourceClaim(_ context.Context, _, name string) (*resourcev1.ResourceClaim, error) {
	if c[name] == nil {
		return nil, errors.New("not found")
	}
	return c[name], nil
}

// allocated makes a claim of a driver's device that is reserved for pods.
func allocated(name, driver string, pods ...types.UID) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}}
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Driver: driver}}}}
	for _, uid := range pods {
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", UID: uid})
	}
	return c
}

func podOf(uid types.UID, names ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: string(uid), UID: uid}}
	for _, n := range names {
		p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, corev1.PodResourceClaim{Name: "for-" + n, ResourceClaimName: &n})
	}
	return p
}

// old is a driver that speaks v1beta1 and notes what it is asked.
type old struct {
	beta.UnimplementedDRAPluginServer
	registration.UnimplementedRegistrationServer
	info       *registration.PluginInfo
	registered chan *registration.RegistrationStatus

	mu    sync.Mutex
	asked []string
	undo  string // error of unpreparing
	woken chan struct{}
}

func (d *old) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return d.info, nil
}

func (d *old) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	d.registered <- s
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *old) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, what)
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

func (d *old) NodePrepareResources(_ context.Context, r *beta.NodePrepareResourcesRequest) (*beta.NodePrepareResourcesResponse, error) {
	out := &beta.NodePrepareResourcesResponse{Claims: map[string]*beta.NodePrepareResourceResponse{}}
	for _, c := range r.GetClaims() {
		d.note("prepare " + c.GetName())
		out.Claims[c.GetUid()] = &beta.NodePrepareResourceResponse{Devices: []*beta.Device{
			{RequestNames: []string{"r"}, CdiDeviceIds: []string{"x/y=" + c.GetName()}}, {CdiDeviceIds: []string{"x/y=any"}},
		}}
	}
	return out, nil
}

func (d *old) NodeUnprepareResources(_ context.Context, r *beta.NodeUnprepareResourcesRequest) (*beta.NodeUnprepareResourcesResponse, error) {
	out := &beta.NodeUnprepareResourcesResponse{Claims: map[string]*beta.NodeUnprepareResourceResponse{}}
	for _, c := range r.GetClaims() {
		d.note("unprepare " + c.GetName())
		out.Claims[c.GetUid()] = &beta.NodeUnprepareResourceResponse{Error: d.undo}
	}
	return out, nil
}

// rig is a manager that runs, with a driver that has registered.
type rig struct {
	t    *testing.T
	root string
	api  claims
	d    *old
	m    *Manager
	stop func()
}

func newRig(t *testing.T, info *registration.PluginInfo) *rig {
	r := &rig{t: t, root: t.TempDir(), api: claims{}, d: &old{info: info, registered: make(chan *registration.RegistrationStatus, 10), woken: make(chan struct{}, 1)}}
	if err := os.MkdirAll(r.root+"/plugins_registry", 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(r.root, "plugins_registry", "d.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	beta.RegisterDRAPluginServer(s, r.d)
	registration.RegisterRegistrationServer(s, r.d)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { r.stop(); s.Stop(); wg.Wait() })
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	var err error
	if r.m, err = New(Config{Root: r.root, API: r.api, Log: slog.New(slog.DiscardHandler)}); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	found := plugins.New(plugins.Config{Dir: r.root + "/plugins_registry", Handlers: map[string]plugins.Handler{registration.DRAPlugin: r.m}, Log: slog.New(slog.DiscardHandler)})
	go func() { done <- r.m.Run(ctx) }()
	go func() { done <- found.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			r.t.Error(err)
		}
		r.stop = func() {}
	}
}

// askedFor waits until the driver was asked for exactly this.
func (r *rig) askedFor(want string) {
	r.t.Helper()
	for {
		r.d.mu.Lock()
		got := strings.Join(r.d.asked, ", ")
		r.d.mu.Unlock()
		if got == want {
			return
		}
		if !strings.HasPrefix(want, got) {
			r.t.Fatalf("asked: %s, want %s", got, want)
		}
		select {
		case <-r.d.woken:
		case <-r.t.Context().Done():
			r.t.Fatalf("asked: %s, want %s", got, want)
		}
	}
}

// Shows a claim of two pods: prepared once, for those that it is reserved for, found again by the next kubelet, and given back after the
// last of them; containers get what they name.
func TestClaimOfTwoPods(t *testing.T) {
	r := newRig(t, &registration.PluginInfo{Type: registration.DRAPlugin, Name: "d", SupportedVersions: []string{beta.DRAPluginService}})
	if s := <-r.d.registered; !s.GetPluginRegistered() {
		t.Fatal(s)
	}
	r.api["c"] = allocated("c", "d", "p1", "p2")
	p1, p2, p3 := podOf("p1", "c"), podOf("p2", "c"), podOf("p3", "c")
	if err := r.m.Prepare(t.Context(), p1); err != nil {
		t.Fatal(err)
	}
	if err := r.m.Prepare(t.Context(), p3); err == nil || !strings.Contains(err.Error(), "pod p3 (p3) is not allowed to use ResourceClaim ns/c (uid-c)") {
		t.Error(err)
	}
	r.stop()
	r.start()
	<-r.d.registered
	if err := r.m.Prepare(t.Context(), p2); err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string][]string{"": {"x/y=any", "x/y=c"}, "r": {"x/y=any", "x/y=c"}, "other": {"x/y=any"}} {
		c := &corev1.Container{Name: "app", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "for-c", Request: request}}}}
		if got, err := r.m.devicesOf(p2, c); err != nil || !slices.Equal(got, want) {
			t.Errorf("devices for request %q: %v, %v, want %v", request, got, err, want)
		}
		if _, err := r.m.devicesOf(p3, c); err == nil {
			t.Errorf("a pod that may not use the claim gets its devices")
		}
	}
	if err := r.m.Release("p1"); err != nil {
		t.Fatal(err)
	}
	r.askedFor("prepare c")
	if err := r.m.Retain(func(types.UID) bool { return false }); err != nil {
		t.Fatal(err)
	}
	r.askedFor("prepare c, unprepare c")
}

// Shows that what could not be given back is known to the next kubelet, and is not used anew before.
func TestNotGivenBack(t *testing.T) {
	r := newRig(t, &registration.PluginInfo{Type: registration.DRAPlugin, Name: "d", SupportedVersions: []string{beta.DRAPluginService}})
	<-r.d.registered
	r.d.undo = "busy"
	r.api["c"] = allocated("c", "d", "p1", "p2")
	if err := r.m.Prepare(t.Context(), podOf("p1", "c")); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := r.m.Release("p1"); err != nil {
		t.Fatal(err)
	}
	known, err := load(r.m.file)
	if err != nil || len(known) != 1 || len(known["uid-c"].Pods) != 0 {
		t.Errorf("%v, %v", known, err)
	}
	r.start()
	<-r.d.registered
	if err := r.m.Prepare(t.Context(), podOf("p2", "c")); err == nil || !strings.Contains(err.Error(), "an earlier use has not been undone yet") {
		t.Error(err)
	}
}

// Shows that claims without devices here, and drivers that are not there, are told of by name.
func TestRefuses(t *testing.T) {
	r := newRig(t, &registration.PluginInfo{Type: registration.DRAPlugin, Name: "d", SupportedVersions: []string{"v1alpha9.DRAPlugin"}})
	if s := <-r.d.registered; s.GetPluginRegistered() || !strings.Contains(s.GetError(), "none of v1.DRAPlugin and v1beta1.DRAPlugin") {
		t.Error(s)
	}
	r.api["c"] = allocated("c", "d", "p")
	r.api["unallocated"] = &resourcev1.ResourceClaim{}
	template := podOf("p")
	name := "t"
	template.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "g", ResourceClaimTemplateName: &name}}
	for want, p := range map[string]*corev1.Pod{
		"driver name d not found among the registered DRA drivers": podOf("p", "c"), "fetch ResourceClaim ns/none: not found": podOf("p", "none"),
		"ResourceClaim ns/unallocated is not allocated": podOf("p", "unallocated"), `pod "ns/p": ResourceClaim not created yet`: template,
	} {
		if err := r.m.Prepare(t.Context(), p); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
