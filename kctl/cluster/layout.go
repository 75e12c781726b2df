// Package cluster starts and stops a whole cluster on this machine: certificates, configuration files, every daemon, and a
// wait until the node is Ready. Where systemd is PID 1 the daemons run as its units; elsewhere a small supervisor reads the
// same unit files and runs them as background processes, so that there is one description of how a daemon is started.
package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// Layout is where things are. The zero value is not useful; see DefaultLayout.
type Layout struct {
	// Etc holds configuration, certificates and kubeconfigs; kept by Down.
	Etc string
	// State holds the database; kept by Down.
	State string
	// Kubelet holds pods' volumes and images; kept by Down but for what belongs to running pods.
	Kubelet string
	// Run holds sockets, locks and the supervisor's status; removed by Down.
	Run string
	// Log holds the daemons' logs where no journal collects them.
	Log string
	// Lib holds bin/ (the daemons) and systemd/ (their units).
	Lib string
}

// installedLib is the folder that unit files name; another Lib replaces it in them.
const installedLib = "/usr/local/lib/bareboat"

// DefaultLayout finds the daemons next to the running kctl: in its own folder's parent (a build tree), or in
// ../lib/bareboat (an installation).
func DefaultLayout() (Layout, error) {
	l := Layout{Etc: "/etc/bareboat", State: "/var/lib/bareboat", Kubelet: "/var/lib/kubelet", Run: "/run/bareboat", Log: "/var/log/bareboat"}
	exe, err := os.Executable()
	if err != nil {
		return l, err
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		return l, err
	}
	dir := filepath.Dir(exe)
	for _, lib := range []string{filepath.Dir(dir), filepath.Join(filepath.Dir(dir), "lib", "bareboat"), installedLib} {
		if _, err := os.Stat(filepath.Join(lib, "bin", "apiserver")); err == nil {
			l.Lib = lib
			return l, nil
		}
	}
	return l, fmt.Errorf("no daemons beside %s; run `make build` in the source tree or `make install`", exe)
}

// Bin is the path of a daemon's binary.
func (l Layout) Bin(name string) string { return filepath.Join(l.Lib, "bin", name) }

// PKI is the folder of the certificates.
func (l Layout) PKI() string { return filepath.Join(l.Etc, "pki") }

// Kubeconfig is the path of a client's kubeconfig, e.g. of "admin".
func (l Layout) Kubeconfig(name string) string { return filepath.Join(l.Etc, name+".conf") }

// Config is the path of a daemon's configuration file.
func (l Layout) Config(name string) string { return filepath.Join(l.Etc, name+".yaml") }

// Database is the path of the embedded store.
func (l Layout) Database() string { return filepath.Join(l.State, "state.db") }

// Daemons are the daemons of a one-machine cluster in the order in which they are started; they are stopped in reverse.
func Daemons() []string {
	return []string{"apiserver", "scheduler", "controllermanager", "kubelet", "proxy", "dns"}
}

// Options are what a user may choose about a new cluster.
type Options struct {
	NodeName string
	NodeIP   netip.Addr
	// NodeIPChosen says that a user chose NodeIP, so that it is remembered; otherwise it is what the host says.
	NodeIPChosen bool
	// ServiceCIDR, PodCIDR: where cluster IPs and pod IPs come from. DNS gets the tenth address of ServiceCIDR, the API the first.
	ServiceCIDR, PodCIDR netip.Prefix
	ClusterDomain        string
	// Port of the API.
	Port uint16
	// ProxyMode is "iptables" or "nftables".
	ProxyMode string
}

// DefaultOptions asks the host for its name and for the address that it would reach others from.
func DefaultOptions() (Options, error) {
	name, err := os.Hostname()
	if err != nil {
		return Options{}, fmt.Errorf("read the host's name: %w", err)
	}
	ip, err := hostIP()
	return Options{
		NodeName:      nodeName(name),
		NodeIP:        ip,
		ServiceCIDR:   netip.MustParsePrefix("10.96.0.0/16"),
		PodCIDR:       netip.MustParsePrefix("10.244.0.0/16"),
		ClusterDomain: "cluster.local",
		Port:          6443,
		ProxyMode:     "iptables",
	}, err
}

// nth returns the nth address of a prefix.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// APIServiceIP is the cluster IP of the kubernetes service.
func (o Options) APIServiceIP() netip.Addr { return nth(o.ServiceCIDR, 1) }

// DNSServiceIP is the address that pods ask for names.
func (o Options) DNSServiceIP() netip.Addr { return nth(o.ServiceCIDR, 10) }

// Validate names the flag that cannot be used.
func (o Options) Validate() error {
	var errs []error
	if !o.NodeIP.IsValid() {
		errs = append(errs, errors.New("--node-ip: this host has no address but loopback; name one that its pods can reach"))
	}
	if o.NodeIP.IsLoopback() {
		errs = append(errs, fmt.Errorf("--node-ip: %s is a loopback address, which pods cannot reach; name another", o.NodeIP))
	}
	if !o.ServiceCIDR.IsValid() || o.ServiceCIDR.Addr().BitLen()-o.ServiceCIDR.Bits() < 5 {
		errs = append(errs, fmt.Errorf("--service-cidr: %s has fewer than 32 addresses; use a /27 or wider", o.ServiceCIDR))
	}
	if !o.PodCIDR.IsValid() || o.PodCIDR.Addr().Is4() && o.PodCIDR.Bits() > 24 {
		errs = append(errs, fmt.Errorf("--pod-cidr: %s has no room for one /24 per node; use a /24 or wider", o.PodCIDR))
	}
	if o.ServiceCIDR.Overlaps(o.PodCIDR) {
		errs = append(errs, fmt.Errorf("--service-cidr %s and --pod-cidr %s overlap; choose ranges that do not", o.ServiceCIDR, o.PodCIDR))
	}
	for flag, cidr := range map[string]netip.Prefix{"--service-cidr": o.ServiceCIDR, "--pod-cidr": o.PodCIDR} {
		if cidr.Contains(o.NodeIP) {
			errs = append(errs, fmt.Errorf("%s: %s contains the host's own address %s; choose another range", flag, cidr, o.NodeIP))
		}
	}
	if o.ProxyMode != "iptables" && o.ProxyMode != "nftables" {
		errs = append(errs, fmt.Errorf("--proxy-mode: %q is neither iptables nor nftables", o.ProxyMode))
	}
	return errors.Join(errs...)
}
