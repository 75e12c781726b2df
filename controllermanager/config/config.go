// Package config is the controller manager's settings: flags in kube-controller-manager's spelling and the same fields in a
// file.
package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"bareboat.dev/controllermanager/certificates"
	"bareboat.dev/controllermanager/nodeipam"
	"bareboat.dev/controllermanager/nodelifecycle"
	"bareboat.dev/daemon"
)

// Config is all settings. Build it with Default, so that fields added later have sensible values.
type Config struct {
	// Kubeconfig says where the API is and who we are; empty: $KUBECONFIG or /etc/bareboat/admin.conf.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// LeaderElect takes part in an election, so that several controller managers may run and one acts.
	LeaderElect bool `json:"leaderElect"`
	// LeaderElectLeaseDuration is how long others wait for a leader that fell silent, in whole seconds.
	LeaderElectLeaseDuration daemon.Duration `json:"leaderElectLeaseDuration,omitempty"`
	// Controllers selects: "*" is all, "name" one more, "-name" one less.
	Controllers []string `json:"controllers,omitempty"`

	// AllocateNodeCIDRs gives every node a range of ClusterCIDR (at most one range per family, by comma).
	AllocateNodeCIDRs bool   `json:"allocateNodeCIDRs"`
	ClusterCIDR       string `json:"clusterCIDR,omitempty"`
	// NodeCIDRMaskSize is the prefix length of a node's range; NodeCIDRMaskSizeIPv6 that of its IPv6 range.
	NodeCIDRMaskSize     int `json:"nodeCIDRMaskSize,omitempty"`
	NodeCIDRMaskSizeIPv6 int `json:"nodeCIDRMaskSizeIPv6,omitempty"`

	// NodeMonitorGracePeriod is how long a node may be silent before it counts as unreachable.
	NodeMonitorGracePeriod daemon.Duration `json:"nodeMonitorGracePeriod,omitempty"`
	// NodeEvictionRate and SecondaryNodeEvictionRate are in nodes per second and zone.
	NodeEvictionRate          float64 `json:"nodeEvictionRate,omitempty"`
	SecondaryNodeEvictionRate float64 `json:"secondaryNodeEvictionRate,omitempty"`
	// LargeClusterSizeThreshold and UnhealthyZoneThreshold say when the secondary rate holds.
	LargeClusterSizeThreshold int     `json:"largeClusterSizeThreshold,omitempty"`
	UnhealthyZoneThreshold    float64 `json:"unhealthyZoneThreshold,omitempty"`

	// TerminatedPodGCThreshold is how many finished pods may stay; 0: all.
	TerminatedPodGCThreshold int `json:"terminatedPodGCThreshold,omitempty"`
	// RootCAFile is published to pods; empty: the certificate authority that Kubeconfig trusts.
	RootCAFile string `json:"rootCAFile,omitempty"`

	// ClusterSigningCertFile and ClusterSigningKeyFile are the authority that signs approved CertificateSigningRequests; empty: none
	// are signed. ClusterSigningDuration is how long certificates live at most.
	ClusterSigningCertFile string          `json:"clusterSigningCertFile,omitempty"`
	ClusterSigningKeyFile  string          `json:"clusterSigningKeyFile,omitempty"`
	ClusterSigningDuration daemon.Duration `json:"clusterSigningDuration,omitempty"`

	// BindAddress and SecurePort serve metrics and health; port 0: not served. An empty address is all of this host's with a
	// certificate and 127.0.0.1 without, since metrics name the cluster's objects.
	BindAddress string `json:"bindAddress,omitempty"`
	SecurePort  int    `json:"securePort"`
	// TLSCertFile and TLSPrivateKeyFile serve them over TLS, ClientCAFile verifies who asks; without, plain HTTP.
	TLSCertFile       string `json:"tlsCertFile,omitempty"`
	TLSPrivateKeyFile string `json:"tlsPrivateKeyFile,omitempty"`
	ClientCAFile      string `json:"clientCAFile,omitempty"`
}

// Default is the settings without a file and flags.
func Default() Config {
	node := nodelifecycle.DefaultConfig()
	return Config{
		LeaderElect: true, LeaderElectLeaseDuration: daemon.Duration{Duration: 3 * time.Second}, Controllers: []string{"*"},
		AllocateNodeCIDRs: true, ClusterCIDR: "10.244.0.0/16", NodeCIDRMaskSize: 24, NodeCIDRMaskSizeIPv6: 64,
		NodeMonitorGracePeriod: daemon.Duration{Duration: node.Grace}, NodeEvictionRate: node.EvictionRate,
		SecondaryNodeEvictionRate: node.SecondaryRate, LargeClusterSizeThreshold: node.LargeCluster, UnhealthyZoneThreshold: node.Unhealthy,
		TerminatedPodGCThreshold: 12500, SecurePort: 10257, ClusterSigningDuration: daemon.Duration{Duration: 365 * 24 * time.Hour},
	}
}

// Flags registers the flags.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "where the API is and who we are (default: $KUBECONFIG or /etc/bareboat/admin.conf)")
	fs.BoolVar(&c.LeaderElect, "leader-elect", c.LeaderElect, "take part in an election, so that several may run and one acts")
	fs.Var(&c.LeaderElectLeaseDuration, "leader-elect-lease-duration", "how long others wait for a leader that fell silent, in whole seconds")
	fs.StringSliceVar(&c.Controllers, "controllers", c.Controllers, "controllers to run: '*' is all, 'name' one more, '-name' one less")
	fs.BoolVar(&c.AllocateNodeCIDRs, "allocate-node-cidrs", c.AllocateNodeCIDRs, "give every node a range of --cluster-cidr")
	fs.StringVar(&c.ClusterCIDR, "cluster-cidr", c.ClusterCIDR, "pod networks, one per family, by comma")
	fs.IntVar(&c.NodeCIDRMaskSize, "node-cidr-mask-size", c.NodeCIDRMaskSize, "prefix length of a node's IPv4 range")
	fs.IntVar(&c.NodeCIDRMaskSize, "node-cidr-mask-size-ipv4", c.NodeCIDRMaskSize, "the same as --node-cidr-mask-size")
	fs.IntVar(&c.NodeCIDRMaskSizeIPv6, "node-cidr-mask-size-ipv6", c.NodeCIDRMaskSizeIPv6, "prefix length of a node's IPv6 range")
	fs.Var(&c.NodeMonitorGracePeriod, "node-monitor-grace-period", "how long a node may be silent before it counts as unreachable")
	fs.Float64Var(&c.NodeEvictionRate, "node-eviction-rate", c.NodeEvictionRate, "nodes per second and zone that may begin to be evicted")
	fs.Float64Var(&c.SecondaryNodeEvictionRate, "secondary-node-eviction-rate", c.SecondaryNodeEvictionRate, "the rate in a large zone that is partly disrupted")
	fs.IntVar(&c.LargeClusterSizeThreshold, "large-cluster-size-threshold", c.LargeClusterSizeThreshold, "a partly disrupted zone of at most so many nodes is not evicted")
	fs.Float64Var(&c.UnhealthyZoneThreshold, "unhealthy-zone-threshold", c.UnhealthyZoneThreshold, "part of a zone's nodes that makes it partly disrupted (at least 3 nodes)")
	fs.IntVar(&c.TerminatedPodGCThreshold, "terminated-pod-gc-threshold", c.TerminatedPodGCThreshold, "how many finished pods may stay; 0: all")
	fs.StringVar(&c.RootCAFile, "root-ca-file", c.RootCAFile, "certificates to publish to pods (default: the kubeconfig's certificate authority)")
	fs.StringVar(&c.ClusterSigningCertFile, "cluster-signing-cert-file", c.ClusterSigningCertFile, "certificate of the authority that signs approved CertificateSigningRequests; without one, none are signed")
	fs.StringVar(&c.ClusterSigningKeyFile, "cluster-signing-key-file", c.ClusterSigningKeyFile, "key of --cluster-signing-cert-file")
	fs.Var(&c.ClusterSigningDuration, "cluster-signing-duration", "how long signed certificates live at most")
	fs.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "address for metrics and health (default: all with --tls-cert-file, 127.0.0.1 without)")
	fs.IntVar(&c.SecurePort, "secure-port", c.SecurePort, "port for metrics and health; 0: not served")
	fs.StringVar(&c.TLSCertFile, "tls-cert-file", c.TLSCertFile, "serving certificate; without one, plain HTTP")
	fs.StringVar(&c.TLSPrivateKeyFile, "tls-private-key-file", c.TLSPrivateKeyFile, "key of --tls-cert-file")
	fs.StringVar(&c.ClientCAFile, "client-ca-file", c.ClientCAFile, "certificate authority of clients that may read metrics and profiles")
}

// Validate checks the settings.
func (c *Config) Validate() error {
	var errs []error
	if _, err := c.Pools(); err != nil {
		errs = append(errs, err)
	}
	if c.LeaderElectLeaseDuration.Duration < time.Second || c.LeaderElectLeaseDuration.Duration%time.Second != 0 {
		errs = append(errs, errors.New("--leader-elect-lease-duration: want whole seconds, at least 1s"))
	}
	if c.NodeMonitorGracePeriod.Duration < 5*time.Second {
		errs = append(errs, errors.New("--node-monitor-grace-period: want at least 5s, which is half of a kubelet's heartbeat"))
	}
	if c.NodeEvictionRate < 0 || c.SecondaryNodeEvictionRate < 0 {
		errs = append(errs, errors.New("--node-eviction-rate and --secondary-node-eviction-rate: want 0 or more"))
	}
	if c.UnhealthyZoneThreshold < 0 || c.UnhealthyZoneThreshold > 1 {
		errs = append(errs, errors.New("--unhealthy-zone-threshold: want a part between 0 and 1"))
	}
	if (c.TLSCertFile == "") != (c.TLSPrivateKeyFile == "") {
		errs = append(errs, errors.New("--tls-cert-file and --tls-private-key-file go together"))
	}
	if (c.ClusterSigningCertFile == "") != (c.ClusterSigningKeyFile == "") {
		errs = append(errs, errors.New("--cluster-signing-cert-file and --cluster-signing-key-file go together"))
	}
	if c.ClusterSigningDuration.Duration < time.Hour {
		errs = append(errs, errors.New("--cluster-signing-duration: want at least 1h"))
	}
	if c.SecurePort < 0 || c.SecurePort > 65535 {
		errs = append(errs, errors.New("--secure-port: want a port number"))
	}
	return errors.Join(errs...)
}

// Pools returns the address pools that --cluster-cidr describes, nil if nodes get none.
func (c *Config) Pools() ([]nodeipam.Pool, error) {
	if !c.AllocateNodeCIDRs {
		return nil, nil
	}
	var pools []nodeipam.Pool
	for _, cidr := range strings.Split(c.ClusterCIDR, ",") {
		bits := c.NodeCIDRMaskSize
		if strings.Contains(cidr, ":") {
			bits = c.NodeCIDRMaskSizeIPv6
		}
		pool, err := nodeipam.NewPool(strings.TrimSpace(cidr), bits)
		if err != nil {
			return nil, fmt.Errorf("--cluster-cidr: %w", err)
		}
		if slices.ContainsFunc(pools, func(p nodeipam.Pool) bool { return p.Cluster.Addr().Is4() == pool.Cluster.Addr().Is4() }) {
			return nil, fmt.Errorf("--cluster-cidr: %s: want at most one range per address family", c.ClusterCIDR)
		}
		pools = append(pools, pool)
	}
	return pools, nil
}

// NodeLifecycle returns the node lifecycle controllers' settings.
func (c *Config) NodeLifecycle() nodelifecycle.Config {
	return nodelifecycle.Config{
		Grace: c.NodeMonitorGracePeriod.Duration, EvictionRate: c.NodeEvictionRate, SecondaryRate: c.SecondaryNodeEvictionRate,
		LargeCluster: c.LargeClusterSizeThreshold, Unhealthy: c.UnhealthyZoneThreshold,
	}
}

// Authority returns what certificates are signed with.
func (c *Config) Authority() certificates.Authority {
	return certificates.Authority{CertFile: c.ClusterSigningCertFile, KeyFile: c.ClusterSigningKeyFile, Longest: c.ClusterSigningDuration.Duration}
}

// Enabled reports whether --controllers selects a controller; the last word about its name counts, "*" if there is none.
func (c *Config) Enabled(name string) bool {
	on := slices.Contains(c.Controllers, "*")
	for _, word := range c.Controllers {
		switch word {
		case name:
			on = true
		case "-" + name:
			on = false
		}
	}
	return on
}

// AdminAddress is where metrics and health are served.
func (c *Config) AdminAddress() string {
	host := c.BindAddress
	if host == "" && c.TLSCertFile == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(c.SecurePort))
}

// RootCA returns the certificates to publish; have are those that the API's client trusts, inline or in a file.
func (c *Config) RootCA(data []byte, file string) (string, error) {
	if c.RootCAFile != "" {
		data, file = nil, c.RootCAFile
	}
	if len(data) > 0 || file == "" {
		return string(data), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--root-ca-file: %w", err)
	}
	return string(data), nil
}
