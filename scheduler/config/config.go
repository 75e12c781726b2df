// Package config is the scheduler's settings: flags in kube-scheduler's spelling and the same as a versioned file.
package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"bareboat.dev/daemon"
)

// Config is the file format of kind SchedulerConfiguration, bareboat.dev/v1.
type Config struct {
	// Kubeconfig says how to reach the API.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// SchedulerName is the spec.schedulerName of the pods to serve.
	SchedulerName  string         `json:"schedulerName,omitempty"`
	LeaderElection LeaderElection `json:"leaderElection,omitempty"`
	// BindAddress and SecurePort are where metrics and health are served; port 0 serves nothing.
	BindAddress string `json:"bindAddress,omitempty"`
	SecurePort  int    `json:"securePort"`
	// TLSCertFile and TLSPrivateKeyFile serve that port with TLS; without them it is plain HTTP on loopback only.
	TLSCertFile       string `json:"tlsCertFile,omitempty"`
	TLSPrivateKeyFile string `json:"tlsPrivateKeyFile,omitempty"`
	// ClientCAFile verifies client certificates there.
	ClientCAFile string `json:"clientCAFile,omitempty"`
}

// LeaderElection says how several schedulers agree on one.
type LeaderElection struct {
	LeaderElect       bool            `json:"leaderElect"`
	ResourceName      string          `json:"resourceName,omitempty"`
	ResourceNamespace string          `json:"resourceNamespace,omitempty"`
	LeaseDuration     daemon.Duration `json:"leaseDuration,omitempty"`
	RenewDeadline     daemon.Duration `json:"renewDeadline,omitempty"`
	RetryPeriod       daemon.Duration `json:"retryPeriod,omitempty"`
}

// Default returns the settings without flags or file.
func Default() *Config {
	return &Config{
		Kubeconfig: "/etc/bareboat/scheduler.conf", SchedulerName: "default-scheduler", BindAddress: "0.0.0.0", SecurePort: 10259,
		LeaderElection: LeaderElection{
			LeaderElect: true, ResourceName: "kube-scheduler", ResourceNamespace: "kube-system",
			LeaseDuration: daemon.Duration{Duration: 3 * time.Second}, RenewDeadline: daemon.Duration{Duration: 2 * time.Second},
			RetryPeriod: daemon.Duration{Duration: time.Second},
		},
	}
}

// Flags registers the flags.
func (c *Config) Flags(fs *pflag.FlagSet) {
	le := &c.LeaderElection
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "kubeconfig file that says how to reach the API")
	fs.StringVar(&c.SchedulerName, "scheduler-name", c.SchedulerName, "spec.schedulerName of the pods to serve")
	fs.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "address to serve metrics and health on")
	fs.IntVar(&c.SecurePort, "secure-port", c.SecurePort, "port to serve metrics and health on; 0 serves nothing")
	fs.StringVar(&c.TLSCertFile, "tls-cert-file", c.TLSCertFile, "certificate of that port, in PEM; without one it is plain HTTP on loopback")
	fs.StringVar(&c.TLSPrivateKeyFile, "tls-private-key-file", c.TLSPrivateKeyFile, "key of the certificate, in PEM")
	fs.StringVar(&c.ClientCAFile, "client-ca-file", c.ClientCAFile, "authorities of client certificates, in PEM")
	fs.BoolVar(&le.LeaderElect, "leader-elect", le.LeaderElect, "work only while holding the lease, so that several schedulers may run")
	fs.StringVar(&le.ResourceName, "leader-elect-resource-name", le.ResourceName, "name of the lease")
	fs.StringVar(&le.ResourceNamespace, "leader-elect-resource-namespace", le.ResourceNamespace, "namespace of the lease")
	fs.Var(&le.LeaseDuration, "leader-elect-lease-duration", "how long others wait for a silent leader")
	fs.Var(&le.RenewDeadline, "leader-elect-renew-deadline", "how long a leader goes on without renewing")
	fs.Var(&le.RetryPeriod, "leader-elect-retry-period", "time between renewals")
}

// Validate names what is wrong and what to do.
func (c *Config) Validate() error {
	le := c.LeaderElection
	switch {
	case c.Kubeconfig == "":
		return errors.New("--kubeconfig is empty: name the file that says how to reach the API")
	case c.SchedulerName == "":
		return errors.New("--scheduler-name is empty: leave it out for default-scheduler")
	case c.SecurePort < 0 || c.SecurePort > 65535:
		return fmt.Errorf("--secure-port %d: want a port from 1 to 65535, or 0 for none", c.SecurePort)
	case net.ParseIP(c.BindAddress) == nil:
		return fmt.Errorf("--bind-address %q is not an IP address", c.BindAddress)
	case (c.TLSCertFile == "") != (c.TLSPrivateKeyFile == ""):
		return errors.New("--tls-cert-file and --tls-private-key-file go together: give both or neither")
	case le.LeaderElect && (le.RetryPeriod.Duration <= 0 || le.RetryPeriod.Duration >= le.RenewDeadline.Duration || le.RenewDeadline.Duration >= le.LeaseDuration.Duration):
		return errors.New("--leader-elect-retry-period, -renew-deadline and -lease-duration must each be longer than the one before")
	}
	return nil
}

// Address is where metrics and health are served; "" for nowhere.
func (c *Config) Address() string {
	if c.SecurePort == 0 {
		return ""
	}
	host := c.BindAddress
	if c.TLSCertFile == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(c.SecurePort))
}
