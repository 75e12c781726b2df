// Command dns answers the names of a cluster's services and pods on one node, and forwards all others.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"

	"bareboat.dev/client"
	"bareboat.dev/daemon"
	"bareboat.dev/dns/address"
	"bareboat.dev/dns/cluster"
	"bareboat.dev/dns/config"
	"bareboat.dev/dns/forward"
	"bareboat.dev/dns/server"
	"bareboat.dev/dns/zone"
)

func main() {
	cfg := config.Default()
	daemon.Main(daemon.Spec{
		Name: "dns", Description: "answers the cluster's names on this node", Config: &cfg, Flags: cfg.Flags, Validate: cfg.Validate,
		Run: func(ctx context.Context, env *daemon.Env) error {
			if cfg.Cleanup {
				addrs, err := cfg.Addresses()
				if err != nil {
					return err
				}
				return address.Cleanup(addrs)
			}
			return run(ctx, env, &cfg)
		},
	})
}

func run(ctx context.Context, env *daemon.Env, cfg *config.Config) error {
	conn, err := client.LoadConfig(cfg.Kubeconfig, "")
	if err != nil {
		return err
	}
	conn.UserAgent = "dns"
	c, err := client.Dial(conn)
	if err != nil {
		return err
	}
	defer c.Close()
	addrs, err := cfg.Addresses()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		have, err := address.Ensure(a)
		if err != nil {
			return err
		}
		defer func() {
			if err := have.Remove(); err != nil {
				env.Log.Warn("cluster DNS address not removed", "address", a, "error", err)
			}
		}()
	}
	listen, err := cfg.Listeners()
	if err != nil {
		return err
	}
	var sockets []server.Listener
	for _, a := range listen {
		l, err := server.Listen(a)
		if err != nil {
			for _, open := range sockets {
				open.Close()
			}
			return err
		}
		sockets = append(sockets, l)
	}
	upstreams, err := upstreams(cfg)
	if err != nil {
		return err
	}
	mirror := cluster.New(c, env.Log)
	metrics := server.NewMetrics(env.Registry, cfg.Domain())
	f := forward.New(forward.Config{Upstreams: upstreams, Self: listen, Observe: metrics.Upstream}, rand.Text())
	defer f.Close()
	server.Cache(env.Registry, f)
	s := server.New(server.Config{
		Zone:   zone.Zone{Domain: cfg.Domain(), Nameservers: addrs},
		Source: mirror, Ready: mirror.Synced, Forward: f, Metrics: metrics, Log: env.Log,
	})
	env.Health.AddReady("synced", func(context.Context) error {
		if !mirror.Synced() {
			return errors.New("the cluster's names are not known yet")
		}
		return nil
	})
	runs := []func(context.Context) error{
		mirror.Run,
		func(ctx context.Context) error { return s.Serve(ctx, sockets) },
		func(ctx context.Context) error { return announce(ctx, env, mirror) },
		func(ctx context.Context) error { probe(ctx, f, env.Log); return nil },
	}
	if a := cfg.MetricsBindAddress; a != "" {
		runs = append(runs, func(ctx context.Context) error { return daemon.ServeAdmin(ctx, env, a, nil) })
	}
	return client.RunAll(ctx, runs...)
}

func upstreams(cfg *config.Config) (func() []netip.AddrPort, error) {
	servers, err := cfg.Servers()
	if err != nil || len(servers) > 0 || cfg.ResolvConf == "" {
		return forward.Fixed(servers...), err
	}
	return forward.FromResolvConf(cfg.ResolvConf), nil
}

func announce(ctx context.Context, env *daemon.Env, m *cluster.Mirror) error {
	if err := m.WaitSynced(ctx); err != nil {
		return nil // only the end of ctx ends the wait
	}
	env.Ready("answering")
	return nil
}

// probe looks once for upstream servers that lead back here.
func probe(ctx context.Context, f *forward.Forwarder, log *slog.Logger) {
	for _, s := range f.Probe(ctx) {
		log.Error("name server forwards to us what we forward to it; it is not asked", "server", s)
	}
}
