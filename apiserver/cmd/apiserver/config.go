package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/server/inflight"
)

// config is the daemon's configuration, kind ApiserverConfiguration of bareboat.dev/v1. Fields are named as the flags.
type config struct {
	BindAddress      string `json:"bindAddress"`
	SecurePort       int    `json:"securePort"`
	AdvertiseAddress string `json:"advertiseAddress"`

	TLSCertFile       string `json:"tlsCertFile"`
	TLSPrivateKeyFile string `json:"tlsPrivateKeyFile"`
	ClientCAFile      string `json:"clientCAFile"`

	SQLiteFile   string `json:"sqliteFile"`
	EtcdServers  list   `json:"etcdServers"`
	EtcdCAFile   string `json:"etcdCAFile"`
	EtcdCertFile string `json:"etcdCertFile"`
	EtcdKeyFile  string `json:"etcdKeyFile"`

	ServiceClusterIPRange string `json:"serviceClusterIPRange"`
	ServiceNodePortRange  string `json:"serviceNodePortRange"`

	KubeletClientCertificate    string `json:"kubeletClientCertificate"`
	KubeletClientKey            string `json:"kubeletClientKey"`
	KubeletCertificateAuthority string `json:"kubeletCertificateAuthority"`

	ServiceAccountIssuer         string `json:"serviceAccountIssuer"`
	ServiceAccountSigningKeyFile string `json:"serviceAccountSigningKeyFile"`
	ServiceAccountKeyFiles       list   `json:"serviceAccountKeyFile"`
	APIAudiences                 list   `json:"apiAudiences"`

	identityConfig

	MaxRequestsInflight         int    `json:"maxRequestsInflight"`
	MaxMutatingRequestsInflight int    `json:"maxMutatingRequestsInflight"`
	MaxWatchesInflight          int    `json:"maxWatchesInflight"`
	MaxStreamsInflight          int    `json:"maxStreamsInflight"`
	DisableAdmissionPlugins     list   `json:"disableAdmissionPlugins"`
	AdmissionControlConfigFile  string `json:"admissionControlConfigFile"`
	AuditLogPath                string `json:"auditLogPath"`
}

// list is a list of strings; in the file one string is a list of one, as on the command line.
type list []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *list) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

func defaults() *config {
	return &config{
		BindAddress: "0.0.0.0", SecurePort: 6443, SQLiteFile: "/var/lib/bareboat/state.db",
		ServiceClusterIPRange: "10.96.0.0/16", ServiceNodePortRange: "30000-32767",
		ServiceAccountIssuer: "https://kubernetes.default.svc.cluster.local", identityConfig: identityDefaults(),
		MaxRequestsInflight: inflight.DefaultReads, MaxMutatingRequestsInflight: inflight.DefaultWrites,
		MaxWatchesInflight: inflight.DefaultWatches, MaxStreamsInflight: inflight.DefaultStreams,
	}
}

func (c *config) flags(f *pflag.FlagSet) {
	f.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "address to listen on")
	f.IntVar(&c.SecurePort, "secure-port", c.SecurePort, "port to listen on, for gRPC and REST")
	f.StringVar(&c.AdvertiseAddress, "advertise-address", c.AdvertiseAddress, "address at which the cluster reaches this server; default: the bind address, or that of the default route")
	f.StringVar(&c.TLSCertFile, "tls-cert-file", c.TLSCertFile, "certificate of the port; followed when it changes")
	f.StringVar(&c.TLSPrivateKeyFile, "tls-private-key-file", c.TLSPrivateKeyFile, "key of the certificate")
	f.StringVar(&c.ClientCAFile, "client-ca-file", c.ClientCAFile, "authorities of client certificates")
	f.StringVar(&c.SQLiteFile, "sqlite-file", c.SQLiteFile, "database file, used unless --etcd-servers is given")
	f.StringSliceVar((*[]string)(&c.EtcdServers), "etcd-servers", c.EtcdServers, "etcd members, as URLs")
	f.StringVar(&c.EtcdCAFile, "etcd-cafile", c.EtcdCAFile, "authorities of etcd's certificates")
	f.StringVar(&c.EtcdCertFile, "etcd-certfile", c.EtcdCertFile, "client certificate for etcd")
	f.StringVar(&c.EtcdKeyFile, "etcd-keyfile", c.EtcdKeyFile, "key of the client certificate for etcd")
	f.StringVar(&c.ServiceClusterIPRange, "service-cluster-ip-range", c.ServiceClusterIPRange, "networks of Services' cluster IPs, at most one per IP family")
	f.StringVar(&c.ServiceNodePortRange, "service-node-port-range", c.ServiceNodePortRange, "ports for Services of type NodePort, both ends included")
	f.StringVar(&c.KubeletClientCertificate, "kubelet-client-certificate", c.KubeletClientCertificate, "client certificate for kubelets")
	f.StringVar(&c.KubeletClientKey, "kubelet-client-key", c.KubeletClientKey, "key of the client certificate for kubelets")
	f.StringVar(&c.KubeletCertificateAuthority, "kubelet-certificate-authority", c.KubeletCertificateAuthority, "authorities of kubelets' certificates")
	f.StringVar(&c.ServiceAccountIssuer, "service-account-issuer", c.ServiceAccountIssuer, "issuer of ServiceAccount tokens")
	f.StringVar(&c.ServiceAccountSigningKeyFile, "service-account-signing-key-file", c.ServiceAccountSigningKeyFile, "private key that signs ServiceAccount tokens; none: no tokens")
	f.StringSliceVar((*[]string)(&c.ServiceAccountKeyFiles), "service-account-key-file", c.ServiceAccountKeyFiles, "keys that verify ServiceAccount tokens, beside the signing key")
	f.StringSliceVar((*[]string)(&c.APIAudiences), "api-audiences", c.APIAudiences, "audiences that this server's tokens are for; default: the issuer")
	c.identityConfig.flags(f)
	f.IntVar(&c.MaxRequestsInflight, "max-requests-inflight", c.MaxRequestsInflight, "reads under way at once; 0: no bound")
	f.IntVar(&c.MaxMutatingRequestsInflight, "max-mutating-requests-inflight", c.MaxMutatingRequestsInflight, "writes under way at once; 0: no bound")
	f.IntVar(&c.MaxWatchesInflight, "max-watches-inflight", c.MaxWatchesInflight, "watches under way at once; 0: no bound")
	f.IntVar(&c.MaxStreamsInflight, "max-streams-inflight", c.MaxStreamsInflight, "streams into nodes and proxied requests under way at once; 0: no bound")
	f.StringSliceVar((*[]string)(&c.DisableAdmissionPlugins), "disable-admission-plugins", c.DisableAdmissionPlugins, "admission plugins that do not run")
	f.StringVar(&c.AdmissionControlConfigFile, "admission-control-config-file", c.AdmissionControlConfigFile, "AdmissionConfiguration that configures admission plugins (PodSecurity)")
	f.StringVar(&c.AuditLogPath, "audit-log-path", c.AuditLogPath, "file that gets a line for each request; - is standard output")
}

func (c *config) validate() error {
	if c.TLSCertFile == "" || c.TLSPrivateKeyFile == "" {
		return errors.New("--tls-cert-file and --tls-private-key-file are required: `kctl up` and `kctl pki` make them")
	}
	if c.ClientCAFile == "" {
		return errors.New("--client-ca-file is required: without it nobody can authenticate")
	}
	if c.SecurePort < 1 || c.SecurePort > 65535 {
		return fmt.Errorf("--secure-port %d is not a port", c.SecurePort)
	}
	if net.ParseIP(c.BindAddress) == nil {
		return fmt.Errorf("--bind-address %q is not an IP address", c.BindAddress)
	}
	if c.AdvertiseAddress != "" && net.ParseIP(c.AdvertiseAddress) == nil {
		return fmt.Errorf("--advertise-address %q is not an IP address", c.AdvertiseAddress)
	}
	if (c.KubeletClientCertificate == "") != (c.KubeletClientKey == "") {
		return errors.New("--kubelet-client-certificate and --kubelet-client-key go together")
	}
	if err := c.identityConfig.validate(c.ClientCAFile); err != nil {
		return err
	}
	_, err := c.services()
	return err
}

// services is what the core group needs to know of the cluster's networks.
func (c *config) services() (core.Config, error) {
	var out core.Config
	for _, s := range strings.Split(c.ServiceClusterIPRange, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return out, fmt.Errorf("--service-cluster-ip-range: %w", err)
		}
		out.ServiceCIDRs = append(out.ServiceCIDRs, p.Masked())
	}
	if len(out.ServiceCIDRs) > 2 || len(out.ServiceCIDRs) == 2 && out.ServiceCIDRs[0].Addr().Is4() == out.ServiceCIDRs[1].Addr().Is4() {
		return out, errors.New("--service-cluster-ip-range takes at most one network per IP family")
	}
	first, last, ok := strings.Cut(c.ServiceNodePortRange, "-")
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if !ok || err1 != nil || err2 != nil || a == 0 || a > b {
		return out, fmt.Errorf("--service-node-port-range %q is not a range such as 30000-32767", c.ServiceNodePortRange)
	}
	out.NodePorts = core.PortRange{First: int32(a), Last: int32(b)}
	return out, nil
}
