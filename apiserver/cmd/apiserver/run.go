package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"bareboat.dev/apiserver/admission/configfile"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
	"bareboat.dev/apiserver/review"
	"bareboat.dev/apiserver/server"
	"bareboat.dev/apiserver/server/inflight"
	"bareboat.dev/apiserver/server/pace"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/etcd"
	"bareboat.dev/apiserver/storage/sqlite"
	"bareboat.dev/daemon"
	"bareboat.dev/daemon/tlsconf"
)

// run puts the server together from the configuration and serves until ctx ends.
func run(ctx context.Context, env *daemon.Env, c *config) error {
	libraryLog(env.Log)
	services, err := c.services()
	if err != nil {
		return err
	}
	set, err := registry.NewSet(registry.All(groups.All(services), review.Resources())...)
	if err != nil {
		return err
	}
	cfg, err := c.serverConfig(env, set, services)
	if err != nil {
		return err
	}
	// The port comes before the store: a second server on this host is refused without touching anything.
	listener, err := listen(ctx, net.JoinHostPort(c.BindAddress, strconv.Itoa(c.SecurePort)))
	if err != nil {
		return err
	}
	defer listener.Close()
	if c.AuditLogPath != "" {
		audit, err := c.auditLog()
		if err != nil {
			return err
		}
		defer audit.Close()
		cfg.AuditLog = audit
	}
	if cfg.Engine, err = c.engine(ctx, env); err != nil {
		return err
	}
	defer cfg.Engine.Close()
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	pacing, stop := context.WithCancel(ctx)
	defer stop()
	go pace.Run(pacing)
	env.Health.AddLive("ping", func(context.Context) error { return nil })
	env.Health.AddReady("etcd", func(ctx context.Context) error { _, err := cfg.Engine.Current(ctx); return err })
	env.Health.AddReady("watch-cache", s.Healthy)
	return s.Run(ctx, listener, func() {
		env.Log.Info("serving", "address", listener.Addr().String())
		env.Ready("serving on " + listener.Addr().String())
	})
}

func (c *config) serverConfig(env *daemon.Env, set *registry.Set, services core.Config) (server.Config, error) {
	tlsConfig, err := tlsconf.Server(c.TLSCertFile, c.TLSPrivateKeyFile, c.ClientCAFile)
	if err != nil {
		return server.Config{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return server.Config{}, err
	}
	cfg := server.Config{
		Set: set, Name: fmt.Sprintf("%s-%d", strings.ToLower(host), c.SecurePort), Port: int32(c.SecurePort), ServiceIP: firstAddress(services.ServiceCIDRs[0]),
		ServiceCIDRs: services.ServiceCIDRs,
		Advertise:    c.advertise(), Limits: inflight.Limits{
			Reads: c.MaxRequestsInflight, Writes: c.MaxMutatingRequestsInflight, Watches: c.MaxWatchesInflight, Streams: c.MaxStreamsInflight,
		}, Disabled: c.DisableAdmissionPlugins,
		Metrics: env.Registry, Admin: admin(env), Version: server.Version(build()), Now: time.Now, Log: env.Log,
	}
	if c.KubeletClientCertificate != "" {
		if cfg.Kubelet, err = tlsconf.Follow(c.KubeletClientCertificate, c.KubeletClientKey, c.KubeletCertificateAuthority); err != nil {
			return server.Config{}, fmt.Errorf("credentials for kubelets: %w", err)
		}
	}
	if cfg.Identity, cfg.TLS, err = c.identity(tlsConfig, env.Log); err != nil {
		return server.Config{}, err
	}
	if c.AdmissionControlConfigFile != "" {
		if cfg.Admission, err = configfile.Read(c.AdmissionControlConfigFile); err != nil {
			return server.Config{}, fmt.Errorf("--admission-control-config-file: %w", err)
		}
	}
	if cfg.ProxyCertificate, cfg.Trust, err = c.extension(); err != nil {
		return server.Config{}, err
	}
	cfg.Tokens, err = c.tokens()
	return cfg, err
}

// tokens reads the keys of ServiceAccount tokens.
func (c *config) tokens() (authn.IssuerConfig, error) {
	out := authn.IssuerConfig{URL: c.ServiceAccountIssuer, Audiences: c.APIAudiences}
	if c.ServiceAccountSigningKeyFile == "" {
		return out, nil
	}
	pem, err := os.ReadFile(c.ServiceAccountSigningKeyFile)
	if err != nil {
		return out, fmt.Errorf("--service-account-signing-key-file: %w", err)
	}
	if out.Signer, err = authn.ParsePrivateKey(pem); err != nil {
		return out, fmt.Errorf("--service-account-signing-key-file %s: %w", c.ServiceAccountSigningKeyFile, err)
	}
	for _, path := range c.ServiceAccountKeyFiles {
		pem, err := os.ReadFile(path)
		if err != nil {
			return out, fmt.Errorf("--service-account-key-file: %w", err)
		}
		keys, err := authn.ParsePublicKeys(pem)
		if err != nil {
			return out, fmt.Errorf("--service-account-key-file %s: %w", path, err)
		}
		out.Keys = append(out.Keys, keys...)
	}
	return out, nil
}

// startedKey holds when a server last started on the store.
const startedKey = "/bareboat/started"

func (c *config) engine(ctx context.Context, env *daemon.Env) (storage.Engine, error) {
	if len(c.EtcdServers) > 0 {
		return c.etcd(ctx, env)
	}
	engine, err := sqlite.Open(ctx, sqlite.Config{Path: c.SQLiteFile, Log: env.Log})
	if err != nil {
		return nil, fmt.Errorf("--sqlite-file %s: %w", c.SQLiteFile, err)
	}
	// A store that cannot be written to is found out now, not by the first user.
	mark := storage.Op{Type: storage.Put, Key: startedKey, Value: []byte(time.Now().UTC().Format(time.RFC3339))}
	if _, err := engine.Commit(ctx, mark); err != nil {
		return nil, errors.Join(fmt.Errorf("--sqlite-file %s: %w", c.SQLiteFile, err), engine.Close())
	}
	return engine, nil
}

func (c *config) auditLog() (io.WriteCloser, error) {
	if c.AuditLogPath == "-" {
		return os.Stdout, nil
	}
	f, err := os.OpenFile(c.AuditLogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--audit-log-path: %w", err)
	}
	return f, nil
}

// admin are the process's own endpoints, for whom the server authorizes.
func admin(env *daemon.Env) map[string]http.Handler {
	h := daemon.AdminEndpoints(env)
	return map[string]http.Handler{"/healthz": h, "/healthz/": h, "/livez": h, "/livez/": h, "/readyz": h, "/readyz/": h, "/metrics": h, "/metrics/slis": h, "/debug/pprof/": h}
}

// advertise is where the cluster reaches this server.
func (c *config) advertise() string {
	if c.AdvertiseAddress != "" {
		return c.AdvertiseAddress
	}
	if ip := net.ParseIP(c.BindAddress); !ip.IsUnspecified() && !ip.IsLoopback() {
		return c.BindAddress
	}
	// The source address towards the world; connecting a UDP socket sends nothing.
	conn, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return "127.0.0.1"
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String()
}

// firstAddress is the first usable address of a network, which the Service default/kubernetes has.
func firstAddress(p netip.Prefix) string { return p.Addr().Next().String() }

// build tells the binary's commit and date.
func build() (commit, date string) {
	commit, date = "unknown", "1970-01-01T00:00:00Z"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return commit, date
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.time":
			date = s.Value
		}
	}
	return commit, date
}

// etcd connects to the members that the configuration names.
func (c *config) etcd(ctx context.Context, env *daemon.Env) (storage.Engine, error) {
	cfg := etcd.Config{Endpoints: c.EtcdServers, Log: env.Log}
	if c.EtcdCAFile != "" || c.EtcdCertFile != "" {
		tlsConfig, err := tlsconf.Client(c.EtcdCertFile, c.EtcdKeyFile, c.EtcdCAFile)
		if err != nil {
			return nil, fmt.Errorf("credentials for etcd: %w", err)
		}
		cfg.TLS = tlsConfig
	}
	engine, err := etcd.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("--etcd-servers %s: %w", strings.Join(c.EtcdServers, ","), err)
	}
	return engine, nil
}
