// Command proxy makes Services reachable on one node: it programs the kernel's packet filter from the API's services and
// endpoint slices.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"bareboat.dev/client"
	"bareboat.dev/daemon"
	"bareboat.dev/proxy/agent"
	"bareboat.dev/proxy/bridge"
	"bareboat.dev/proxy/config"
	"bareboat.dev/proxy/conntrack"
)

// stateDir keeps what --cleanup must know and the kernel does not tell.
const stateDir = "/run/bareboat/proxy"

func main() {
	cfg := config.Default()
	daemon.Main(daemon.Spec{
		Name: "proxy", Description: "makes Services reachable on this node", Config: &cfg, Flags: cfg.Flags, Validate: cfg.Validate,
		Run: func(ctx context.Context, env *daemon.Env) error {
			if os.Geteuid() != 0 {
				return errors.New("only root may change the packet filter: run the proxy as root")
			}
			if cfg.Cleanup {
				return errors.Join(cleanup(ctx, &cfg, env.Log, config.ModeIPTables, config.ModeNFTables), cleanupPolicies(ctx, env.Log), bridge.Restore(stateDir), conntrack.RestoreTimeouts(stateDir))
			}
			return run(ctx, env, &cfg)
		},
	})
}

func run(ctx context.Context, env *daemon.Env, cfg *config.Config) error {
	families, err := families(cfg, env.Log)
	if err != nil {
		return err
	}
	conn, err := client.LoadConfig(cfg.Kubeconfig, "")
	if err != nil {
		return err
	}
	conn.UserAgent = "proxy"
	c, err := client.Dial(conn)
	if err != nil {
		return err
	}
	defer c.Close()
	name, err := cfg.NodeName()
	if err != nil {
		return err
	}
	a := agent.New(c, agent.Config{
		NodeName: name, Mode: cfg.ProxyMode, Families: families, AllowExternalIPs: cfg.AllowExternalIPs, Sweep: conntrack.Sweep,
		Listen: func(port uint16) (net.Listener, error) { return net.Listen("tcp", fmt.Sprintf(":%d", port)) },
		Log:    env.Log, Registry: env.Registry,
		Ready: func() {
			// The mode may have been changed since the last run. Its rules go once ours serve, not before.
			if err := cleanup(ctx, cfg, env.Log, otherMode(cfg.ProxyMode)); err != nil {
				env.Log.Warn("rules of the other mode not removed", "error", err)
			}
			env.Ready("rules are in the kernel")
		},
	})
	env.Health.AddReady("rules", func(context.Context) error {
		if !a.Health().Alive() {
			return errors.New("changes do not reach the kernel")
		}
		return nil
	})
	if err := bridge.Ensure(stateDir); err != nil {
		env.Log.Warn("services may not answer pods of the same node", "reason", err)
	}
	timeouts := conntrack.Timeouts{TCPEstablished: cfg.ConntrackTCPTimeoutEstablished.Duration, TCPCloseWait: cfg.ConntrackTCPTimeoutCloseWait.Duration}
	if err := conntrack.SetTimeouts(stateDir, timeouts); err != nil {
		env.Log.Warn("connections are remembered for as long as the kernel likes", "reason", err)
	}
	runs := []func(context.Context) error{a.Run}
	if p := policies(c, name, cfg, env); p != nil {
		runs = append(runs, p.Run)
	}
	if addr := cfg.MetricsBindAddress; addr != "" {
		runs = append(runs, func(ctx context.Context) error { return daemon.ServeAdmin(ctx, env, addr, nil) })
	}
	if addr := cfg.HealthzBindAddress; addr != "" {
		runs = append(runs, func(ctx context.Context) error { return serve(ctx, addr, a.Health()) })
	}
	return client.RunAll(ctx, runs...)
}

// serve answers on the healthz port until ctx ends.
func serve(ctx context.Context, addr string, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("--healthz-bind-address: %w", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
