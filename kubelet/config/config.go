// Package config is the kubelet's configuration: flags in the spelling of the Kubernetes kubelet, and the same settings in a
// file of kind KubeletConfiguration in bareboat.dev/v1.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"bareboat.dev/kubelet/cpus"
	"bareboat.dev/kubelet/eviction"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/memory"
	"bareboat.dev/kubelet/numa"
	"bareboat.dev/kubelet/shutdown"
	"bareboat.dev/kubelet/topology"
)

// Config is the kubelet's settings.
type Config struct {
	Kubeconfig string `json:"kubeconfig"`
	// BootstrapKubeconfig has a token with which a node that has no certificate yet asks for one; Kubeconfig is then written, and
	// the certificate is kept in CertDir. RotateCertificates replaces the client certificate before it ends; after a bootstrap it
	// is always on.
	BootstrapKubeconfig string `json:"bootstrapKubeconfig"`
	RotateCertificates  bool   `json:"rotateCertificates"`
	// ServerTLSBootstrap asks for the server certificate, too, and replaces it before it ends. It is kept in CertDir, or in TLSCertFile
	// and TLSPrivateKeyFile if they are given. Somebody has to approve the requests.
	ServerTLSBootstrap bool   `json:"serverTLSBootstrap"`
	CertDir            string `json:"certDir"`

	HostnameOverride string   `json:"hostnameOverride"`
	NodeIP           []string `json:"nodeIP"`
	ProviderID       string   `json:"providerID"`
	// NodeLabels and Taints are given to the Node when it registers.
	NodeLabels         map[string]string `json:"nodeLabels"`
	RegisterWithTaints []string          `json:"registerWithTaints"`

	ClusterDNS    []string `json:"clusterDNS"`
	ClusterDomain string   `json:"clusterDomain"`
	ResolvConf    string   `json:"resolvConf"`
	// PodCIDR overrides the range that the Node object gives; ClusterCIDR is the range of all pods.
	PodCIDR     []string `json:"podCIDR"`
	ClusterCIDR []string `json:"clusterCIDR"`

	// NetworkPlugin is what connects pods: empty for the built-in network, "cni" for the plug-ins that CNIConfDir configures and CNIBinDir
	// holds.
	NetworkPlugin string   `json:"networkPlugin"`
	CNIConfDir    string   `json:"cniConfDir"`
	CNIBinDir     []string `json:"cniBinDir"`

	// StaticPodPath is the directory of the manifests of static pods; empty for none.
	StaticPodPath string `json:"staticPodPath"`

	RootDir      string `json:"rootDir"`
	StateDir     string `json:"stateDir"`
	ImageStore   string `json:"imageStore"`
	NetworkState string `json:"networkState"`
	LogDir       string `json:"podLogsDir"`
	LinkDir      string `json:"containerLogsDir"`
	Podshim      string `json:"podshim"`
	// CgroupRoot is the control group of all pods.
	CgroupRoot string `json:"cgroupRoot"`
	// ShimCgroup is the control group of the podshims themselves.
	ShimCgroup string `json:"shimCgroup"`

	Address            string `json:"address"`
	Port               int32  `json:"port"`
	HealthzBindAddress string `json:"healthzBindAddress"`
	HealthzPort        int32  `json:"healthzPort"`
	TLSCertFile        string `json:"tlsCertFile"`
	TLSPrivateKeyFile  string `json:"tlsPrivateKeyFile"`
	ClientCAFile       string `json:"clientCAFile"`

	MaxPods      int   `json:"maxPods"`
	PodPidsLimit int64 `json:"podPidsLimit"`
	// CPUManagerPolicy is none, or static: containers of Guaranteed pods that ask for whole CPUs have them alone, but for ReservedCPUs.
	CPUManagerPolicy        string            `json:"cpuManagerPolicy"`
	CPUManagerPolicyOptions map[string]string `json:"cpuManagerPolicyOptions"`
	ReservedCPUs            string            `json:"reservedSystemCPUs"`
	// MemoryManagerPolicy is None, or Static: containers of Guaranteed pods have their memory from NUMA nodes of their own. ReservedMemory
	// is what the system has of each node then; in all it must be as much as pods do not get.
	MemoryManagerPolicy string              `json:"memoryManagerPolicy"`
	ReservedMemory      []MemoryReservation `json:"reservedMemory"`
	// TopologyManagerPolicy is none, best-effort, restricted or single-numa-node: how near to each other devices, CPUs and memory of a
	// container, or of all of a pod's (TopologyManagerScope: container or pod), must be.
	TopologyManagerPolicy        string            `json:"topologyManagerPolicy"`
	TopologyManagerScope         string            `json:"topologyManagerScope"`
	TopologyManagerPolicyOptions map[string]string `json:"topologyManagerPolicyOptions"`
	// AllowedUnsafeSysctls may be set by pods beside the safe ones.
	AllowedUnsafeSysctls []string          `json:"allowedUnsafeSysctls"`
	SystemReserved       map[string]string `json:"systemReserved"`
	KubeReserved         map[string]string `json:"kubeReserved"`

	ImageGCHighThresholdPercent int             `json:"imageGCHighThresholdPercent"`
	ImageGCLowThresholdPercent  int             `json:"imageGCLowThresholdPercent"`
	ImageMinimumGCAge           metav1.Duration `json:"imageMinimumGCAge"`
	// EvictionHard are the node's shortages that end pods at once, EvictionSoft those that do when they last: signal<quantity,…
	EvictionHard string `json:"evictionHard"`
	EvictionSoft string `json:"evictionSoft"`
	// EvictionSoftGracePeriod is signal=time,… and EvictionMinimumReclaim signal=quantity,…
	EvictionSoftGracePeriod          string          `json:"evictionSoftGracePeriod"`
	EvictionMinimumReclaim           string          `json:"evictionMinimumReclaim"`
	EvictionPressureTransitionPeriod metav1.Duration `json:"evictionPressureTransitionPeriod"`
	// EvictionMaxPodGracePeriod is the most seconds that pods get to end for a soft threshold.
	EvictionMaxPodGracePeriod int32  `json:"evictionMaxPodGracePeriod"`
	ContainerLogMaxSize       string `json:"containerLogMaxSize"`
	ContainerLogMaxFiles      int    `json:"containerLogMaxFiles"`

	// ShutdownGracePeriod is how long pods in all have to end before the host goes down, of which critical pods, which end last, have
	// ShutdownGracePeriodCriticalPods. ShutdownGracePeriodByPodPriority divides the time among more groups instead.
	ShutdownGracePeriod              metav1.Duration `json:"shutdownGracePeriod"`
	ShutdownGracePeriodCriticalPods  metav1.Duration `json:"shutdownGracePeriodCriticalPods"`
	ShutdownGracePeriodByPodPriority []PriorityGrace `json:"shutdownGracePeriodByPodPriority"`
	// SystemBusAddress is that of the D-Bus on which systemd-logind is, LogindConfigDir where its configuration is added to; empty for the
	// system's.
	SystemBusAddress string `json:"systemBusAddress"`
	LogindConfigDir  string `json:"logindConfigDir"`

	RegistryMirrors    map[string]string `json:"registryMirrors"`
	InsecureRegistries []string          `json:"insecureRegistries"`
	// ImagePullCredentialsVerificationPolicy is NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages or AlwaysVerify:
	// which images that are here a pod may use without its registry's word; PreloadedImagesVerificationAllowlist are the third's.
	ImagePullCredentialsVerificationPolicy string   `json:"imagePullCredentialsVerificationPolicy"`
	PreloadedImagesVerificationAllowlist   []string `json:"preloadedImagesVerificationAllowlist"`
	// CDISpecDirs are where the files of CDI devices are; none for the usual places, /etc/cdi and /var/run/cdi.
	CDISpecDirs []string `json:"cdiSpecDirs"`

	// Cleanup ends all pods and removes everything that the kubelet made on the host, then exits.
	Cleanup bool `json:"-"`
	// CleanupGracePeriod is how long containers have to end by themselves then.
	CleanupGracePeriod metav1.Duration `json:"-"`
}

// PriorityGrace is how long pods from a priority on have to end before the host goes down.
type PriorityGrace struct {
	Priority                   int32 `json:"priority"`
	ShutdownGracePeriodSeconds int64 `json:"shutdownGracePeriodSeconds"`
}

// Default is the configuration without flags or file.
func Default() Config {
	return Config{
		ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local", ResolvConf: "/etc/resolv.conf",
		ClusterCIDR: []string{"10.244.0.0/16"},
		CNIConfDir:  "/etc/cni/net.d", CNIBinDir: []string{"/opt/cni/bin"},
		RootDir: "/var/lib/kubelet", CertDir: "/var/lib/kubelet/pki", StateDir: "/run/bareboat/pods", ImageStore: "/var/lib/bareboat/images",
		NetworkState: "/var/lib/bareboat/network", LogDir: "/var/log/pods", LinkDir: "/var/log/containers", Podshim: besideMe("podshim"),
		CgroupRoot: "kubepods", ShimCgroup: "bareboat/shims",
		Address: "0.0.0.0", Port: 10250, HealthzBindAddress: "127.0.0.1", HealthzPort: 10248,
		MaxPods: 110, PodPidsLimit: -1, CPUManagerPolicy: string(cpus.None),
		MemoryManagerPolicy: string(memory.None), TopologyManagerPolicy: string(numa.None), TopologyManagerScope: string(topology.Container),
		ImageGCHighThresholdPercent: 85, ImageGCLowThresholdPercent: 80, ImageMinimumGCAge: metav1.Duration{Duration: 2 * time.Minute},
		EvictionPressureTransitionPeriod: metav1.Duration{Duration: eviction.DefaultTransition},
		ContainerLogMaxSize:              "10Mi", ContainerLogMaxFiles: 5,
		CleanupGracePeriod: metav1.Duration{Duration: 2 * time.Second}, // who tears a whole node down is not asked to wait for what hangs
	}
}

// besideMe is the path of a program that is installed beside this one.
func besideMe(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

// Flags registers the flags.
func (c *Config) Flags(f *pflag.FlagSet) {
	f.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "file that says how to reach the API server; empty means $KUBECONFIG or /etc/bareboat/admin.conf")
	f.StringVar(&c.BootstrapKubeconfig, "bootstrap-kubeconfig", c.BootstrapKubeconfig, "file with a token to ask for this node's certificate with, if --kubeconfig has none that is good; --kubeconfig is then written")
	f.BoolVar(&c.RotateCertificates, "rotate-certificates", c.RotateCertificates, "replace the client certificate before it ends, by a CertificateSigningRequest")
	f.BoolVar(&c.ServerTLSBootstrap, "rotate-server-certificates", c.ServerTLSBootstrap, "ask for the server certificate by a CertificateSigningRequest, which somebody must approve, and replace it before it ends")
	f.StringVar(&c.CertDir, "cert-dir", c.CertDir, "where certificates that are asked for are kept")
	f.StringVar(&c.HostnameOverride, "hostname-override", c.HostnameOverride, "the node's name; empty means the host's")
	f.StringSliceVar(&c.NodeIP, "node-ip", c.NodeIP, "the node's IP address, or one of each family; empty means that of the default route")
	f.StringVar(&c.ProviderID, "provider-id", c.ProviderID, "the machine's name with its provider")
	f.StringToStringVar(&c.NodeLabels, "node-labels", c.NodeLabels, "labels for the node, key=value,…")
	f.StringSliceVar(&c.RegisterWithTaints, "register-with-taints", c.RegisterWithTaints, "taints for the node when it registers, key=value:effect,…")
	f.StringSliceVar(&c.ClusterDNS, "cluster-dns", c.ClusterDNS, "addresses of the cluster's DNS servers")
	f.StringVar(&c.ClusterDomain, "cluster-domain", c.ClusterDomain, "the cluster's DNS domain")
	f.StringVar(&c.ResolvConf, "resolv-conf", c.ResolvConf, "resolver configuration that pods' own is based on")
	f.StringSliceVar(&c.PodCIDR, "pod-cidr", c.PodCIDR, "range of this node's pods, or one of each family; empty means what the Node object says")
	f.StringSliceVar(&c.ClusterCIDR, "cluster-cidr", c.ClusterCIDR, "range of all nodes' pods: traffic to it keeps its source address")
	f.StringVar(&c.NetworkPlugin, "network-plugin", c.NetworkPlugin, "what connects pods: empty for the built-in network, cni for CNI plug-ins")
	f.StringVar(&c.CNIConfDir, "cni-conf-dir", c.CNIConfDir, "directory of CNI configurations, of which the first by name counts")
	f.StringSliceVar(&c.CNIBinDir, "cni-bin-dir", c.CNIBinDir, "directories of CNI plug-ins")
	f.StringVar(&c.StaticPodPath, "pod-manifest-path", c.StaticPodPath, "directory of the manifests of static pods, which run with or without an API server; empty for none")
	f.StringVar(&c.RootDir, "root-dir", c.RootDir, "directory of pods and their volumes")
	f.StringVar(&c.StateDir, "state-dir", c.StateDir, "directory of the podshims' state; must not survive a reboot")
	f.StringVar(&c.ImageStore, "image-store", c.ImageStore, "directory of images and containers' root file systems")
	f.StringVar(&c.NetworkState, "network-state-dir", c.NetworkState, "directory of the pod network's allocations")
	f.StringVar(&c.LogDir, "pod-logs-dir", c.LogDir, "directory of container logs")
	f.StringVar(&c.LinkDir, "container-logs-dir", c.LinkDir, "directory of links to container logs; empty for none")
	f.StringVar(&c.Podshim, "podshim", c.Podshim, "the podshim program")
	f.StringVar(&c.CgroupRoot, "cgroup-root", c.CgroupRoot, "control group of all pods")
	f.StringVar(&c.ShimCgroup, "shim-cgroup", c.ShimCgroup, "control group of the podshims themselves")
	f.StringVar(&c.Address, "address", c.Address, "address to serve the node's API on; 0.0.0.0 and :: both mean all addresses, IPv4 and IPv6")
	f.Int32Var(&c.Port, "port", c.Port, "port to serve the node's API on")
	f.StringVar(&c.HealthzBindAddress, "healthz-bind-address", c.HealthzBindAddress, "address to serve health and metrics on")
	f.Int32Var(&c.HealthzPort, "healthz-port", c.HealthzPort, "port to serve health and metrics on; 0 for none")
	f.StringVar(&c.TLSCertFile, "tls-cert-file", c.TLSCertFile, "the node's server certificate")
	f.StringVar(&c.TLSPrivateKeyFile, "tls-private-key-file", c.TLSPrivateKeyFile, "its key")
	f.StringVar(&c.ClientCAFile, "client-ca-file", c.ClientCAFile, "authority of the certificates that clients must show")
	f.IntVar(&c.MaxPods, "max-pods", c.MaxPods, "most pods that may run here")
	f.Int64Var(&c.PodPidsLimit, "pod-max-pids", c.PodPidsLimit, "most processes of one pod; -1 for no limit")
	c.shareFlags(f)
	f.StringSliceVar(&c.AllowedUnsafeSysctls, "allowed-unsafe-sysctls", c.AllowedUnsafeSysctls, "namespaced sysctls, or patterns ending in *, that pods may set beside the safe ones")
	f.StringToStringVar(&c.SystemReserved, "system-reserved", c.SystemReserved, "resources that pods do not get, for the system: cpu=200m,memory=500Mi,…")
	f.StringToStringVar(&c.KubeReserved, "kube-reserved", c.KubeReserved, "resources that pods do not get, for the cluster's daemons")
	f.IntVar(&c.ImageGCHighThresholdPercent, "image-gc-high-threshold", c.ImageGCHighThresholdPercent, "disk usage in percent from which images are collected")
	f.IntVar(&c.ImageGCLowThresholdPercent, "image-gc-low-threshold", c.ImageGCLowThresholdPercent, "disk usage in percent down to which images are collected")
	f.DurationVar(&c.ImageMinimumGCAge.Duration, "minimum-image-ttl-duration", c.ImageMinimumGCAge.Duration, "how long an unused image is kept at least")
	f.StringVar(&c.EvictionHard, "eviction-hard", c.EvictionHard, "shortages that end pods, such as memory.available<100Mi,nodefs.available<10%; those not named keep their defaults")
	f.StringVar(&c.EvictionSoft, "eviction-soft", c.EvictionSoft, "shortages that end pods if they last for their grace period, such as memory.available<500Mi")
	f.StringVar(&c.EvictionSoftGracePeriod, "eviction-soft-grace-period", c.EvictionSoftGracePeriod, "how long a soft shortage lasts before it ends pods, such as memory.available=1m30s")
	f.StringVar(&c.EvictionMinimumReclaim, "eviction-minimum-reclaim", c.EvictionMinimumReclaim, "how much beyond a threshold must be left before it counts as no longer passed, such as nodefs.available=1Gi")
	f.DurationVar(&c.EvictionPressureTransitionPeriod.Duration, "eviction-pressure-transition-period", c.EvictionPressureTransitionPeriod.Duration, "how long a condition of shortage stays after the shortage")
	f.Int32Var(&c.EvictionMaxPodGracePeriod, "eviction-max-pod-grace-period", c.EvictionMaxPodGracePeriod, "most seconds that pods get to end for a soft shortage")
	f.DurationVar(&c.ShutdownGracePeriod.Duration, "shutdown-grace-period", c.ShutdownGracePeriod.Duration, "how long pods have to end before the host goes down, if systemd runs it; 0 to let it go down at once")
	f.DurationVar(&c.ShutdownGracePeriodCriticalPods.Duration, "shutdown-grace-period-critical-pods", c.ShutdownGracePeriodCriticalPods.Duration, "the part of it that critical pods have, which end last")
	f.StringVar(&c.ContainerLogMaxSize, "container-log-max-size", c.ContainerLogMaxSize, "size from which a container's log is rotated")
	f.IntVar(&c.ContainerLogMaxFiles, "container-log-max-files", c.ContainerLogMaxFiles, "most files of one container's log")
	f.StringToStringVar(&c.RegistryMirrors, "registry-mirrors", c.RegistryMirrors, "mirrors tried before a registry, registry=address,…")
	f.StringSliceVar(&c.InsecureRegistries, "insecure-registries", c.InsecureRegistries, "registries spoken to without verified TLS")
	f.StringSliceVar(&c.CDISpecDirs, "cdi-spec-dirs", c.CDISpecDirs, "directories of the files that describe CDI devices")
	f.BoolVar(&c.Cleanup, "cleanup", c.Cleanup, "end all pods, remove everything that the kubelet made on this host, and exit")
	f.DurationVar(&c.CleanupGracePeriod.Duration, "cleanup-grace-period", c.CleanupGracePeriod.Duration, "with --cleanup: how long containers have to end by themselves; those that do not listen to SIGTERM have no time")
}

// Validate checks the settings; its errors say what to do.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if name := c.HostnameOverride; name != "" {
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
			fail("--hostname-override %q: %s", name, strings.Join(problems, "; "))
		}
	}
	for flag, list := range map[string][]string{"--node-ip": c.NodeIP, "--cluster-dns": c.ClusterDNS} {
		for _, s := range list {
			if _, err := netip.ParseAddr(s); err != nil {
				fail("%s %q: want an IP address", flag, s)
			}
		}
	}
	for flag, list := range map[string][]string{"--pod-cidr": c.PodCIDR, "--cluster-cidr": c.ClusterCIDR} {
		if _, err := Prefixes(list); err != nil {
			fail("%s: %w", flag, err)
		}
	}
	if c.NetworkPlugin != "" && c.NetworkPlugin != "cni" {
		fail("--network-plugin %q: want cni, or nothing for the built-in network", c.NetworkPlugin)
	}
	if c.StaticPodPath != "" && !filepath.IsAbs(c.StaticPodPath) {
		fail("--pod-manifest-path %q: want an absolute path", c.StaticPodPath)
	}
	for flag, dir := range map[string]string{"--root-dir": c.RootDir, "--state-dir": c.StateDir, "--image-store": c.ImageStore, "--pod-logs-dir": c.LogDir} {
		if !filepath.IsAbs(dir) {
			fail("%s %q: want an absolute path", flag, dir)
		}
	}
	if !c.Cleanup {
		for flag, file := range map[string]string{"--tls-cert-file": c.TLSCertFile, "--tls-private-key-file": c.TLSPrivateKeyFile, "--client-ca-file": c.ClientCAFile} {
			if file == "" && (flag == "--client-ca-file" || !c.ServerTLSBootstrap) {
				fail("%s is required: it names a file in PEM", flag)
			}
		}
		if (c.TLSCertFile == "") != (c.TLSPrivateKeyFile == "") {
			fail("--tls-cert-file and --tls-private-key-file must be given together")
		}
	}
	if c.ImageGCLowThresholdPercent >= c.ImageGCHighThresholdPercent {
		fail("--image-gc-low-threshold must be below --image-gc-high-threshold")
	}
	if c.ContainerLogMaxFiles < 2 {
		fail("--container-log-max-files must be at least 2")
	}
	if _, err := resource.ParseQuantity(c.ContainerLogMaxSize); err != nil {
		fail("--container-log-max-size %q: want a size such as 10Mi", c.ContainerLogMaxSize)
	}
	errs = append(errs, c.validateShares(), c.ImageVerification().Validate())
	if _, err := c.ShutdownGroups(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.Eviction(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.Reserved(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.Taints(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Prefixes parses address ranges.
func Prefixes(list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q: want a range such as 10.244.1.0/24", s)
		}
		all = append(all, p)
	}
	return all, nil
}

// ShutdownGroups are how pods end before the host goes down; none if they do not.
func (c *Config) ShutdownGroups() ([]shutdown.Group, error) {
	all, critical := c.ShutdownGracePeriod.Duration, c.ShutdownGracePeriodCriticalPods.Duration
	if len(c.ShutdownGracePeriodByPodPriority) == 0 {
		if critical < 0 || critical > all {
			return nil, errors.New("--shutdown-grace-period-critical-pods must be a part of --shutdown-grace-period")
		}
		return shutdown.Simple(all, critical), nil
	}
	if all != 0 || critical != 0 {
		return nil, errors.New("shutdownGracePeriodByPodPriority and shutdownGracePeriod exclude each other")
	}
	var groups []shutdown.Group
	for _, g := range c.ShutdownGracePeriodByPodPriority {
		groups = append(groups, shutdown.Group{Priority: g.Priority, Period: time.Duration(g.ShutdownGracePeriodSeconds) * time.Second})
	}
	if err := shutdown.Check(groups); err != nil {
		return nil, fmt.Errorf("shutdownGracePeriodByPodPriority: %w", err)
	}
	return groups, nil
}

// ImageVerification says which images that are here need their registry's word.
func (c *Config) ImageVerification() image.Verification {
	return image.Verification{Policy: c.ImagePullCredentialsVerificationPolicy, Allowlist: c.PreloadedImagesVerificationAllowlist}
}

// Eviction is when pods end for the node's sake.
func (c *Config) Eviction() (e eviction.Config, err error) {
	if e.Hard, err = eviction.Parse(c.EvictionHard); err != nil {
		return e, fmt.Errorf("--eviction-hard: %w", err)
	}
	if e.Soft, e.SoftGrace, err = eviction.ParseSoft(c.EvictionSoft, c.EvictionSoftGracePeriod); err != nil {
		return e, fmt.Errorf("--eviction-soft: %w", err)
	}
	if e.MinimumReclaim, err = eviction.ParseReclaim(c.EvictionMinimumReclaim); err != nil {
		return e, fmt.Errorf("--eviction-minimum-reclaim: %w", err)
	}
	if c.EvictionMaxPodGracePeriod < 0 || c.EvictionPressureTransitionPeriod.Duration < 0 {
		return e, errors.New("--eviction-max-pod-grace-period and --eviction-pressure-transition-period must not be negative")
	}
	e.Transition, e.MaxPodGrace = c.EvictionPressureTransitionPeriod.Duration, time.Duration(c.EvictionMaxPodGracePeriod)*time.Second
	return e, nil
}

// Reserved is what pods do not get.
func (c *Config) Reserved() (corev1.ResourceList, error) {
	sum := corev1.ResourceList{}
	for flag, m := range map[string]map[string]string{"--system-reserved": c.SystemReserved, "--kube-reserved": c.KubeReserved} {
		for name, text := range m {
			q, err := resource.ParseQuantity(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %s=%q: %w", flag, name, text, err)
			}
			have := sum[corev1.ResourceName(name)]
			have.Add(q)
			sum[corev1.ResourceName(name)] = have
		}
	}
	// CPUs that are named count instead of any quantity of them.
	if named, err := numa.ParseList(c.ReservedCPUs); err != nil {
		return nil, fmt.Errorf("--reserved-cpus: %w", err)
	} else if len(named) > 0 {
		sum[corev1.ResourceCPU] = *resource.NewQuantity(int64(len(named)), resource.DecimalSI)
	}
	return sum, nil
}

// Taints are those that the node registers with.
func (c *Config) Taints() ([]corev1.Taint, error) {
	var all []corev1.Taint
	for _, s := range c.RegisterWithTaints {
		rest, effect, ok := cutLast(s, ":")
		key, value, _ := strings.Cut(rest, "=")
		t := corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
		known := t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectPreferNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		if !ok || key == "" || !known {
			return nil, fmt.Errorf("--register-with-taints %q: want key=value:effect, with effect NoSchedule, PreferNoSchedule or NoExecute", s)
		}
		all = append(all, t)
	}
	return all, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// LogMaxBytes is the size from which a log is rotated.
func (c *Config) LogMaxBytes() int64 {
	q := resource.MustParse(c.ContainerLogMaxSize) // validated
	return q.Value()
}

// NodeName is the node's name.
func (c *Config) NodeName() (string, error) {
	if c.HostnameOverride != "" {
		return c.HostnameOverride, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the host's name: %w; set --hostname-override", err)
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return "", fmt.Errorf("the host's name %q cannot be a node's name: %s; set --hostname-override", name, strings.Join(problems, "; "))
	}
	return name, nil
}
