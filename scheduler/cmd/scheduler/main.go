// Command scheduler assigns pods to nodes.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"os"

	"bareboat.dev/client"
	"bareboat.dev/client/events"
	"bareboat.dev/client/leader"
	"bareboat.dev/daemon"
	"bareboat.dev/daemon/tlsconf"
	"bareboat.dev/scheduler/config"
	"bareboat.dev/scheduler/loop"
)

func main() {
	cfg := config.Default()
	daemon.Main(daemon.Spec{
		Name: "scheduler", Description: "assigns pods to nodes", Config: cfg, Flags: cfg.Flags, Validate: cfg.Validate,
		Run: func(ctx context.Context, env *daemon.Env) error { return run(ctx, env, cfg) },
	})
}

func run(ctx context.Context, env *daemon.Env, cfg *config.Config) error {
	api, err := client.LoadConfig(cfg.Kubeconfig, "")
	if err != nil {
		return err
	}
	api.UserAgent = "kube-scheduler"
	c, err := client.Dial(api)
	if err != nil {
		return err
	}
	defer c.Close()
	serving, err := servingTLS(cfg)
	if err != nil {
		return err
	}
	recorder := events.NewRecorder(c, cfg.SchedulerName, "")
	recorder.SetLog(env.Log)
	metrics := loop.NewMetrics()
	metrics.Register(env.Registry)
	s := loop.New(loop.Config{Client: c, Name: cfg.SchedulerName, Events: recorder, Metrics: metrics, Log: env.Log})
	env.Health.AddLive("deciding", s.Alive)
	env.Health.AddReady("synced", func(context.Context) error {
		if !s.Synced() {
			return errors.New("nodes and pods not known yet")
		}
		return nil
	})
	env.Ready("running")
	return client.RunAll(ctx,
		s.Run,
		func(ctx context.Context) error { return lead(ctx, c, s, env, cfg) },
		func(ctx context.Context) error { return daemon.ServeAdmin(ctx, env, cfg.Address(), serving) },
	)
}

// lead lets the scheduler decide: always, or while it holds the lease.
func lead(ctx context.Context, c *client.Client, s *loop.Scheduler, env *daemon.Env, cfg *config.Config) error {
	le := cfg.LeaderElection
	if !le.LeaderElect {
		s.Lead(ctx)
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	return leader.Run(ctx, c, leader.Config{
		Name: le.ResourceName, Namespace: le.ResourceNamespace, Identity: host + "_" + rand.Text(), Log: env.Log, OnStarted: s.Lead,
		LeaseDuration: le.LeaseDuration.Duration, RenewDeadline: le.RenewDeadline.Duration, RetryPeriod: le.RetryPeriod.Duration,
	})
}

func servingTLS(cfg *config.Config) (*tls.Config, error) {
	if cfg.TLSCertFile == "" {
		return nil, nil
	}
	return tlsconf.Server(cfg.TLSCertFile, cfg.TLSPrivateKeyFile, cfg.ClientCAFile)
}
