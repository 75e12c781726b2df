package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler notes what happens, in words.
type handler struct {
	name string
	told chan string
}

func (h handler) Register(_ context.Context, p Plugin) error {
	if p.Name == "bad" {
		return errors.New("not this one")
	}
	h.told <- fmt.Sprint(h.name, " registers ", p.Name, " at ", filepath.Base(p.Endpoint), " ", p.Versions)
	return nil
}

func (h handler) Deregister(socket string) { h.told <- h.name + " loses " + filepath.Base(socket) }
func (h handler) Synced()                  {}

// plugin answers as it is made.
type plugin struct {
	registration.UnimplementedRegistrationServer
	info   *registration.PluginInfo
	status chan *registration.RegistrationStatus
	// deaf is an error that it answers with when it is told how it went.
	deaf error
}

func (p *plugin) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return p.info, nil
}

func (p *plugin) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	p.status <- s
	return &registration.RegistrationStatusResponse{}, p.deaf
}

type rig struct {
	t    *testing.T
	dir  string
	told chan string
	stop func()
}

func newRig(t *testing.T) *rig {
	g := &rig{t: t, dir: t.TempDir(), told: make(chan string, 100)}
	g.start()
	t.Cleanup(func() { g.stop() })
	return g
}

func (g *rig) start() {
	r := New(Config{Dir: g.dir, Log: slog.New(slog.DiscardHandler), Handlers: map[string]Handler{
		registration.CSIPlugin: handler{"csi", g.told}, registration.DRAPlugin: handler{"dra", g.told},
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	g.stop = func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
		g.stop = func() {}
	}
}

// serve makes a plug-in's socket, under another name first, so that it listens when it is found.
func (g *rig) serve(name string, info *registration.PluginInfo, deaf error) *plugin {
	g.t.Helper()
	at := filepath.Join(g.dir, "."+name)
	l, err := net.Listen("unix", at)
	if err != nil {
		g.t.Fatal(err)
	}
	p := &plugin{info: info, status: make(chan *registration.RegistrationStatus, 10), deaf: deaf}
	s := grpc.NewServer()
	registration.RegisterRegistrationServer(s, p)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	g.t.Cleanup(func() { s.Stop(); <-done })
	if err := os.Rename(at, filepath.Join(g.dir, name)); err != nil {
		g.t.Fatal(err)
	}
	return p
}

func (g *rig) expect(want ...string) {
	g.t.Helper()
	for _, w := range want {
		select {
		case got := <-g.told:
			if got != w {
				g.t.Errorf("%s, want %s", got, w)
			}
		case <-g.t.Context().Done():
			g.t.Fatalf("nothing, want %s", w)
		}
	}
}

// TestRegistry shows that each plug-in goes to the handler of its type, is told so, and is taken from it when its socket goes, and when the
// kubelet ends; that the next one finds it again; and that others are told why they are not registered.
func TestRegistry(t *testing.T) {
	g := newRig(t)
	about := func(kind, name, endpoint string) *registration.PluginInfo {
		return &registration.PluginInfo{Type: kind, Name: name, Endpoint: endpoint, SupportedVersions: []string{"1.0.0"}}
	}
	csi := g.serve("disks.sock", about(registration.CSIPlugin, "disks", "/run/disks.sock"), nil)
	g.expect("csi registers disks at disks.sock [1.0.0]")
	if s := <-csi.status; !s.GetPluginRegistered() || s.GetError() != "" {
		t.Errorf("it is told %v", s)
	}
	dra := g.serve("gpu.sock", about(registration.DRAPlugin, "gpus", ""), nil)
	g.expect("dra registers gpus at gpu.sock [1.0.0]")
	<-dra.status
	for name, want := range map[string]string{"x.sock": "no handler registered for plugin type: x at socket", "bad.sock": "not this one"} {
		info := about("x", "x", "")
		if name == "bad.sock" {
			info = about(registration.CSIPlugin, "bad", "")
		}
		p := g.serve(name, info, nil)
		if s := <-p.status; s.GetPluginRegistered() || !strings.Contains(s.GetError(), want) {
			t.Errorf("%s is told %v, want %s", name, s, want)
		}
		if err := os.Remove(filepath.Join(g.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	deaf := g.serve("deaf.sock", about(registration.CSIPlugin, "deaf", ""), errors.New("what?"))
	<-deaf.status
	g.expect("csi registers deaf at deaf.sock [1.0.0]", "csi loses deaf.sock")
	for _, name := range []string{"deaf.sock", "disks.sock"} {
		if err := os.Remove(filepath.Join(g.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	g.expect("csi loses disks.sock")
	g.stop()
	g.expect("dra loses gpu.sock")
	g.start()
	g.expect("dra registers gpus at gpu.sock [1.0.0]")
}
