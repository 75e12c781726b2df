package shim_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/network"
	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

// benchNode is a node's images, network and podshim, in a network namespace of its own.
type benchNode struct {
	binary string
	images *image.Store
	net    *network.Network
}

const benchImage = "bench.example/busybox:1"

func newBenchNode(b *testing.B, rootfs string) *benchNode {
	b.Helper()
	n := &benchNode{binary: shimtest.Binary(b)}
	var err error
	if n.images, err = image.Open(filepath.Join(b.TempDir(), "images"), image.Options{}); err != nil {
		b.Fatal(err)
	}
	if _, err := n.images.Load(b.Context(), imageOf(b, rootfs)); err != nil {
		b.Fatal(err)
	}
	n.net, err = network.Open(network.Config{
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}, StateDir: b.TempDir(), NetNSPath: nodeNamespace(b), MTU: 1450,
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// imageOf packs a directory as docker save would an image of one layer.
func imageOf(b *testing.B, rootfs string) *bytes.Buffer {
	b.Helper()
	var layer, archive bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.AddFS(os.DirFS(rootfs)); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer.Bytes(), types.DockerUncompressedLayer))
	if err != nil {
		b.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		b.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, v1.Config{}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		b.Fatal(err)
	}
	tag, err := name.NewTag(benchImage)
	if err != nil {
		b.Fatal(err)
	}
	if err := tarball.Write(tag, img, &archive); err != nil {
		b.Fatal(err)
	}
	return &archive
}

// nodeNamespace makes a network namespace for the node's own interfaces.
func nodeNamespace(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "netns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			b.Error(err)
		}
	})
	return path
}

// start does what the kubelet does for a pod of one container, the root file system and the network at the same time. It returns when the
// program runs.
func (n *benchNode) start(ctx context.Context, config shim.PodConfig, c shim.ContainerConfig) (*shim.Pod, error) {
	var rootfs string
	var mountErr error
	var mounting sync.WaitGroup
	mounting.Go(func() { rootfs, mountErr = n.images.Mount(ctx, benchImage, c.ID) })
	pod, err := shim.Launch(ctx, n.binary, config)
	if err == nil {
		_, err = n.net.Setup(ctx, network.Attachment{PodUID: config.UID, NetNSPath: pod.NetNSPath()})
	}
	mounting.Wait()
	if err != nil || mountErr != nil {
		return nil, errors.Join(err, mountErr)
	}
	c.Spec.Root.Path = rootfs
	if err := pod.Create(ctx, c); err != nil {
		return nil, err
	}
	_, err = pod.Start(ctx, c.ID)
	return pod, err
}

func (n *benchNode) stop(b *testing.B, pod *shim.Pod, id string) {
	b.Helper()
	if err := errors.Join(pod.Shutdown(b.Context()), n.net.Teardown(b.Context(), pod.Config().UID), n.images.Unmount(b.Context(), id)); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNodePod is BenchmarkPodStart with all that a real pod has: its image's layers mounted, and an address on the node's network.
func BenchmarkNodePod(b *testing.B) {
	rootfs := shimtest.Rootfs(b)
	n, bundle := newBenchNode(b, rootfs), runcBundle(b, rootfs)
	var ours, theirs []time.Duration
	for b.Loop() {
		var config shim.PodConfig
		shimtest.Fill(b, &config)
		c := shimtest.ContainerIn(b, "/", "")
		c.Spec.Process.Args = []string{"/bin/true"}
		begin := time.Now()
		pod, err := n.start(b.Context(), config, c)
		if err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(begin))
		shimtest.AwaitExit(b, pod, c.ID)
		n.stop(b, pod, c.ID)
		theirs = append(theirs, runRunc(b, bundle))
	}
	report(b, "pod", ours, theirs)
}

// BenchmarkBurst measures a hundred pods asked for at once, until the last one's program runs.
func BenchmarkBurst(b *testing.B) {
	const pods = 100
	n := newBenchNode(b, shimtest.Rootfs(b))
	var took []time.Duration
	for b.Loop() {
		configs, containers := make([]shim.PodConfig, pods), make([]shim.ContainerConfig, pods)
		for i := range pods {
			shimtest.Fill(b, &configs[i])
			containers[i] = shimtest.ContainerIn(b, "/", "sleep 1000")
		}
		running := make([]*shim.Pod, pods)
		errs := make([]error, pods)
		begin := time.Now()
		var all sync.WaitGroup
		for i := range pods {
			all.Go(func() { running[i], errs[i] = n.start(b.Context(), configs[i], containers[i]) })
		}
		all.Wait()
		took = append(took, time.Since(begin))
		if err := errors.Join(errs...); err != nil {
			b.Fatal(err)
		}
		for i, pod := range running {
			n.stop(b, pod, containers[i].ID)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took).Seconds(), "s-to-the-last")
}
