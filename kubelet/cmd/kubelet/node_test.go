package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/daemon"
	"bareboat.dev/kubelet/config"
	"bareboat.dev/kubelet/shim/shimtest"
)

// host is one node with a model API server: a whole kubelet, with real images, shims, cgroups and network.
type host struct {
	t    testing.TB
	api  *clienttest.Server
	c    *config.Config
	k    *kubelet
	stop func()
	addr string
}

// limit bounds every wait of these tests; it is only reached when something is wrong.
const limit = 2 * time.Minute

func newHost(t testing.TB) *host {
	t.Helper()
	dir := t.TempDir()
	id := make([]byte, 4)
	_, _ = rand.Read(id)
	c := config.Default()
	c.HostnameOverride, c.Podshim, c.CgroupRoot = "node1", shimtest.Binary(t), "bareboat-test-"+hex.EncodeToString(id)
	c.ShimCgroup = c.CgroupRoot + "-shims"
	c.RootDir, c.StateDir, c.ImageStore = dir+"/kubelet", dir+"/run", dir+"/images"
	c.NetworkState, c.LogDir, c.LinkDir = dir+"/network", dir+"/log", dir+"/links"
	c.PodCIDR, c.HealthzPort = []string{"10.244.7.0/24"}, 0
	c.CDISpecDirs = []string{dir + "/cdi"}
	c.CleanupGracePeriod.Duration = time.Second
	// How full this machine's disk is decides nothing here.
	c.EvictionHard = "memory.available<1Mi,nodefs.available<1Mi,nodefs.inodesFree<1,imagefs.available<1Mi,imagefs.inodesFree<1,pid.available<1"
	h := &host{t: t, api: clienttest.NewServer(t), c: &c}
	h.start()
	t.Cleanup(func() {
		h.stop()
		env := daemon.NewEnv("kubelet", slog.New(slog.DiscardHandler))
		if err := cleanup(context.Background(), env, &c); err != nil {
			t.Errorf("clean up the node: %v", err)
		}
	})
	return h
}

// start starts a kubelet, a first one or another after stop.
func (h *host) start() {
	h.t.Helper()
	images, err := openImages(h.c)
	if err != nil {
		h.t.Fatal(err)
	}
	env := daemon.NewEnv("kubelet", slog.New(slog.NewTextHandler(h.t.Output(), nil)))
	api := h.api.NewClient()
	if h.k, err = assemble(env, h.c, api, images); err != nil {
		h.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.certificates()
	h.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.k.run(ctx, l) }()
	h.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("kubelet: %v", err)
		}
		_ = api.Close()
		_ = images.Close()
		h.stop = func() {}
	}
}

// load makes the image "busybox" present.
func (h *host) load() {
	h.t.Helper()
	file := filepath.Join(h.t.TempDir(), "busybox.tar")
	tag, err := name.NewTag("busybox:1")
	if err != nil {
		h.t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, busyboxImage(h.t)); err != nil {
		h.t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	if _, err := h.k.images.Load(context.Background(), f); err != nil {
		h.t.Fatal(err)
	}
}

// busyboxImage is an image of the host's static busybox.
func busyboxImage(t testing.TB) v1.Image {
	t.Helper()
	program, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Fatal("these tests need a static busybox: apt-get install busybox-static")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
		add(&tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	add(&tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, program)
	for _, applet := range []string{"sh", "cat", "ls", "sleep", "echo", "id", "env", "httpd", "nc", "wget", "true", "false", "kill", "stat", "readlink", "hostname", "mkdir", "test", "seq", "dd", "touch", "head", "grep", "pwd"} {
		add(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	add(&tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n"))
	add(&tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:\nweb:x:1000:\nextra:x:2000:web\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", "amd64"
	cf.Config.Env = []string{"PATH=/bin", "FROM_IMAGE=yes"}
	cf.Config.Cmd = []string{"sh", "-c", "echo from the image; sleep 1000"}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

// create creates a pod bound to the node, from YAML of its spec.
func (h *host) create(podName, spec string) *corev1.Pod {
	h.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: podName, Labels: map[string]string{"app": podName}}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		h.t.Fatal(err)
	}
	p.Spec.NodeName = "node1"
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Image == "" {
				list[i].Image = "busybox:1"
			}
			if list[i].ImagePullPolicy == "" {
				list[i].ImagePullPolicy = corev1.PullIfNotPresent
			}
		}
	}
	if p.Spec.TerminationGracePeriodSeconds == nil {
		grace := int64(2)
		p.Spec.TerminationGracePeriodSeconds = &grace
	}
	created, err := client.Of(h.api.Client(), client.Pods()).Create(context.Background(), p)
	if err != nil {
		h.t.Fatal(err)
	}
	return created
}

// await waits until the pod's object satisfies ok, and returns it.
func (h *host) await(podName, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var last *corev1.Pod
	for e, err := range client.Of(h.api.Client(), client.Pods()).Watch(ctx, "default", client.WatchOptions{FieldSelector: "metadata.name=" + podName}) {
		if err != nil {
			break
		}
		if last = e.Object; last != nil && e.Type != client.Deleted && ok(last) {
			return last
		}
	}
	h.t.Fatalf("pod %s: %s: did not come to be; last state: %s", podName, what, statusText(last))
	return nil
}

// awaitGone waits until the pod's object is gone.
func (h *host) awaitGone(podName string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	pods := client.Of(h.api.Client(), client.Pods())
	for e, err := range pods.Watch(ctx, "default", client.WatchOptions{FieldSelector: "metadata.name=" + podName, InitialEvents: true}) {
		if err != nil {
			break
		}
		if e.Type == client.Deleted {
			return
		}
		if e.InitialEnd {
			if _, err := pods.Get(ctx, "default", podName); apierrors.IsNotFound(err) {
				return
			}
		}
	}
	h.t.Fatalf("pod %s was not removed", podName)
}

func statusText(p *corev1.Pod) string {
	if p == nil {
		return "none"
	}
	text, _ := yaml.Marshal(p.Status)
	return string(text)
}

func running(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && isReady(p) }

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// log reads a container's log file without its CRI framing.
func (h *host) log(p *corev1.Pod, container string, attempt string) string {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.c.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID), container, attempt+".log"))
	if err != nil {
		h.t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 { // the last line may be on its way
			b.WriteString(parts[3])
		}
	}
	return b.String()
}

func (h *host) remove(podName string, grace int64) {
	h.t.Helper()
	if err := client.Of(h.api.Client(), client.Pods()).Delete(context.Background(), "default", podName, client.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		h.t.Fatal(err)
	}
}
