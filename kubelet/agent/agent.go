package agent

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/client/events"
	"bareboat.dev/kubelet/apparmor"
	"bareboat.dev/kubelet/dirwatch"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/manifest"
	"bareboat.dev/kubelet/objects"
	"bareboat.dev/kubelet/podcert"
	"bareboat.dev/kubelet/userns"
	"bareboat.dev/kubelet/volume"
	"bareboat.dev/kubelet/volume/csi"
)

// Config is what the agent is told.
type Config struct {
	NodeName string
	// Root is the kubelet's directory, /var/lib/kubelet; StateRoot that of the podshims' state, /run/bareboat/pods; LogRoot
	// that of container logs, /var/log/pods; LinkRoot that of the links to them, /var/log/containers, or empty for none.
	Root, StateRoot, LogRoot, LinkRoot string
	ClusterDNS                         []string
	ClusterDomain                      string
	// ResolvConf is the node's resolver configuration.
	ResolvConf string
	// SeccompRoot holds seccomp profiles of type Localhost.
	SeccompRoot string
	// ShimCgroup is the control group of the podshims.
	ShimCgroup string
	// UnsafeSysctls may be set by pods beside the safe ones; AppArmor says that the kernel enforces profiles.
	UnsafeSysctls []string
	AppArmor      bool
	// PidsLimit bounds the processes of one pod; 0 is no limit.
	PidsLimit int64
	// Pull says how to reach registries.
	Pull image.PullOptions
	// Verify says which images that are here need their registry's word.
	Verify image.Verification
}

// Node is what the agent asks about its node.
type Node interface {
	// Addresses are the node's IP addresses, the primary one first.
	Addresses() []string
	// Object is the Node's object as it was last seen; nil while it is not registered.
	Object() *corev1.Node
	// Pressure are the conditions of shortage that are true now.
	Pressure() []corev1.NodeConditionType
	Allocatable() corev1.ResourceList
	Capacity() corev1.ResourceList
	// Nudge asks for the status to be told again, since something may have changed.
	Nudge()
	// AwaitInUse returns once the node's status in the API says that a volume is in use.
	AwaitInUse(ctx context.Context, v corev1.UniqueVolumeName) error
}

// Deps are what the agent works with.
type Deps struct {
	Client  *client.Client
	Images  Images
	Shims   Shims
	Groups  Groups
	Devices Devices
	Claims  Claims
	Shares  Shares
	CPUs    CPUs
	Memory  Memory
	Node    Node
	Network *LateNetwork
	Events  *events.Recorder
	// Watches is how directories are followed; nil is fine.
	Watches *dirwatch.Source
	Log     *slog.Logger
}

// Agent runs a node's pods. Make one with New, then call Run.
type Agent struct {
	Config
	Deps

	pods     *client.Mirror[*corev1.Pod]
	services *client.Mirror[*corev1.Service]
	objects  *objects.Cache
	volumes  *volume.Manager
	drivers  *csi.Registry
	ids      *userns.Allocator
	profiles *apparmor.Loader
	// certificates are those that pods ask for themselves.
	certificates *podcert.Manager
	writer       *statusWriter
	caps         []string
	metrics      *metrics

	// adopted is closed when the pods of an earlier run have been tried to adopt.
	adopted chan struct{}

	ctx     context.Context
	wg      sync.WaitGroup
	mu      sync.Mutex
	workers map[types.UID]*worker
	synced  bool
	// manifests are the static pods that there are to be, by namespace and name.
	manifests map[string]*corev1.Pod
	// cpuKick asks for running containers' sets of CPUs to be looked at.
	cpuKick chan struct{}
	// shuttingDown says that the host is going down: no pod is taken any more.
	shuttingDown atomic.Bool
	mirrorKick   chan struct{}
	// sharing serializes what the class of burstable pods is given; left are the pods that have no part in it any more.
	sharing sync.Mutex
	left    map[types.UID]bool
}

// New makes an agent; nothing runs before Run.
func New(c Config, d Deps) *Agent {
	a := &Agent{Config: c, Deps: d, workers: map[types.UID]*worker{}, caps: kernelCapabilities(), metrics: newMetrics(), adopted: make(chan struct{}),
		mirrorKick: make(chan struct{}, 1), cpuKick: make(chan struct{}, 1), left: map[types.UID]bool{}}
	a.pods = client.NewMirror(d.Client, client.Pods(), client.MirrorOptions[*corev1.Pod]{
		FieldSelector: "spec.nodeName=" + c.NodeName, Log: d.Log,
	})
	a.services = client.NewMirror(d.Client, client.Services(), client.MirrorOptions[*corev1.Service]{Log: d.Log})
	a.objects = objects.New(d.Client, d.Log, a.objectChanged)
	a.profiles = apparmor.NewLoader("")
	if a.AppArmor && !a.profiles.Able() {
		a.Log.Warn("containers without an AppArmor profile are not confined by one", "error", apparmor.ErrNoParser)
	}
	a.certificates = podcert.New(podcert.Config{API: certificateAPI{a}})
	a.drivers = csi.NewRegistry(csi.Config{Root: c.Root, Node: c.NodeName, API: csiAPI{a}, Log: d.Log})
	a.volumes = volume.New(volume.Config{Root: c.Root, Sources: sources{a}, Trust: sources{a}, Allocatable: d.Node.Allocatable, Plugins: map[string]volume.Plugin{
		volume.PluginCSI: csi.NewPlugin(a.drivers), volume.PluginNFS: volume.NFS{}, volume.PluginImage: imageVolumes{a}, volume.PluginLocal: &volume.LocalDevice{},
	}})
	a.writer = newStatusWriter(a)
	return a
}

// Run adopts what an earlier kubelet left, and runs the node's pods until ctx ends. Containers go on running after it.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.ctx = ctx
	var err error
	if a.ids, err = openIDs(a.Root); err != nil {
		return err
	}
	if err := a.adopt(ctx); err != nil {
		return err
	}
	a.pods.OnChange(a.podChanged)
	a.pods.OnSynced(a.podsSynced)
	err = client.RunAll(ctx, a.pods.Run, a.services.Run, a.writer.run, a.drivers.Run, a.runMirrors, a.shareCPUs, a.expandVolumes)
	cancel()
	a.wg.Wait()
	a.objects.Close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Drivers is who takes CSI drivers in.
func (a *Agent) Drivers() *csi.Registry { return a.drivers }

// podChanged hands a change of the mirror on to the pod's worker.
func (a *Agent) podChanged(ch client.Change[*corev1.Pod]) {
	if m := ch.New; m != nil && manifest.IsMirror(m) {
		a.mirrorChanged(podKey(m), m)
		ch.New = nil
	} else if m := ch.Old; m != nil && manifest.IsMirror(m) {
		a.mirrorChanged(podKey(m), nil)
	}
	if ch.Old != nil && manifest.IsMirror(ch.Old) {
		ch.Old = nil
	}
	if ch.Old != nil && (ch.New == nil || ch.New.UID != ch.Old.UID) {
		a.withWorker(ch.Old.UID, func(w *worker) { w.setGone() })
	}
	if ch.New == nil {
		return
	}
	a.mu.Lock()
	w := a.workers[ch.New.UID]
	if w == nil {
		w = a.startLocked(ch.New)
	}
	a.mu.Unlock()
	w.setPod(ch.New)
}

// podsSynced ends the pods that the API no longer has: only now is it certain that it does not.
func (a *Agent) podsSynced() {
	have := map[types.UID]bool{}
	for _, p := range a.pods.List() {
		have[p.UID] = true
	}
	a.mu.Lock()
	first := !a.synced
	a.synced = true
	var orphans []*worker
	for uid, w := range a.workers {
		if !have[uid] && !w.static {
			orphans = append(orphans, w)
		}
	}
	a.mu.Unlock()
	for _, w := range orphans {
		w.setGone()
	}
	if first {
		a.wg.Go(func() { a.sweep(have) })
	}
}

// objectChanged steps and refreshes the pods that refer to an object.
func (a *Agent) objectChanged(r objects.Ref) {
	if r.Kind == objects.CertificateRequests {
		a.certificates.Changed()
	}
	for _, w := range a.all() {
		if w.refersTo(r) {
			w.objectChanged()
		}
	}
}

// startLocked makes a pod's worker and lets it run.
func (a *Agent) startLocked(p *corev1.Pod) *worker {
	w := newWorker(a, p)
	a.beginLocked(w, p)
	return w
}

func (a *Agent) beginLocked(w *worker, p *corev1.Pod) {
	if !terminal(p) {
		a.admitLocked(w, p)
	}
	a.workers[p.UID] = w
	a.wg.Go(w.run)
}

func (a *Agent) withWorker(uid types.UID, f func(*worker)) {
	a.mu.Lock()
	w := a.workers[uid]
	a.mu.Unlock()
	if w != nil {
		f(w)
	}
}

func (a *Agent) all() []*worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]*worker, 0, len(a.workers))
	for _, w := range a.workers {
		list = append(list, w)
	}
	return list
}

// forget ends a worker whose pod is gone from here and from the API.
func (a *Agent) forget(w *worker) {
	a.mu.Lock()
	delete(a.workers, w.uid)
	a.reconsiderLocked()
	if w.static {
		a.startStaticLocked(w.key)
		a.mirrorsNudge()
	}
	a.mu.Unlock()
	a.objects.Drop(w.uid)
	a.writer.forget(w)
	w.cancel()
}

// stateDir is where a pod's podshim keeps its state.
func (a *Agent) stateDir(uid types.UID) string { return filepath.Join(a.StateRoot, string(uid)) }
