package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/network"
	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/runspec"
	"bareboat.dev/kubelet/shim"
)

// newID makes an id that is unique on the node, and long as those of other runtimes.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return hex.EncodeToString(b[:])
}

// setupSandbox makes the pod's cgroup, podshim and network.
func (w *worker) setupSandbox(ctx context.Context) func() {
	view := w.snapshot()
	id := newID()
	sandbox, ips, err := w.a.newSandbox(ctx, view.pod, id)
	if err != nil {
		if ctx.Err() == nil {
			w.a.event(view.pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "", "Failed to create pod sandbox: %v", err)
			w.a.Log.Warn("pod sandbox was not created", "pod", podKey(view.pod), "error", err)
		}
		return func() {
			w.seen.Sandbox = pod.Sandbox{Failure: failure(w.seen.Sandbox.Failure, "FailedCreatePodSandBox", err)}
		}
	}
	return func() {
		w.sandbox = sandbox
		w.seen.Sandbox = pod.Sandbox{State: pod.SandboxReady, ID: id, IPs: ips}
		w.follow(sandbox)
	}
}

// failure notes one more failure.
func failure(last *pod.Failure, reason string, err error) *pod.Failure {
	n := 1
	if last != nil {
		n = last.Count + 1
	}
	return &pod.Failure{Reason: reason, Message: err.Error(), At: time.Now(), Count: n}
}

// newSandbox makes a sandbox, or leaves nothing behind.
func (a *Agent) newSandbox(ctx context.Context, p *corev1.Pod, id string) (s Sandbox, ips []string, err error) {
	defer func() {
		if err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownLimit)
			defer cancel()
			if e := a.removeSandbox(undo, p, s); e != nil {
				a.Log.Error("half-made pod sandbox was not removed", "pod", podKey(p), "error", e)
			}
			s = nil
		}
	}()
	if err := a.supported(ctx, p); err != nil {
		return nil, nil, err
	}
	if err := writeFile(a.recordPath(p.UID, sandboxFile), []byte(id), 0o600); err != nil {
		return nil, nil, err
	}
	parent, err := a.Groups.CreatePod(cgroup.QoS(pod.QOSClass(&p.Spec)), string(p.UID), a.podLimits(p))
	if err != nil {
		return nil, nil, fmt.Errorf("cgroup: %w", err)
	}
	a.shareBurstable(p.UID, true)
	config, err := a.shimConfig(p, parent)
	if err != nil {
		return nil, nil, err
	}
	if s, err = a.Shims.Launch(ctx, config); errors.Is(err, shim.ErrExists) {
		// Left by a kubelet that was killed between making it and noting it.
		if err = a.Shims.Reap(ctx, config.StateDir); err == nil {
			s, err = a.Shims.Launch(ctx, config)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if ips, err = a.connect(ctx, p, s); err != nil {
		return s, nil, err
	}
	if err = a.writeNames(p, ips); err != nil {
		return s, nil, err
	}
	return s, ips, nil
}

// supported refuses what this node would otherwise silently not do: pods rely on these for their isolation.
func (a *Agent) supported(ctx context.Context, p *corev1.Pod) error {
	if name := p.Spec.RuntimeClassName; name != nil && *name != "" {
		if err := a.checkRuntime(ctx, *name); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) shimConfig(p *corev1.Pod, parent string) (shim.PodConfig, error) {
	host, err := runspec.KernelHostname(p, a.ClusterDomain)
	if err != nil {
		return shim.PodConfig{}, err
	}
	c := shim.PodConfig{
		UID: string(p.UID), Namespace: p.Namespace, Name: p.Name, StateDir: a.stateDir(p.UID), Hostname: host,
		HostNetwork: p.Spec.HostNetwork, HostPID: p.Spec.HostPID, HostIPC: p.Spec.HostIPC, CgroupParent: parent, ShimCgroup: a.ShimCgroup,
		ShareProcessNamespace: p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace,
	}
	if c.UserNamespace, err = a.idRange(p); err != nil {
		return shim.PodConfig{}, err
	}
	if s := p.Spec.SecurityContext; s != nil && len(s.Sysctls) > 0 {
		c.Sysctls = map[string]string{}
		for _, sysctl := range s.Sysctls {
			c.Sysctls[sysctl.Name] = sysctl.Value
		}
	}
	return c, nil
}

// connect gives the sandbox its network and returns the pod's addresses.
func (a *Agent) connect(ctx context.Context, p *corev1.Pod, s Sandbox) ([]string, error) {
	if p.Spec.HostNetwork {
		return a.Node.Addresses(), nil
	}
	n, err := a.Network.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("network is not ready: %w", err)
	}
	attached, err := n.Setup(ctx, attachment(p, s.NetNSPath()))
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return addressStrings(attached.IPs), nil
}

func addressStrings(ips []netip.Addr) []string {
	var all []string
	for _, ip := range ips {
		all = append(all, ip.String())
	}
	return all
}

func attachment(p *corev1.Pod, netns string) network.Attachment {
	at := network.Attachment{
		PodUID: string(p.UID), NetNSPath: netns, Namespace: p.Namespace, Name: p.Name,
		IngressBandwidth: bandwidth(p, "kubernetes.io/ingress-bandwidth"), EgressBandwidth: bandwidth(p, "kubernetes.io/egress-bandwidth"),
	}
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort == 0 {
				continue
			}
			h := network.HostPort{Protocol: network.Protocol(port.Protocol), HostPort: uint16(port.HostPort), ContainerPort: uint16(port.ContainerPort)}
			if h.Protocol == "" {
				h.Protocol = network.TCP
			}
			if ip, err := netip.ParseAddr(port.HostIP); err == nil && !ip.IsUnspecified() {
				h.HostIP = ip
			}
			at.HostPorts = append(at.HostPorts, h)
		}
	}
	for i := range p.Spec.InitContainers {
		if r := p.Spec.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			add(&p.Spec.InitContainers[i])
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return at
}

// bandwidth reads an annotation of bits per second; what cannot be read is no limit.
func bandwidth(p *corev1.Pod, key string) uint64 {
	q, err := resource.ParseQuantity(p.Annotations[key])
	if err != nil || q.Value() < 0 {
		return 0
	}
	return uint64(q.Value())
}

// writeNames writes the pod's hosts, resolver and host name files.
func (a *Agent) writeNames(p *corev1.Pod, ips []string) error {
	dir := a.volumes.PodDir(p.UID)
	host, domain := runspec.Hostname(p, a.ClusterDomain)
	var hostFile, hostResolv []byte
	if p.Spec.HostNetwork {
		hostFile, _ = os.ReadFile("/etc/hosts")
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	hostResolv, _ = os.ReadFile(a.ResolvConf)
	dns := runspec.PodDNS(p, runspec.ParseResolvConf(hostResolv), a.ClusterDNS, a.ClusterDomain)
	return errors.Join(
		os.MkdirAll(dir, 0o750),
		writeFile(filepath.Join(dir, "etc-hosts"), runspec.HostsFile(p, ips, host, domain, hostFile), 0o644),
		writeFile(filepath.Join(dir, "resolv.conf"), dns.ResolvConf(), 0o644),
		writeFile(filepath.Join(dir, "hostname"), []byte(host+"\n"), 0o644),
	)
}

// teardownLimit bounds how long taking a sandbox down may take before it is tried again: killing processes is quick, but a
// process in the kernel's uninterruptible sleep is not to be waited for.
const teardownLimit = 60 * time.Second

// teardownSandbox removes the pod's containers, podshim, network and cgroup.
func (w *worker) teardownSandbox(ctx context.Context) func() {
	view := w.snapshot()
	ctx, cancel := context.WithTimeout(ctx, teardownLimit)
	defer cancel()
	err := w.a.removeSandbox(ctx, view.pod, view.sandbox)
	w.mu.Lock()
	var ids []string
	for id := range w.records {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	for _, id := range ids {
		err = errors.Join(err, w.a.Images.Unmount(ctx, id), w.a.dropRecord(w.uid, id))
	}
	if err != nil {
		if w.ctx.Err() == nil {
			w.a.event(view.pod, corev1.EventTypeWarning, "FailedKillPod", "", "error killing pod: %v", err)
			w.a.Log.Error("pod sandbox was not removed", "pod", podKey(view.pod), "error", err)
		}
		return func() { w.seen.Sandbox.Failure = failure(w.seen.Sandbox.Failure, "FailedKillPod", err) }
	}
	return func() {
		w.sandbox = nil
		w.seen.Sandbox = pod.Sandbox{}
	}
}

// removeSandbox takes a sandbox down, however much of it there is.
func (a *Agent) removeSandbox(ctx context.Context, p *corev1.Pod, s Sandbox) error {
	var err error
	if s != nil {
		err = s.Shutdown(ctx)
	} else {
		err = a.Shims.Reap(ctx, a.stateDir(p.UID))
	}
	if err != nil {
		return fmt.Errorf("podshim: %w", err)
	}
	if n := a.Network.Get(); n != nil && !p.Spec.HostNetwork {
		if err := n.Teardown(ctx, string(p.UID)); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	if err := a.Groups.RemovePod(ctx, string(p.UID)); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	a.shareBurstable(p.UID, false)
	// Last: as long as this file is there, another kubelet knows that there may be something left to take down.
	if err := os.Remove(a.recordPath(p.UID, sandboxFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// follow reads the sandbox's exits until it ends or the worker does.
func (w *worker) follow(s Sandbox) {
	w.a.wg.Go(func() {
		for e, err := range s.Events(w.ctx) {
			if err != nil {
				w.lostSandbox(s, err)
				return
			}
			w.exited(e.ContainerStatus)
		}
	})
}

// exited notes that an instance has ended.
func (w *worker) exited(s shim.ContainerStatus) {
	w.mu.Lock()
	r := w.records[s.ID]
	w.exits[s.ID] = s
	w.mu.Unlock()
	if r == nil {
		return // its start has yet to be noted, and will find the exit
	}
	message := w.a.terminationMessage(w.container(r.Name), r, s)
	w.edit(s.ID, func(c *pod.Container) { noteExit(c, s, message) })
}

// noteExit copies an exit into what is observed.
func noteExit(c *pod.Container, s shim.ContainerStatus, message string) {
	if c.State == pod.Exited {
		return
	}
	c.State, c.ExitCode, c.Signal, c.OOMKilled = pod.Exited, int(s.ExitCode), int(s.Signal), s.OOMKilled
	c.StartedAt, c.FinishedAt, c.Message = s.StartedAt, s.FinishedAt, message
}

// noteLost notes the end of what died with its podshim, unless that was recorded.
func noteLost(c *pod.Container, now time.Time) {
	if c.State == pod.Exited {
		return
	}
	c.State, c.ExitCode, c.FinishedAt = pod.Exited, exitLost, now
	c.Reason, c.Message = "ContainerStatusUnknown", "The container was killed with the process that supervised it; its exit status is not known"
}

// lostSandbox notes that podshim has died, and with it everything in the pod that ran.
func (w *worker) lostSandbox(s Sandbox, err error) {
	if w.ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	current := w.sandbox == s
	down := w.seen.InFlight[pod.Key{Op: pod.TeardownSandbox}]
	w.mu.Unlock()
	if !current || down {
		return // it was taken down on purpose
	}
	w.a.Log.Error("podshim died", "pod", podKey(w.snapshot().pod), "error", err)
	_, state, readErr := w.a.Shims.ReadState(w.a.stateDir(w.uid))
	if readErr != nil {
		w.a.Log.Error("state of a dead podshim cannot be read", "uid", w.uid, "error", readErr)
	}
	for _, c := range state.Containers {
		if c.Phase == shim.Exited {
			w.exited(c)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for i := range w.seen.Containers {
		if c := &w.seen.Containers[i]; c.Sandbox == w.seen.Sandbox.ID {
			noteLost(c, now)
		}
	}
	w.seen.Sandbox.State = pod.SandboxDead
	w.nudge()
}

// container returns the specification of one of the pod's containers; nil if it has none of that name.
func (w *worker) container(name string) *corev1.Container {
	w.mu.Lock()
	defer w.mu.Unlock()
	return findContainer(w.pod, name)
}
