package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"bareboat.dev/client"
)

// zeros is a device plug-in with two devices that are /dev/zero.
type zeros struct {
	api.UnimplementedDevicePluginServer
	mount string
}

func (zeros) ListAndWatch(_ *api.Empty, s grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	if err := s.Send(&api.ListAndWatchResponse{Devices: []*api.Device{{ID: "z0", Health: api.Healthy}, {ID: "z1", Health: api.Healthy}}}); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

func (z zeros) Allocate(_ context.Context, r *api.AllocateRequest) (*api.AllocateResponse, error) {
	return &api.AllocateResponse{ContainerResponses: []*api.ContainerAllocateResponse{{
		Envs:    map[string]string{"ZEROS": strings.Join(r.GetContainerRequests()[0].GetDevicesIds(), ",")},
		Mounts:  []*api.Mount{{HostPath: z.mount, ContainerPath: "/driver", ReadOnly: true}},
		Devices: []*api.DeviceSpec{{HostPath: "/dev/zero", ContainerPath: "/dev/endless", Permissions: "r"}},
	}}}, nil
}

// TestDevices shows a pod with a device of a plug-in: the node tells of it, the container has and may use it, a pod for which there is
// none is refused, also while the plug-in has not registered again with a new kubelet, and it is free again when its pod is gone.
func TestDevices(t *testing.T) {
	h := newHost(t)
	h.load()
	dir := filepath.Join(h.c.RootDir, "device-plugins")
	h.awaitOn(h.c.RootDir, "the registration socket", func() bool { _, err := os.Stat(dir); return err == nil })
	mount := t.TempDir()
	touch(t, mount+"/library")
	register := func() {
		t.Helper()
		h.awaitOn(dir, "the registration socket", func() bool { _, err := os.Stat(dir + "/kubelet.sock"); return err == nil })
		l, err := net.Listen("unix", filepath.Join(dir, "zeros.sock"))
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		api.RegisterDevicePluginServer(s, zeros{mount: mount})
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		conn, err := grpc.NewClient("unix://"+dir+"/kubelet.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := api.NewRegistrationClient(conn).Register(t.Context(), &api.RegisterRequest{Version: api.Version, Endpoint: "zeros.sock", ResourceName: "example.com/zero"}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		h.awaitNode("its devices", func(n *corev1.Node) bool {
			q := n.Status.Allocatable["example.com/zero"]
			return q.Cmp(resource.MustParse("2")) == 0
		})
	}
	register()
	h.create("user", `containers: [{name: app, command: [sh, -c, "echo $ZEROS; ls /driver; head -c 3 /dev/endless | wc -c; sleep 1000"], resources: {requests: {example.com/zero: 2}, limits: {example.com/zero: 2}}}]`)
	p := h.await("user", "Running", running)
	h.awaitLog(p, "app", "0", "z0,z1\nlibrary\n3\n")
	h.create("late", `containers: [{name: app, resources: {requests: {example.com/zero: 1}, limits: {example.com/zero: 1}}}]`)
	q := h.await("late", "rejected", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	const reason, none = "UnexpectedAdmissionError", "requested number of devices unavailable for example.com/zero. Requested: 1, Available: 0"
	if q.Status.Reason != reason || !strings.Contains(q.Status.Message, none) {
		t.Errorf("late: %s", statusText(q))
	}
	h.stop()
	h.start()
	h.create("early", `containers: [{name: app, resources: {requests: {example.com/zero: 1}, limits: {example.com/zero: 1}}}]`)
	q = h.await("early", "rejected", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if q.Status.Reason != reason || !strings.Contains(q.Status.Message, "no healthy devices present") {
		t.Errorf("before the plug-in has registered again: %s", statusText(q))
	}
	h.awaitNode("no devices", func(n *corev1.Node) bool {
		q, known := n.Status.Allocatable["example.com/zero"]
		return known && q.IsZero()
	})
	if p := h.await("user", "Running", running); h.pid(p) == 0 {
		t.Error("who has devices lost them")
	}
	register()
	h.remove("user", 1)
	h.awaitGone("user")
	h.create("next", `containers: [{name: app, resources: {requests: {example.com/zero: 1}, limits: {example.com/zero: 1}}}]`)
	h.await("next", "Running", running)
}

// awaitNode waits until the node's object satisfies ok.
func (h *host) awaitNode(what string, ok func(*corev1.Node) bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for e, err := range client.Of(h.api.Client(), client.Nodes()).Watch(ctx, "", client.WatchOptions{}) {
		if err != nil {
			break
		}
		if e.Object != nil && ok(e.Object) {
			return
		}
	}
	h.t.Fatalf("the node does not tell of %s", what)
}
