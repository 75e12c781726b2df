package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/events"
	"bareboat.dev/daemon"
	"bareboat.dev/daemon/tlsconf"
	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/apparmor"
	"bareboat.dev/kubelet/certificate"
	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/config"
	"bareboat.dev/kubelet/device"
	"bareboat.dev/kubelet/dirwatch"
	"bareboat.dev/kubelet/dra"
	"bareboat.dev/kubelet/eviction"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/localpath"
	"bareboat.dev/kubelet/manifest"
	"bareboat.dev/kubelet/node"
	"bareboat.dev/kubelet/plugins"
	"bareboat.dev/kubelet/podresources"
	"bareboat.dev/kubelet/server"
	"bareboat.dev/kubelet/stats"
	"bareboat.dev/kubelet/topology"
	"bareboat.dev/kubelet/volume/csi"
)

// version is the API that this kubelet speaks.
const version = "v1.37.2"

// run puts the kubelet together and runs it until ctx ends.
func run(ctx context.Context, env *daemon.Env, c *config.Config) error {
	if err := preflight(c); err != nil {
		return err
	}
	listener, err := listen(ctx, c, env.Log)
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := join(ctx, env, c); err != nil {
		return err
	}
	api, err := dial(c)
	if err != nil {
		return err
	}
	defer api.Close()
	images, err := openImages(c)
	if err != nil {
		return err
	}
	defer images.Close()
	k, err := assemble(env, c, api, images)
	if err != nil {
		return err
	}
	return k.run(ctx, listener)
}

// join gets a node that comes with a token its first certificate.
func join(ctx context.Context, env *daemon.Env, c *config.Config) error {
	if c.BootstrapKubeconfig == "" {
		return nil
	}
	if c.Kubeconfig == "" {
		return errors.New("--bootstrap-kubeconfig needs --kubeconfig, the file to write")
	}
	name, err := c.NodeName()
	if err != nil {
		return err
	}
	env.Ready("waiting for this node's certificate")
	return certificate.Join(ctx, certificate.Joining{Bootstrap: c.BootstrapKubeconfig, Kubeconfig: c.Kubeconfig, Dir: c.CertDir, Node: name, Log: env.Log})
}

// rotate replaces the client certificate before it ends, if it is asked for and kept in files.
func (k *kubelet) rotate(ctx context.Context) error {
	cfg, err := client.LoadConfig(k.c.Kubeconfig, "")
	if err != nil || cfg.CertFile == "" || cfg.KeyFile == "" || !k.c.RotateCertificates && k.c.BootstrapKubeconfig == "" {
		return nil
	}
	return certificate.New(certificate.Config{Client: k.api, Node: k.nodeName, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, Log: k.env.Log}).Run(ctx)
}

func dial(c *config.Config) (*client.Client, error) {
	cfg, err := client.LoadConfig(c.Kubeconfig, "")
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	cfg.UserAgent = "kubelet"
	return client.Dial(cfg)
}

func openImages(c *config.Config) (*image.Store, error) {
	s, err := image.Open(c.ImageStore, image.Options{})
	if errors.Is(err, image.ErrInUse) {
		return nil, fmt.Errorf("the image store %s is in use: another kubelet is running on this host", c.ImageStore)
	}
	return s, err
}

// kubelet is the parts, put together.
type kubelet struct {
	c        *config.Config
	env      *daemon.Env
	api      *client.Client
	images   *image.Store
	node     *node.Manager
	agent    *agent.Agent
	events   *events.Recorder
	server   *server.Server
	network  *agent.LateNetwork
	nodes    *client.Mirror[*corev1.Node]
	nodeName string
	pressure pressure
	groups   *cgroup.Hierarchy
	// settled says that it is known whether the pod network stands.
	settled atomic.Bool
	devices *device.Manager
	claims  *dra.Manager
	// resources tells who has which of them.
	resources *podresources.Server
	// plugins finds those who look after them.
	plugins *plugins.Registry
	watches *dirwatch.Source
	// serving asks for the server certificate; nil if nobody does.
	serving *certificate.Rotator
	// podMemory is the most memory that all pods together may have, in bytes.
	podMemory int64
}

func assemble(env *daemon.Env, c *config.Config, api *client.Client, images *image.Store) (*kubelet, error) {
	name, err := c.NodeName()
	if err != nil {
		return nil, err
	}
	k := &kubelet{c: c, env: env, api: api, images: images, nodeName: name, network: agent.NewLateNetwork(), watches: dirwatch.New(env.Log)}
	k.claims, err = dra.New(dra.Config{Root: c.RootDir, API: agent.ClaimReader{Client: api}, CDI: c.CDISpecDirs, Log: env.Log})
	if err != nil {
		return nil, err
	}
	machine, err := topology.ReadMachine("/")
	if err != nil {
		return nil, fmt.Errorf("read this host's CPUs and memory: %w", err)
	}
	k.devices, err = device.New(device.Config{
		Dir: c.RootDir + "/device-plugins", Nodes: machine.Set(), Log: env.Log, Changed: func() { k.node.Nudge() },
	})
	if err != nil {
		return nil, err
	}
	if k.node, err = k.makeNode(); err != nil {
		return nil, err
	}
	own, err := k.makeShares(machine)
	if err != nil {
		return nil, err
	}
	groups, err := k.makeGroups()
	if err != nil {
		return nil, err
	}
	k.events = events.NewRecorder(api, "kubelet", name)
	k.events.SetLog(env.Log)
	k.agent = agent.New(agent.Config{
		NodeName: name, Root: c.RootDir, StateRoot: c.StateDir, LogRoot: c.LogDir, LinkRoot: c.LinkDir, ClusterDNS: c.ClusterDNS,
		ClusterDomain: c.ClusterDomain, ResolvConf: c.ResolvConf, SeccompRoot: c.RootDir + "/seccomp", ShimCgroup: c.ShimCgroup,
		UnsafeSysctls: c.AllowedUnsafeSysctls, AppArmor: apparmor.Enabled(), PidsLimit: c.PodPidsLimit,
		Pull:   image.PullOptions{Mirrors: mirrors(c.RegistryMirrors), Insecure: c.InsecureRegistries},
		Verify: c.ImageVerification(),
	}, agent.Deps{
		Client: api, Images: images, Shims: agent.PodShims{Binary: c.Podshim}, Groups: groups, Devices: k.devices, Claims: k.claims, Shares: own.topology, CPUs: own.cpus, Memory: own.memory, Node: k.node, Network: k.network,
		Events: k.events, Watches: k.watches, Log: env.Log,
	})
	k.agent.Register(env.Registry)
	own.topology.Register(env.Registry)
	k.resources = podresources.New(podresources.Config{
		Dir: c.RootDir + "/pod-resources", Pods: k.agent.ActivePods, Devices: k.devices, CPUs: own.cpus, Memory: own.memory, Claims: k.claims,
	})
	k.resources.Register(env.Registry)
	k.plugins = plugins.New(plugins.Config{Dir: c.RootDir + "/plugins_registry", Watches: k.watches, Log: env.Log, Handlers: map[string]plugins.Handler{
		registration.CSIPlugin: k.agent.Drivers(), registration.DRAPlugin: k.claims, registration.DevicePlugin: k.devices.Handler(),
	}})
	k.server = server.New(k.agent, images, k.node.Nudge)
	k.nodes = client.NewMirror(api, client.Nodes(), client.MirrorOptions[*corev1.Node]{Log: env.Log})
	return k, nil
}

func (k *kubelet) makeNode() (*node.Manager, error) {
	facts, err := node.ReadFacts("/", version)
	if err != nil {
		return nil, fmt.Errorf("read what this host has: %w", err)
	}
	ips := k.c.NodeIP
	if len(ips) == 0 {
		ip, err := node.DefaultIP()
		if err != nil {
			return nil, err
		}
		ips = []string{ip.String()}
	}
	reserved, err := reserved(k.c, facts.Capacity(k.c.MaxPods))
	if err != nil {
		return nil, err
	}
	taints, err := k.c.Taints()
	if err != nil {
		return nil, err
	}
	return node.New(node.Config{
		Name: k.nodeName, IPs: ips, Port: k.c.Port, MaxPods: k.c.MaxPods, Reserved: reserved, Labels: k.c.NodeLabels, Taints: taints,
		ProviderID: k.c.ProviderID, Facts: facts, Images: k.imageList, Checks: k.checks, Event: k.nodeEvent, Settled: k.settled.Load, Devices: k.devices.Resources,
		VolumesInUse: func() []corev1.UniqueVolumeName { return csi.InUse(k.c.RootDir) },
	}, k.api, k.env.Log), nil
}

// makeGroups makes the group of all pods. Its limit is what pods may ask for and the hard threshold of memory beside it: what
// passes the threshold is evicted, what passes the limit is killed.
func (k *kubelet) makeGroups() (*cgroup.Tree, error) {
	h, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	tree := h.Tree(k.c.CgroupRoot)
	allocatable := k.node.Allocatable()
	e, err := k.c.Eviction()
	if err != nil {
		return nil, err
	}
	capacity := k.node.Capacity()
	k.groups, k.podMemory = h, allocatable.Memory().Value()+e.Hard[eviction.MemoryAvailable].Least(capacity.Memory().Value())
	limits := cgroup.Resources{CPUShares: uint64(max(allocatable.Cpu().MilliValue()*1024/1000, 2)), MemoryLimit: k.podMemory}
	if err := tree.Ensure(limits); err != nil {
		return nil, fmt.Errorf("make the control groups of pods: %w", err)
	}
	return tree, nil
}

func mirrors(flags map[string]string) map[string][]string {
	all := map[string][]string{}
	for registry, addresses := range flags {
		all[registry] = strings.Fields(strings.ReplaceAll(addresses, ";", " "))
	}
	return all
}

// imageList is the node's images as its status shows them.
func (k *kubelet) imageList() []corev1.ContainerImage {
	var list []corev1.ContainerImage
	for _, i := range k.images.List() {
		names := append(append([]string{}, i.RepoDigests...), i.RepoTags...)
		if len(names) > 0 {
			list = append(list, corev1.ContainerImage{Names: names, SizeBytes: i.Size})
		}
	}
	return list
}

// checks are the node's findings about itself.
func (k *kubelet) checks() node.Checks {
	d := k.pressure.get()
	c := node.Checks{MemoryPressure: d.MemoryPressure, DiskPressure: d.DiskPressure, PIDs: d.PIDPressure}
	if k.network.Get() == nil {
		c.NotReady = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:the node has no pod range yet"
		if k.c.NetworkPlugin != "" {
			c.NotReady = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized"
		}
	}
	if k.agent.ShuttingDown() {
		c.NotReady = "node is shutting down"
	}
	return c
}

// run runs all parts until ctx ends.
func (k *kubelet) run(ctx context.Context, listener net.Listener) error {
	if k.serving = k.makeServing(); k.serving == nil {
		if _, err := k.tlsConfig(); err != nil {
			return err // now rather than when the pods are known
		}
	}
	groups, err := cgroup.Detect()
	if err != nil {
		return err
	}
	collector := stats.New(k.nodeName, k.agent, groups, k.images)
	k.env.Registry.MustRegister(collector.Volumes())
	// Not what is beside the pods' logs: wherever those are kept, the right to logs is not that to what lies there.
	const hostLogs = "/var/log"
	local := server.Local{Pods: k.agent.Pods, Config: k.c, Logs: hostLogs, Probes: k.agent.Probes()}
	web := server.Web(collector, local, server.NewReviewer(k.api, k.nodeName), daemon.AdminEndpoints(k.env))
	if err := k.startNetwork(ctx); err != nil {
		return err
	}
	own := func(n *corev1.Node) bool { return n != nil && n.Name == k.nodeName }
	k.nodes.OnChange(func(ch client.Change[*corev1.Node]) {
		switch {
		case own(ch.New):
			k.node.Observe(ch.New)
			k.agent.NodeChanged()
		case own(ch.Old):
			k.node.Observe(nil) // somebody deleted it: we register again
		}
	})
	routes := newRouter(k)
	k.nodes.OnChange(func(client.Change[*corev1.Node]) { routes.nudge() })
	runs := []func(context.Context) error{
		k.nodes.Run, k.node.Run, k.devices.Run, k.claims.Run, k.plugins.Run, k.resources.Run, k.agent.Run, k.events.Run, routes.run,
		func(ctx context.Context) error { return k.serve(ctx, listener, web) },
		func(ctx context.Context) error { return k.announce(ctx) },
		k.collectImages, k.watchResources, k.watchShutdown, k.watchPlugins, localpath.New(localpath.Config{Client: k.api, Node: k.nodeName, Log: k.env.Log}).Run,
		k.rotate,
		func(ctx context.Context) error {
			return k.agent.WatchManifests(ctx, k.c.StaticPodPath, func(p manifest.Problem) {
				k.nodeEvent(corev1.EventTypeWarning, "FailedValidation", "Static pod manifest %s: %v", p.File, p.Err)
			})
		},
		func(ctx context.Context) error {
			return k.agent.RotateLogs(ctx, k.c.LogMaxBytes(), k.c.ContainerLogMaxFiles)
		},
	}
	if k.serving != nil {
		runs = append(runs, k.serving.Run)
	}
	if k.c.HealthzPort > 0 {
		address := net.JoinHostPort(k.c.HealthzBindAddress, strconv.Itoa(int(k.c.HealthzPort)))
		runs = append(runs, func(ctx context.Context) error { return daemon.ServeAdmin(ctx, k.env, address, nil) })
	}
	return client.RunAll(ctx, runs...)
}

// nodeEvent records an event about this node. Its UID is the node's name, by which describers find what was told of a node
// before it was registered.
func (k *kubelet) nodeEvent(kind, reason, format string, args ...any) {
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: k.nodeName, UID: types.UID(k.nodeName)}
	k.events.EventRef(ref, kind, reason, format, args...)
}

// servingFiles are where the server certificate and its key are.
func (k *kubelet) servingFiles() (cert, key string) {
	if k.c.TLSCertFile == "" {
		file := filepath.Join(k.c.CertDir, certificate.CurrentServingFile)
		return file, file
	}
	return k.c.TLSCertFile, k.c.TLSPrivateKeyFile
}

// makeServing makes who asks for the server certificate; nil if nobody does.
func (k *kubelet) makeServing() *certificate.Rotator {
	if !k.c.ServerTLSBootstrap {
		return nil
	}
	cert, key := k.servingFiles()
	names := certificate.Names{}
	if net.ParseIP(k.nodeName) == nil {
		names.DNS = []string{k.nodeName}
	}
	for _, a := range k.node.Addresses() {
		names.IPs = append(names.IPs, net.ParseIP(a))
	}
	return certificate.New(certificate.Config{Client: k.api, Node: k.nodeName, CertFile: cert, KeyFile: key, Names: &names, Log: k.env.Log})
}

// serve serves the node's port once its pods are known, and it has a certificate.
func (k *kubelet) serve(ctx context.Context, listener net.Listener, web http.Handler) error {
	defer listener.Close()
	if err := k.agent.WaitAdopted(ctx); err != nil {
		return nil // only the end of ctx ends the wait
	}
	if k.serving != nil {
		if err := k.serving.Wait(ctx); err != nil {
			return nil // as above
		}
	}
	config, err := k.tlsConfig()
	if err != nil {
		return err
	}
	return k.server.Serve(ctx, listener, config, web)
}

// tlsConfig is that of the node's port, for both protocols.
func (k *kubelet) tlsConfig() (*tls.Config, error) {
	certFile, keyFile := k.servingFiles()
	var configs []*tls.Config
	for _, proto := range server.Protocols() {
		c, err := tlsconf.Server(certFile, keyFile, k.c.ClientCAFile, proto)
		if err != nil {
			return nil, err
		}
		configs = append(configs, c)
	}
	return server.ChooseProtocol(configs[0], configs[1]), nil
}

// announce tells systemd that the kubelet works once it knows its pods, or, if the API server cannot be reached, that it
// keeps those running that it has.
func (k *kubelet) announce(ctx context.Context) error {
	k.env.Ready("running pods; waiting for the API server")
	if err := k.nodes.WaitSynced(ctx); err != nil {
		return nil // only the end of ctx ends the wait
	}
	k.env.Ready("running pods as node " + k.nodeName)
	return nil
}

// collectEvery is how often the disk's fill level is looked at, as upstream's image garbage collection does.
const collectEvery = 5 * time.Minute

// collectImages removes unused images when the disk fills up.
func (k *kubelet) collectImages(ctx context.Context) error {
	policy := image.GCPolicy{
		HighPercent: k.c.ImageGCHighThresholdPercent, LowPercent: k.c.ImageGCLowThresholdPercent, MinAge: k.c.ImageMinimumGCAge.Duration,
		InUse: k.agent.UsesImage,
	}
	timer := time.NewTimer(collectEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-timer.C:
			result, err := k.images.GC(ctx, now, policy)
			switch {
			case err != nil && ctx.Err() == nil:
				k.env.Log.Warn("images were not collected", "error", err)
			case len(result.Removed) > 0:
				k.env.Log.Info("images collected", "removed", len(result.Removed), "freedBytes", result.FreedBytes, "usedPercent", result.UsedPercent)
				k.node.Nudge()
			}
		}
		timer.Reset(collectEvery)
	}
}
