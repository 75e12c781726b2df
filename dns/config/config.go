// Package config is the DNS daemon's settings, as flags and in a file.
package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"github.com/spf13/pflag"
)

// Config is all settings. Build it with Default.
type Config struct {
	// Kubeconfig says where the API is and who we are; empty: $KUBECONFIG or /etc/bareboat/admin.conf.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// ClusterDNS are the addresses that pods ask, one per family: they are made to exist on this host.
	ClusterDNS []string `json:"clusterDNS,omitempty"`
	// ClusterDomain is the zone of cluster names.
	ClusterDomain string `json:"clusterDomain,omitempty"`
	// Listen is where to listen, each "address:port"; empty: port 53 of the cluster DNS addresses.
	Listen []string `json:"listen,omitempty"`
	// ResolvConf names the servers that other names are asked of; it is read again when it changes.
	ResolvConf string `json:"resolvConf,omitempty"`
	// Upstreams are asked instead of those in ResolvConf, each "address" or "address:port".
	Upstreams []string `json:"upstreams,omitempty"`
	// MetricsBindAddress serves /metrics, /healthz, /livez and /readyz; empty: not served.
	MetricsBindAddress string `json:"metricsBindAddress,omitempty"`

	// Cleanup removes what the daemon left on this host, then exits. A flag only.
	Cleanup bool `json:"-"`
}

// Default is the settings without a file and flags.
func Default() Config {
	return Config{
		ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local", ResolvConf: "/etc/resolv.conf",
		MetricsBindAddress: "127.0.0.1:9153",
	}
}

// Flags registers the flags.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "where the API is and who we are (default: $KUBECONFIG or /etc/bareboat/admin.conf)")
	fs.StringSliceVar(&c.ClusterDNS, "cluster-dns", c.ClusterDNS, "addresses that pods ask, which are made to exist on this host")
	fs.StringVar(&c.ClusterDomain, "cluster-domain", c.ClusterDomain, "zone of cluster names")
	fs.StringSliceVar(&c.Listen, "listen", c.Listen, "where to listen, as address:port (default: port 53 of --cluster-dns)")
	fs.StringVar(&c.ResolvConf, "resolv-conf", c.ResolvConf, "file that names the servers for all other names; empty: only --upstream")
	fs.StringSliceVar(&c.Upstreams, "upstream", c.Upstreams, "servers for all other names, instead of those in --resolv-conf")
	fs.StringVar(&c.MetricsBindAddress, "metrics-bind-address", c.MetricsBindAddress, "address of /metrics and health; empty: none")
	fs.BoolVar(&c.Cleanup, "cleanup", c.Cleanup, "remove the cluster DNS addresses that this daemon added to this host, then exit")
}

// Validate checks the settings.
func (c *Config) Validate() error {
	if _, err := c.Addresses(); err != nil {
		return err
	}
	if listen, err := c.Listeners(); err != nil {
		return err
	} else if len(listen) == 0 {
		return fmt.Errorf("--cluster-dns is empty: name the address that pods ask, as 10.96.0.10")
	}
	if _, err := c.Servers(); err != nil {
		return err
	}
	if _, ok := dns.IsDomainName(c.ClusterDomain); !ok || strings.Trim(c.ClusterDomain, ".") == "" {
		return fmt.Errorf("--cluster-domain is %q: write a domain name, as cluster.local", c.ClusterDomain)
	}
	if c.MetricsBindAddress != "" {
		if _, err := netip.ParseAddrPort(c.MetricsBindAddress); err != nil {
			return fmt.Errorf("--metrics-bind-address is %q: write an address and a port, as 127.0.0.1:9153", c.MetricsBindAddress)
		}
	}
	return nil
}

// Domain is the zone, fully qualified.
func (c *Config) Domain() string { return dns.Fqdn(strings.ToLower(c.ClusterDomain)) }

// Addresses parses --cluster-dns.
func (c *Config) Addresses() (out []netip.Addr, err error) {
	for _, t := range c.ClusterDNS {
		a, err := netip.ParseAddr(t)
		if err != nil || a.Zone() != "" || a.IsUnspecified() {
			return nil, fmt.Errorf("--cluster-dns: %q is no address: write one as 10.96.0.10", t)
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}

// Listeners is where to listen.
func (c *Config) Listeners() (out []netip.AddrPort, err error) {
	for _, t := range c.Listen {
		a, err := netip.ParseAddrPort(t)
		if err != nil || a.Addr().IsUnspecified() {
			return nil, fmt.Errorf("--listen: %q is not a specific address and port: write 10.96.0.10:53", t)
		}
		out = append(out, a)
	}
	if len(out) > 0 {
		return out, nil
	}
	addrs, err := c.Addresses()
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(a, 53))
	}
	return out, err
}

// Servers parses --upstream.
func (c *Config) Servers() (out []netip.AddrPort, err error) {
	for _, t := range c.Upstreams {
		a, err := netip.ParseAddrPort(t)
		if err != nil {
			var bare netip.Addr
			if bare, err = netip.ParseAddr(t); err == nil {
				a = netip.AddrPortFrom(bare, 53)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("--upstream: %q is no address: write 192.0.2.53 or 192.0.2.53:53", t)
		}
		out = append(out, a)
	}
	return out, nil
}
