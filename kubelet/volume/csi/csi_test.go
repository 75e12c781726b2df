package csi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/dirwatch/dirwatchtest"
	"bareboat.dev/kubelet/plugins"
	"bareboat.dev/kubelet/volume"
)

// inside tells the test binary that it runs in a mount namespace of its own.
const inside = "BAREBOAT_TEST_INSIDE"

// TestMain runs the tests in a mount namespace of their own, so that no mount of theirs can outlive them.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests mount file systems and must run as root")
		os.Exit(1)
	}
	if os.Getenv(inside) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

// disks is a real CSI driver: a volume is a folder below its root, staged and published by bind mounts.
type disks struct {
	spec.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	dir string
	// more is how many volumes it can have beyond seven.
	more atomic.Int64
	// told is what the kubelet has said of the registration.
	told chan *registration.RegistrationStatus

	mu    sync.Mutex
	calls []string
	last  *spec.NodePublishVolumeRequest
	stage *spec.NodeStageVolumeRequest
	fail  error
}

func (d *disks) note(format string, args ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, fmt.Sprintf(format, args...))
	err := d.fail
	d.fail = nil
	return err
}

// log returns what was called since the last time.
func (d *disks) log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { d.calls = nil }()
	return strings.Join(d.calls, " ")
}

func (d *disks) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: "disks.example", Endpoint: filepath.Join(d.dir, "csi.sock"), SupportedVersions: []string{"1.0.0"}}, nil
}

func (d *disks) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	d.told <- s
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *disks) NodeGetInfo(context.Context, *spec.NodeGetInfoRequest) (*spec.NodeGetInfoResponse, error) {
	return &spec.NodeGetInfoResponse{NodeId: "disks-on-node1", MaxVolumesPerNode: 7 + d.more.Load(), AccessibleTopology: &spec.Topology{Segments: map[string]string{"disks.example/rack": "r1"}}}, nil
}

func (d *disks) NodeGetCapabilities(context.Context, *spec.NodeGetCapabilitiesRequest) (*spec.NodeGetCapabilitiesResponse, error) {
	can := func(t spec.NodeServiceCapability_RPC_Type) *spec.NodeServiceCapability {
		return &spec.NodeServiceCapability{Type: &spec.NodeServiceCapability_Rpc{Rpc: &spec.NodeServiceCapability_RPC{Type: t}}}
	}
	return &spec.NodeGetCapabilitiesResponse{Capabilities: []*spec.NodeServiceCapability{can(spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME),
		can(spec.NodeServiceCapability_RPC_GET_VOLUME_STATS), can(spec.NodeServiceCapability_RPC_EXPAND_VOLUME)}}, nil
}

func (d *disks) NodeGetVolumeStats(_ context.Context, r *spec.NodeGetVolumeStatsRequest) (*spec.NodeGetVolumeStatsResponse, error) {
	if err := d.note("stats:%s", r.VolumeId); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(r.VolumePath, "file")); err != nil {
		return nil, err
	}
	return &spec.NodeGetVolumeStatsResponse{
		Usage: []*spec.VolumeUsage{{Unit: spec.VolumeUsage_BYTES, Total: 100, Used: 30, Available: 70}, {Unit: spec.VolumeUsage_INODES, Total: 10, Used: 1, Available: 9}},
	}, nil
}

func (d *disks) NodeExpandVolume(_ context.Context, r *spec.NodeExpandVolumeRequest) (*spec.NodeExpandVolumeResponse, error) {
	if err := d.note("expand:%s:%d:%s", r.VolumeId, r.CapacityRange.RequiredBytes, r.Secrets["key"]); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(r.VolumePath, "file")); err != nil {
		return nil, err
	}
	return &spec.NodeExpandVolumeResponse{CapacityBytes: r.CapacityRange.RequiredBytes}, nil
}

func bind(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(from, &a), unix.Stat(to, &b)); err != nil || a.Ino == b.Ino {
		return err // mounted already
	}
	return unix.Mount(from, to, "", unix.MS_BIND, "")
}

func (d *disks) NodeStageVolume(_ context.Context, r *spec.NodeStageVolumeRequest) (*spec.NodeStageVolumeResponse, error) {
	if err := d.note("stage:%s", r.VolumeId); err != nil {
		return nil, err
	}
	d.stage = r
	folder := filepath.Join(d.dir, "volumes", r.VolumeId)
	return &spec.NodeStageVolumeResponse{}, errors.Join(os.MkdirAll(folder, 0o755), bind(folder, r.StagingTargetPath))
}

func (d *disks) NodeUnstageVolume(_ context.Context, r *spec.NodeUnstageVolumeRequest) (*spec.NodeUnstageVolumeResponse, error) {
	if err := d.note("unstage:%s", r.VolumeId); err != nil {
		return nil, err
	}
	return &spec.NodeUnstageVolumeResponse{}, unix.Unmount(r.StagingTargetPath, 0)
}

func (d *disks) NodePublishVolume(_ context.Context, r *spec.NodePublishVolumeRequest) (*spec.NodePublishVolumeResponse, error) {
	if err := d.note("publish:%s", r.VolumeId); err != nil {
		return nil, err
	}
	d.last = r
	from := r.StagingTargetPath
	if from == "" { // inline
		from = filepath.Join(d.dir, "inline", r.VolumeId)
		if err := os.MkdirAll(from, 0o755); err != nil {
			return nil, err
		}
	}
	return &spec.NodePublishVolumeResponse{}, bind(from, r.TargetPath)
}

func (d *disks) NodeUnpublishVolume(_ context.Context, r *spec.NodeUnpublishVolumeRequest) (*spec.NodeUnpublishVolumeResponse, error) {
	if err := d.note("unpublish:%s", r.VolumeId); err != nil {
		return nil, err
	}
	if err := unix.Unmount(r.TargetPath, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	return &spec.NodeUnpublishVolumeResponse{}, os.RemoveAll(r.TargetPath)
}

// api is a cluster of one claim, bound to a volume of the driver.
type api struct {
	mu         sync.Mutex
	driver     *storagev1.CSIDriver
	attachment *storagev1.VolumeAttachment
	published  chan []storagev1.CSINodeDriver
	root       string
	inUse      []string // what was in use each time that it was told
	// asked is how many tokens were asked for, which are to be replaced at renew.
	asked int
	renew time.Time
}

func notFound(resource, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
}

func (a *api) CSIDriver(_ context.Context, name string) (*storagev1.CSIDriver, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.driver == nil || a.driver.Name != name {
		return nil, notFound("csidrivers", name)
	}
	return a.driver, nil
}

func (a *api) VolumeAttachment(_ context.Context, name string) (*storagev1.VolumeAttachment, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.attachment == nil || a.attachment.Name != name {
		return nil, notFound("volumeattachments", name)
	}
	return a.attachment, nil
}

func (a *api) Secret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	if namespace+"/"+name != "storage/credentials" {
		return nil, notFound("secrets", name)
	}
	return &corev1.Secret{Data: map[string][]byte{"key": []byte("open sesame")}}, nil
}

func (a *api) Token(_ context.Context, p *corev1.Pod, audience string, _ *int64) (volume.Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	return volume.Token{Value: p.Spec.ServiceAccountName + "@" + audience, Renew: a.renew, Expires: time.Unix(0, 0)}, nil
}

func (a *api) TellInUse(_ context.Context, v corev1.UniqueVolumeName) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v != "" && !slices.Contains(InUse(a.root), v) {
		return fmt.Errorf("%s is not in use", v)
	}
	a.inUse = append(a.inUse, fmt.Sprint(InUse(a.root)))
	return nil
}

func (a *api) PublishDrivers(_ context.Context, drivers []storagev1.CSINodeDriver, labels map[string]string) error {
	if len(drivers) > 0 && labels["disks.example/rack"] != "r1" {
		return fmt.Errorf("labels %v", labels)
	}
	select {
	case a.published <- drivers:
	default:
	}
	return nil
}

// sources is where the manager finds claims.
type sources struct {
	volume.Sources
	pv *corev1.PersistentVolume
}

func (s sources) Claim(_ context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume, error) {
	c := &corev1.PersistentVolumeClaim{}
	c.Namespace, c.Name, c.UID, c.Status.Phase = namespace, name, "claim", corev1.ClaimBound
	s.pv.Spec.ClaimRef = &corev1.ObjectReference{UID: c.UID}
	return c, s.pv, nil
}

// node is a kubelet's volumes with a registry that runs, and a driver that has not registered yet.
type node struct {
	t        *testing.T
	root     string
	disks    *disks
	api      *api
	registry *Registry
	volumes  *volume.Manager
	pv       *corev1.PersistentVolume
}

func newNode(t *testing.T) *node {
	t.Helper()
	// Socket addresses are limited to 107 bytes, which the test's own folder may exceed.
	root, err := os.MkdirTemp("/tmp", "csi")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, root: root, api: &api{root: root, published: make(chan []storagev1.CSINodeDriver, 64)}}
	n.disks = &disks{dir: filepath.Join(root, "driver"), told: make(chan *registration.RegistrationStatus, 64)}
	n.registry = NewRegistry(Config{Root: root, Node: "node1", API: n.api, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	n.pv = &corev1.PersistentVolume{}
	n.pv.Name = "pv1"
	n.pv.Spec = corev1.PersistentVolumeSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			Driver: "disks.example", VolumeHandle: "disk-1", FSType: "ext4", VolumeAttributes: map[string]string{"size": "big"},
			NodeStageSecretRef: &corev1.SecretReference{Namespace: "storage", Name: "credentials"}}}}
	n.volumes = volume.New(volume.Config{Root: root, Sources: sources{pv: n.pv}, Plugins: map[string]volume.Plugin{volume.PluginCSI: NewPlugin(n.registry)}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	found := plugins.New(plugins.Config{
		Dir: filepath.Join(root, "plugins_registry"), Handlers: map[string]plugins.Handler{registration.CSIPlugin: n.registry}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	go func() { done <- n.registry.Run(ctx) }()
	go func() { done <- found.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Errorf("registry: %v", err)
		}
		if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), root) {
			t.Errorf("mounts are left:\n%s", mounts)
			_ = exec.Command("umount", "-R", root).Run()
		}
		_ = os.RemoveAll(root)
	})
	n.awaitDrivers(0) // its first word, which comes when it watches
	return n
}

// serve starts the driver's two services.
func (n *node) serve() (stop func()) {
	n.t.Helper()
	var servers []*grpc.Server
	if err := os.MkdirAll(n.disks.dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(n.disks.dir, "csi.sock"), filepath.Join(n.root, "plugins_registry/disks.example-reg.sock")} {
		_ = os.Remove(path)
		l, err := net.Listen("unix", path)
		if err != nil {
			n.t.Fatal(err)
		}
		s := grpc.NewServer()
		spec.RegisterNodeServer(s, n.disks)
		registration.RegisterRegistrationServer(s, n.disks)
		servers = append(servers, s)
		go func() { _ = s.Serve(l) }()
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			for _, s := range servers {
				s.Stop()
			}
		})
	}
	n.t.Cleanup(stop)
	return stop
}

// register starts the driver and waits until the API knows of it.
func (n *node) register() (stop func()) {
	n.t.Helper()
	stop = n.serve()
	if s := <-n.disks.told; !s.PluginRegistered {
		n.t.Fatalf("not registered: %s", s.Error)
	}
	n.awaitDrivers(1)
	return stop
}

func (n *node) awaitDrivers(count int) []storagev1.CSINodeDriver {
	n.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case drivers := <-n.api.published:
			if len(drivers) == count {
				return drivers
			}
		case <-limit:
			n.t.Fatalf("the API was not told of %d drivers", count)
		}
	}
}

func podOf(t *testing.T, uid, text string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID = "default", "pod-"+uid, types.UID("uid-"+uid)
	if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

const claimPod = `
serviceAccountName: robot
securityContext: {fsGroup: 2000}
volumes: [{name: data, persistentVolumeClaim: {claimName: c}}]
`

func (n *node) mount(p *corev1.Pod) string {
	n.t.Helper()
	if err := n.volumes.Mount(n.t.Context(), p); err != nil {
		n.t.Fatal(err)
	}
	path, err := n.volumes.Path(n.t.Context(), p, &p.Spec.Volumes[0])
	if err != nil {
		n.t.Fatal(err)
	}
	return path
}

// TestPersistentVolume shows the life of a volume of two pods: staged once, published to each, with the pod's group, and unstaged by the last.
func TestPersistentVolume(t *testing.T) {
	n := newNode(t)
	a, b := podOf(t, "a", claimPod), podOf(t, "b", claimPod)
	if err := n.volumes.Mount(t.Context(), a); err == nil || !strings.Contains(err.Error(), "driver name disks.example not found in the list of registered CSI drivers") {
		t.Errorf("without a driver: %v", err)
	}
	n.register()
	path := n.mount(a)
	if err := os.WriteFile(filepath.Join(path, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Gid != 2000 || st.Mode&unix.S_ISGID == 0 {
		t.Errorf("group %d, mode %o, %v", st.Gid, st.Mode, err)
	}
	if s := n.disks.stage; s.Secrets["key"] != "open sesame" || s.VolumeContext["size"] != "big" || s.VolumeCapability.GetMount().GetFsType() != "ext4" {
		t.Errorf("staged with %v", s)
	}
	other := n.mount(b)
	if data, err := os.ReadFile(filepath.Join(other, "file")); err != nil || string(data) != "x" {
		t.Errorf("the other pod reads %q, %v", data, err)
	}
	if got := n.disks.log(); got != "stage:disk-1 publish:disk-1 stage:disk-1 publish:disk-1" {
		t.Errorf("calls %s", got)
	}
	for _, p := range []*corev1.Pod{a, b} {
		if err := n.volumes.RemovePodDir(p.UID); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.disks.log(); got != "unpublish:disk-1 unpublish:disk-1 unstage:disk-1" {
		t.Errorf("calls %s", got)
	}
	if data, err := os.ReadFile(filepath.Join(n.disks.dir, "volumes/disk-1/file")); err != nil || string(data) != "x" {
		t.Errorf("the volume holds %q, %v", data, err)
	}
}

// TestSize shows how full a volume is, in its driver's words, and that the driver makes it larger.
func TestSize(t *testing.T) {
	n := newNode(t)
	p := podOf(t, "a", claimPod)
	claims, err := n.volumes.Claims(t.Context(), p)
	if err != nil || len(claims) != 1 || claims[0].Claim != "c" {
		t.Fatalf("%v, %v", claims, err)
	}
	if _, err := n.volumes.Measure(t.Context(), claims[0]); !errors.Is(err, ErrNoDriver) {
		t.Errorf("without a driver: %v", err)
	}
	n.register()
	if err := os.WriteFile(filepath.Join(n.mount(p), "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := n.volumes.Measure(t.Context(), claims[0])
	if err != nil || f.Capacity != 100 || f.Used != 30 || f.Available != 70 || f.Inodes != 10 || f.InodesUsed != 1 || f.InodesFree != 9 {
		t.Errorf("%+v, %v", f, err)
	}
	claims[0].PV.Spec.CSI.NodeExpandSecretRef = &corev1.SecretReference{Namespace: "storage", Name: "credentials"}
	_ = n.disks.log()
	if err := n.volumes.Expand(t.Context(), claims[0], 200); err != nil || n.disks.log() != "expand:disk-1:200:open sesame" {
		t.Error(err)
	}
	n.disks.fail = errors.New("no room")
	if err := n.volumes.Expand(t.Context(), claims[0], 300); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
	if err := n.volumes.RemovePodDir(p.UID); err != nil {
		t.Error(err)
	}
}

// TestStagingLocks shows that whoever is busy with one volume keeps nobody from another, that one volume has one user at a time, and that
// who waits for it gives up with its context.
func TestStagingLocks(t *testing.T) {
	p := NewPlugin(nil)
	one, other := target{Driver: "d", Handle: "one"}, target{Driver: "d", Handle: "other"}
	unlock, err := p.lock(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	free, err := p.lock(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	free()
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() {
		_, err := p.lock(ctx, one)
		waits <- err
	}()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("the wait ended with %v", err)
	}
	unlock()
	if again, err := p.lock(t.Context(), one); err != nil {
		t.Error(err)
	} else {
		again()
	}
	if len(p.staging) != 0 {
		t.Errorf("%d locks are kept", len(p.staging))
	}
}

// TestRepeat shows that what fails half way is done again, by another kubelet too, and that nothing is deleted while a driver refuses to
// unmount.
func TestRepeat(t *testing.T) {
	n := newNode(t)
	stop := n.register()
	p := podOf(t, "a", claimPod)
	n.disks.fail = errors.New("the disk is busy")
	if err := n.volumes.Mount(t.Context(), p); err == nil || !strings.Contains(err.Error(), "the disk is busy") {
		t.Errorf("mount: %v", err)
	}
	path := n.mount(p)
	if err := os.WriteFile(filepath.Join(path, "file"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := volume.New(volume.Config{Root: n.root, Sources: sources{pv: n.pv}, Plugins: map[string]volume.Plugin{volume.PluginCSI: NewPlugin(n.registry)}})
	n.disks.fail = errors.New("not now")
	if err := again.RemovePodDir(p.UID); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Errorf("unmount: %v", err)
	}
	stop()
	n.awaitDrivers(0)
	if err := again.RemovePodDir(p.UID); !errors.Is(err, ErrNoDriver) {
		t.Errorf("unmount without the driver: %v", err)
	}
	n.register()
	if err := again.RemovePodDir(p.UID); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(n.disks.dir, "volumes/disk-1/file")); err != nil || string(data) != "precious" {
		t.Errorf("the volume holds %q, %v", data, err)
	}
}

// TestAttachment shows that a driver that needs its volumes attached gets them only then, with what the attacher has left, and that the
// node says so of a volume before the driver has it and until it has given it up.
func TestAttachment(t *testing.T) {
	n := newNode(t)
	n.register()
	n.api.driver = &storagev1.CSIDriver{}
	n.api.driver.Name = "disks.example"
	p := podOf(t, "a", claimPod)
	if err := n.volumes.Mount(t.Context(), p); err == nil || !strings.Contains(err.Error(), "volume pv1 is not attached") {
		t.Errorf("without an attachment: %v", err)
	}
	a := &storagev1.VolumeAttachment{}
	a.Name = "csi-" + volume.Hash("disk-1", "disks.example", "node1")
	n.api.attachment = a
	if err := n.volumes.Mount(t.Context(), p); err == nil || !strings.Contains(err.Error(), "is not attached yet") {
		t.Errorf("before it is attached: %v", err)
	}
	if len(n.api.inUse) > 0 {
		t.Errorf("what is not attached is said to be in use: %s", n.api.inUse)
	}
	a.Status = storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"device": "/dev/x"}}
	n.mount(p)
	if n.disks.last.PublishContext["device"] != "/dev/x" {
		t.Errorf("published with %v", n.disks.last)
	}
	if err := n.volumes.RemovePodDir(p.UID); err != nil {
		t.Error(err)
	}
	if got := strings.Join(n.api.inUse, " "); got != "[kubernetes.io/csi/disks.example^disk-1] []" {
		t.Errorf("told that %s are in use", got)
	}
}

// TestInline shows a volume that a pod describes itself: only of drivers that make such, told whose it is, never staged.
func TestInline(t *testing.T) {
	n := newNode(t)
	n.register()
	p := podOf(t, "a", `
serviceAccountName: robot
volumes: [{name: scratch, csi: {driver: disks.example, volumeAttributes: {kind: fast}}}]
`)
	if err := n.volumes.Mount(t.Context(), p); err == nil || !strings.Contains(err.Error(), `volume mode "Ephemeral" not supported by driver disks.example`) {
		t.Errorf("inline volume: %v", err)
	}
	yes, no := true, false
	n.api.driver = &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{AttachRequired: &no, PodInfoOnMount: &yes,
		VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral}, TokenRequests: []storagev1.TokenRequest{{Audience: "vault"}}}}
	n.api.driver.Name = "disks.example"
	n.mount(p)
	got := n.disks.last.VolumeContext
	if got["kind"] != "fast" || got["csi.storage.k8s.io/pod.name"] != "pod-a" || got["csi.storage.k8s.io/ephemeral"] != "true" ||
		got["csi.storage.k8s.io/serviceAccount.tokens"] != `{"vault":{"token":"robot@vault","expirationTimestamp":"1970-01-01T00:00:00Z"}}` {
		t.Errorf("published with %v", got)
	}
	if err := n.volumes.RemovePodDir(p.UID); err != nil {
		t.Error(err)
	}
	if got := n.disks.log(); strings.Contains(got, "stage") {
		t.Errorf("calls %s", got)
	}
}

// TestRepublish shows a volume that its driver wants published again: it is, with tokens among the secrets, which are not asked for anew before
// they are due; and other drivers' volumes are left alone.
func TestRepublish(t *testing.T) {
	n := newNode(t)
	n.register()
	p := podOf(t, "a", "{serviceAccountName: robot, volumes: [{name: data, persistentVolumeClaim: {claimName: c}}]}")
	n.api.driver = &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{AttachRequired: new(false), RequiresRepublish: new(true),
		TokenRequests: []storagev1.TokenRequest{{Audience: "vault"}}, ServiceAccountTokenInSecrets: new(true)}}
	n.api.driver.Name, n.api.renew = "disks.example", time.Now().Add(time.Hour)
	n.mount(p)
	_ = n.disks.log()
	n.disks.last = nil
	again, err := n.volumes.Refresh(t.Context(), p)
	if err != nil || again.IsZero() || n.disks.log() != "publish:disk-1" {
		t.Fatalf("again at %v, %v", again, err)
	}
	const key = "csi.storage.k8s.io/serviceAccount.tokens"
	if got := n.disks.last; got.Secrets[key] != `{"vault":{"token":"robot@vault","expirationTimestamp":"1970-01-01T00:00:00Z"}}` || got.VolumeContext[key] != "" || n.api.asked != 1 {
		t.Errorf("published with %v, after %d tokens", got, n.api.asked)
	}
	n.disks.fail = errors.New("not now")
	if again, err := n.volumes.Refresh(t.Context(), p); err == nil || !strings.Contains(err.Error(), "not now") || again.IsZero() {
		t.Errorf("again at %v, %v", again, err)
	}
	_ = n.disks.log()
	n.api.driver.Spec.RequiresRepublish = nil
	if again, err := n.volumes.Refresh(t.Context(), p); err != nil || !again.IsZero() || n.disks.log() != "" {
		t.Errorf("a driver that does not want it: again at %v, %v", again, err)
	}
	if err := n.volumes.RemovePodDir(p.UID); err != nil {
		t.Error(err)
	}
}

// TestRecount shows that a driver that wants it is asked again how many volumes it can have here, and the API told; and no other.
func TestRecount(t *testing.T) {
	n := newNode(t)
	n.register()
	d := n.registry.list()[0]
	n.disks.more.Store(1)
	if next, changed := n.registry.recount(t.Context()); next != periodEvery || changed || n.registry.list()[0] != d {
		t.Errorf("a driver that does not want it is asked, and again in %v", next)
	}
	n.api.mu.Lock()
	n.api.driver = &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{NodeAllocatableUpdatePeriodSeconds: new(int64(60))}}
	n.api.driver.Name = "disks.example"
	n.api.mu.Unlock()
	if next, changed := n.registry.recount(t.Context()); next != time.Minute || !changed {
		t.Errorf("it is asked again in %v", next)
	}
	n.registry.Synced()
	if drivers := n.awaitDrivers(1); *drivers[0].Allocatable.Count != 8 {
		t.Errorf("the API is told of %d volumes", *drivers[0].Allocatable.Count)
	}
}

// TestOnePodAlone shows that a volume of the mode ReadWriteOncePod is one pod's alone, until it has given it up.
func TestOnePodAlone(t *testing.T) {
	n := newNode(t)
	n.register()
	n.pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	a, b := podOf(t, "a", claimPod), podOf(t, "b", claimPod)
	n.mount(a)
	n.mount(a) // its own
	if err := n.volumes.Mount(t.Context(), b); err == nil || !strings.Contains(err.Error(), "ReadWriteOncePod access mode and is already in use by another pod") {
		t.Errorf("another pod: %v", err)
	}
	if err := n.volumes.RemovePodDir(a.UID); err != nil {
		t.Fatal(err)
	}
	n.mount(b)
	if err := n.volumes.RemovePodDir(b.UID); err != nil {
		t.Fatal(err)
	}
}

// TestAccessModes shows what drivers are told of how a volume is used.
func TestAccessModes(t *testing.T) {
	const once, alone, read, many = corev1.ReadWriteOnce, corev1.ReadWriteOncePod, corev1.ReadOnlyMany, corev1.ReadWriteMany
	for _, c := range []struct {
		modes        []corev1.PersistentVolumeAccessMode
		plain, multi string
	}{
		{[]corev1.PersistentVolumeAccessMode{once}, "SINGLE_NODE_WRITER", "SINGLE_NODE_MULTI_WRITER"},
		{[]corev1.PersistentVolumeAccessMode{alone}, "SINGLE_NODE_WRITER", "SINGLE_NODE_SINGLE_WRITER"},
		{[]corev1.PersistentVolumeAccessMode{read}, "MULTI_NODE_READER_ONLY", "MULTI_NODE_READER_ONLY"},
		{[]corev1.PersistentVolumeAccessMode{once, many}, "MULTI_NODE_MULTI_WRITER", "MULTI_NODE_MULTI_WRITER"},
	} {
		if plain, multi := accessMode(c.modes, false).String(), accessMode(c.modes, true).String(); plain != c.plain || multi != c.multi {
			t.Errorf("%v: %s, %s; want %s, %s", c.modes, plain, multi, c.plain, c.multi)
		}
	}
}

// TestRegistration shows what the API is told of a driver, and that a socket that goes takes its driver along.
func TestRegistration(t *testing.T) {
	n := newNode(t)
	stop := n.serve()
	if s := <-n.disks.told; !s.PluginRegistered {
		t.Fatalf("not registered: %s", s.Error)
	}
	d := n.awaitDrivers(1)[0]
	if d.Name != "disks.example" || d.NodeID != "disks-on-node1" || *d.Allocatable.Count != 7 || d.TopologyKeys[0] != "disks.example/rack" {
		t.Errorf("driver %+v", d)
	}
	// What is no socket, or no plug-in, harms nobody.
	if err := os.WriteFile(filepath.Join(n.root, "plugins_registry/readme"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	stop()
	n.awaitDrivers(0)
	if _, err := n.registry.find("disks.example"); !errors.Is(err, ErrNoDriver) {
		t.Errorf("found %v", err)
	}
}

// TestWithoutInotify shows that drivers come, are replaced and go where inotify is used up, and that the API is not asked meanwhile.
func TestWithoutInotify(t *testing.T) {
	if !dirwatchtest.Exhausted(t) {
		return
	}
	n := newNode(t)
	n.register()
	n.serve() // another process of the same driver, on a socket of its own
	if s := <-n.disks.told; !s.PluginRegistered {
		t.Fatalf("not registered: %s", s.Error)
	}
	n.awaitDrivers(1)
	if err := os.Remove(filepath.Join(n.root, "plugins_registry/disks.example-reg.sock")); err != nil {
		t.Fatal(err)
	}
	n.awaitDrivers(0)
	if extra := len(n.api.published); extra != 0 {
		t.Errorf("the API was told %d times more", extra)
	}
}
