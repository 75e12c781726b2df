package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
)

// gpuDriver is a DRA driver that notes what it is asked. Its CDI files give an environment variable, a file and /dev/zero.
type gpuDriver struct {
	dra.UnimplementedDRAPluginServer
	registration.UnimplementedRegistrationServer
	cdi, library string

	mu    sync.Mutex
	asked []string
	log   string
}

func (*gpuDriver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.DRAPlugin, Name: "gpu.example.com", SupportedVersions: []string{dra.DRAPluginService}}, nil
}

func (d *gpuDriver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	d.note(fmt.Sprintf("registered %v%s", s.GetPluginRegistered(), s.GetError()))
	return &registration.RegistrationStatusResponse{}, nil
}

// note writes what was asked to a file, so that a test can wait for it.
func (d *gpuDriver) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, what)
	tmp := filepath.Join(filepath.Dir(d.log), ".asked")
	_ = os.WriteFile(tmp, []byte(strings.Join(d.asked, "\n")), 0o600)
	_ = os.Rename(tmp, d.log)
}

func (d *gpuDriver) NodePrepareResources(_ context.Context, r *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	out := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for _, c := range r.GetClaims() {
		file := fmt.Sprintf(`{"cdiVersion": "0.6.0", "kind": "example.com/gpu", "devices": [
			{"name": "%[1]s-a", "containerEdits": {"env": ["GPU_A=%[1]s"], "deviceNodes": [{"path": "/dev/endless", "hostPath": "/dev/zero", "permissions": "r"}],
				"mounts": [{"hostPath": "%[2]s", "containerPath": "/driver", "options": ["ro", "bind"]}]}},
			{"name": "%[1]s-b", "containerEdits": {"env": ["GPU_B=%[1]s"]}}]}`, c.GetUid(), d.library)
		if err := os.WriteFile(filepath.Join(d.cdi, c.GetUid()+".json"), []byte(file), 0o600); err != nil {
			return nil, err
		}
		d.note("prepare " + c.GetName())
		out.Claims[c.GetUid()] = &dra.NodePrepareResourceResponse{Devices: []*dra.Device{
			{RequestNames: []string{"a"}, PoolName: "node1", DeviceName: "gpu-0", CdiDeviceIds: []string{"example.com/gpu=" + c.GetUid() + "-a"}},
			{RequestNames: []string{"b/small"}, PoolName: "node1", DeviceName: "gpu-1", CdiDeviceIds: []string{"example.com/gpu=" + c.GetUid() + "-b"}},
		}}
	}
	return out, nil
}

func (d *gpuDriver) NodeUnprepareResources(_ context.Context, r *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	out := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for _, c := range r.GetClaims() {
		d.note("unprepare " + c.GetName())
		out.Claims[c.GetUid()] = &dra.NodeUnprepareResourceResponse{}
	}
	return out, nil
}

// serve makes the driver's socket.
func (d *gpuDriver) serve(t *testing.T, root string) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(root, "plugins_registry", "gpu.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	dra.RegisterDRAPluginServer(s, d)
	registration.RegisterRegistrationServer(s, d)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	return func() { s.Stop(); <-done }
}

// claim puts an allocated claim into the API.
func (h *host) claim(name string) {
	h.t.Helper()
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "a", Driver: "gpu.example.com", Pool: "node1", Device: "gpu-0"}, {Request: "b/small", Driver: "gpu.example.com", Pool: "node1", Device: "gpu-1"},
	}}}
	clienttest.Put(h.api, client.ResourceClaims(), c)
}

// reserve reserves a claim for a pod, as the scheduler does.
func (h *host) reserve(name string, p *corev1.Pod) {
	h.t.Helper()
	r := client.Of(h.api.Client(), client.ResourceClaims())
	c, err := r.Get(context.Background(), "default", name)
	if err != nil {
		h.t.Fatal(err)
	}
	c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
	if _, err := r.UpdateStatus(context.Background(), c); err != nil {
		h.t.Fatal(err)
	}
}

// TestResourceClaims shows a pod with a claim: its driver prepares it before the containers see what they name of it and no more; a pod
// waits for its claim to be made; a claim that is not reserved for a pod is not given to it; after the pod, and a restart of the kubelet
// and of the driver, it is given back.
func TestResourceClaims(t *testing.T) {
	h := newHost(t)
	h.load()
	registry := filepath.Join(h.c.RootDir, "plugins_registry")
	h.awaitOn(h.c.RootDir, "the directory of plug-ins", func() bool { _, err := os.Stat(registry); return err == nil })
	d := &gpuDriver{cdi: h.c.CDISpecDirs[0], library: t.TempDir(), log: filepath.Join(t.TempDir(), "asked")}
	if err := os.MkdirAll(d.cdi, 0o755); err != nil {
		t.Fatal(err)
	}
	touch(t, d.library+"/library")
	stop := d.serve(t, h.c.RootDir)
	h.awaitFile(d.log, "registered true")

	h.claim("gpu")
	p := h.create("user", `{resourceClaims: [{name: g, resourceClaimName: gpu}], containers: [
		{name: all, command: [sh, -c, "echo $GPU_A $GPU_B; ls /driver; head -c 3 /dev/endless | wc -c; sleep 1000"], resources: {claims: [{name: g}]}},
		{name: part, command: [sh, -c, "echo [$GPU_A] [$GPU_B]; test -e /driver || echo no driver; sleep 1000"], resources: {claims: [{name: g, request: b}]}},
		{name: none, command: [sh, -c, "echo [$GPU_A] [$GPU_B]; sleep 1000"]}]}`)
	h.reserve("gpu", p)
	p = h.await("user", "Running", running)
	c, err := client.Of(h.api.Client(), client.ResourceClaims()).Get(t.Context(), "default", "gpu")
	if err != nil {
		t.Fatal(err)
	}
	h.awaitLog(p, "all", "0", fmt.Sprintf("%[1]s %[1]s\nlibrary\n3\n", c.UID))
	h.awaitLog(p, "part", "0", fmt.Sprintf("[] [%s]\nno driver\n", c.UID))
	h.awaitLog(p, "none", "0", "[] []\n")

	h.create("thief", `{resourceClaims: [{name: g, resourceClaimName: gpu}], containers: [{name: app, resources: {claims: [{name: g}]}}]}`)
	h.awaitEvent("thief", "FailedPrepareDynamicResources", "is not allowed to use ResourceClaim default/gpu")

	// Bound without the scheduler: its claim is made afterwards.
	h.claim("made")
	q := h.create("templated", `{resourceClaims: [{name: g, resourceClaimTemplateName: t}], containers: [{name: app, command: [sh, -c, "echo ${GPU_A:+given}; sleep 1000"], resources: {claims: [{name: g}]}}]}`)
	h.awaitEvent("templated", "FailedPrepareDynamicResources", "ResourceClaim not created yet")
	h.reserve("made", q)
	h.updateStatus(t.Context(), "templated", func(p *corev1.Pod) {
		made := "made"
		p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "g", ResourceClaimName: &made}}
	})
	q = h.await("templated", "Running", running)
	if s := q.Status.ResourceClaimStatuses; len(s) != 1 || *s[0].ResourceClaimName != "made" {
		t.Errorf("claims of the pod: %v", s)
	}
	h.awaitLog(q, "app", "0", "given\n")
	h.remove("templated", 0)
	h.awaitAsked(d, "unprepare made")
	h.awaitOn(h.c.RootDir, "the claim to be forgotten", func() bool { // or else it would be given back once more after the restart
		data, err := os.ReadFile(filepath.Join(h.c.RootDir, "dra_claims.json"))
		return err == nil && !strings.Contains(string(data), `"made"`)
	})

	stop()
	h.stop()
	h.remove("thief", 0)
	h.start()
	h.remove("user", 0)
	h.awaitGone("user")
	t.Cleanup(d.serve(t, h.c.RootDir))
	h.awaitAsked(d, "unprepare gpu")
	d.mu.Lock()
	defer d.mu.Unlock()
	want := "registered true, prepare gpu, prepare made, unprepare made, registered true, unprepare gpu"
	if got := strings.Join(d.asked, ", "); got != want {
		t.Errorf("asked: %s, want %s", got, want)
	}
}

// awaitAsked waits until the driver has been asked for something.
func (h *host) awaitAsked(d *gpuDriver, what string) {
	h.t.Helper()
	h.awaitOn(filepath.Dir(d.log), "the driver to be asked to "+what, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Contains(d.asked, what)
	})
}
