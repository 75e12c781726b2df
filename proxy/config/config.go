// Package config is the proxy's settings: flags in kube-proxy's spelling and the same fields in a file.
package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"bareboat.dev/daemon"
)

// The modes: which of the kernel's interfaces carries the rules.
const (
	ModeIPTables = "iptables"
	ModeNFTables = "nftables"
)

// Config is all settings. Build it with Default, so that fields added later have sensible values.
type Config struct {
	// Kubeconfig says where the API is and who we are; empty: $KUBECONFIG or /etc/bareboat/admin.conf.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// ProxyMode is iptables or nftables.
	ProxyMode string `json:"proxyMode,omitempty"`
	// ClusterCIDR lists the pod networks, by comma: traffic to cluster addresses from elsewhere is masqueraded.
	ClusterCIDR string `json:"clusterCIDR,omitempty"`
	// HostnameOverride is the node's name; empty: the host's.
	HostnameOverride string `json:"hostnameOverride,omitempty"`
	// NodePortAddresses limits node ports to this host's addresses in these networks; empty: all but loopback.
	NodePortAddresses []string `json:"nodePortAddresses,omitempty"`
	// MasqueradeAll masquerades all traffic to cluster addresses.
	MasqueradeAll bool `json:"masqueradeAll,omitempty"`
	// AllowExternalIPs makes spec.externalIPs of services effective.
	AllowExternalIPs bool `json:"allowExternalIPs,omitempty"`
	// NetworkPolicy enforces NetworkPolicies, where the kernel has nftables.
	NetworkPolicy bool `json:"networkPolicy,omitempty"`
	// ConntrackTCPTimeoutEstablished and ConntrackTCPTimeoutCloseWait are how long silent connections, and half-closed ones, are
	// remembered; 0 leaves it to the kernel.
	ConntrackTCPTimeoutEstablished daemon.Duration `json:"conntrackTCPTimeoutEstablished,omitempty"`
	ConntrackTCPTimeoutCloseWait   daemon.Duration `json:"conntrackTCPTimeoutCloseWait,omitempty"`
	// HealthzBindAddress serves /healthz and /livez for load balancers; empty: not served.
	HealthzBindAddress string `json:"healthzBindAddress,omitempty"`
	// MetricsBindAddress serves /metrics, health and, for loopback, pprof; empty: not served.
	MetricsBindAddress string `json:"metricsBindAddress,omitempty"`

	// Cleanup removes everything the proxy left in the kernel, then exits. A flag only.
	Cleanup bool `json:"-"`
}

// Default is the settings without a file and flags.
func Default() Config {
	return Config{
		ProxyMode: ModeIPTables, ClusterCIDR: "10.244.0.0/16", NetworkPolicy: true,
		ConntrackTCPTimeoutEstablished: daemon.Duration{Duration: 24 * time.Hour}, ConntrackTCPTimeoutCloseWait: daemon.Duration{Duration: time.Hour},
		HealthzBindAddress: "0.0.0.0:10256", MetricsBindAddress: "127.0.0.1:10249",
	}
}

// Flags registers the flags.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "where the API is and who we are (default: $KUBECONFIG or /etc/bareboat/admin.conf)")
	fs.StringVar(&c.ProxyMode, "proxy-mode", c.ProxyMode, "what carries the rules: iptables or nftables")
	fs.StringVar(&c.ClusterCIDR, "cluster-cidr", c.ClusterCIDR, "pod networks, by comma; traffic to cluster addresses from elsewhere is masqueraded")
	fs.StringVar(&c.HostnameOverride, "hostname-override", c.HostnameOverride, "the node's name (default: the host's)")
	fs.StringSliceVar(&c.NodePortAddresses, "nodeport-addresses", c.NodePortAddresses, "networks whose addresses of this host serve node ports (default: all but loopback)")
	fs.BoolVar(&c.MasqueradeAll, "masquerade-all", c.MasqueradeAll, "masquerade all traffic to cluster addresses")
	fs.BoolVar(&c.AllowExternalIPs, "allow-external-ips", c.AllowExternalIPs, "serve spec.externalIPs of services: whoever may create a service can then take over any address")
	fs.BoolVar(&c.NetworkPolicy, "network-policy", c.NetworkPolicy, "enforce NetworkPolicies (needs nftables in the kernel, whatever the proxy mode)")
	fs.Var(&c.ConntrackTCPTimeoutEstablished, "conntrack-tcp-timeout-established", "how long silent TCP connections are remembered; 0: as the kernel does")
	fs.Var(&c.ConntrackTCPTimeoutCloseWait, "conntrack-tcp-timeout-close-wait", "how long half-closed TCP connections are remembered; 0: as the kernel does")
	fs.StringVar(&c.HealthzBindAddress, "healthz-bind-address", c.HealthzBindAddress, "address of /healthz and /livez for load balancers; empty: none")
	fs.StringVar(&c.MetricsBindAddress, "metrics-bind-address", c.MetricsBindAddress, "address of /metrics; empty: none")
	fs.BoolVar(&c.Cleanup, "cleanup", c.Cleanup, "remove all of the proxy's rules from this host, then exit")
}

// Validate checks the settings.
func (c *Config) Validate() error {
	if c.ProxyMode != ModeIPTables && c.ProxyMode != ModeNFTables {
		return fmt.Errorf("--proxy-mode is %q: use %s or %s", c.ProxyMode, ModeIPTables, ModeNFTables)
	}
	if _, err := c.ClusterCIDRs(); err != nil {
		return err
	}
	for flag, d := range map[string]daemon.Duration{"established": c.ConntrackTCPTimeoutEstablished, "close-wait": c.ConntrackTCPTimeoutCloseWait} {
		if d.Duration < 0 || d.Duration%time.Second != 0 {
			return fmt.Errorf("--conntrack-tcp-timeout-%s is %s: use whole seconds, or 0", flag, d.Duration)
		}
	}
	if _, err := c.NodePortPrefixes(); err != nil {
		return err
	}
	for flag, addr := range map[string]string{"healthz-bind-address": c.HealthzBindAddress, "metrics-bind-address": c.MetricsBindAddress} {
		if addr == "" {
			continue
		}
		if _, err := netip.ParseAddrPort(addr); err != nil {
			return fmt.Errorf("--%s is %q: write an address and a port, as 127.0.0.1:10249", flag, addr)
		}
	}
	if _, err := c.NodeName(); err != nil {
		return err
	}
	return nil
}

// ClusterCIDRs parses --cluster-cidr.
func (c *Config) ClusterCIDRs() ([]netip.Prefix, error) {
	return prefixes("cluster-cidr", strings.Split(c.ClusterCIDR, ","))
}

// NodePortPrefixes parses --nodeport-addresses.
func (c *Config) NodePortPrefixes() ([]netip.Prefix, error) {
	return prefixes("nodeport-addresses", c.NodePortAddresses)
}

func prefixes(flag string, texts []string) (out []netip.Prefix, err error) {
	for _, t := range texts {
		if t = strings.TrimSpace(t); t == "" {
			continue
		}
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, fmt.Errorf("--%s: %q is no network: write an address and a prefix length, as 10.244.0.0/16", flag, t)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// NodeName is the name under which this host is a node.
func (c *Config) NodeName() (string, error) {
	name := c.HostnameOverride
	if name == "" {
		h, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("the host has no name, use --hostname-override: %w", err)
		}
		name = h
	}
	return strings.ToLower(strings.TrimSpace(name)), nil
}
