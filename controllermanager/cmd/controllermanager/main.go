// Command controllermanager runs the controllers: the loops that make what is follow what was asked for.
package main

import (
	"context"
	"crypto/tls"
	"os"
	"sync/atomic"
	// CronJobs name time zones; a bare machine may have no database of them.
	_ "time/tzdata"

	"k8s.io/apimachinery/pkg/util/uuid"

	"bareboat.dev/client"
	"bareboat.dev/client/rest"
	"bareboat.dev/controllermanager/config"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/manager"
	"bareboat.dev/daemon"
	"bareboat.dev/daemon/tlsconf"
)

func main() {
	cfg := config.Default()
	daemon.Main(daemon.Spec{
		Name: "controllermanager", Description: "runs the controllers", Config: &cfg, Flags: cfg.Flags, Validate: cfg.Validate,
		Run: func(ctx context.Context, env *daemon.Env) error { return run(ctx, env, &cfg) },
	})
}

func run(ctx context.Context, env *daemon.Env, cfg *config.Config) error {
	conn, err := client.LoadConfig(cfg.Kubeconfig, "")
	if err != nil {
		return err
	}
	conn.UserAgent = "controllermanager"
	rootCA, err := cfg.RootCA(conn.CAData, conn.CAFile)
	if err != nil {
		return err
	}
	c, err := client.Dial(conn)
	if err != nil {
		return err
	}
	defer c.Close()
	paths, err := rest.New(conn)
	if err != nil {
		return err
	}
	defer paths.Close()
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	serving, err := servingTLS(cfg)
	if err != nil {
		return err
	}
	var leading atomic.Bool
	env.Registry.MustRegister(engine.LeadingMetric(manager.LeaseName, &leading))
	options := manager.Options{
		Client: c, Paths: paths, Config: cfg, RootCA: rootCA, Identity: host + "_" + string(uuid.NewUUID()), Log: env.Log, Metrics: engine.NewMetrics(env.Registry),
		Leading: func(is bool) {
			leading.Store(is)
			if is {
				env.Ready("acting")
			} else if ctx.Err() == nil {
				env.Ready("standing by")
			}
		},
	}
	// A candidate that stands by does all that it is asked to.
	env.Ready("standing by")
	return client.RunAll(ctx,
		func(ctx context.Context) error { return manager.Run(ctx, options) },
		func(ctx context.Context) error {
			return daemon.ServeAdmin(ctx, env, cfg.AdminAddress(), serving)
		},
	)
}

func servingTLS(cfg *config.Config) (*tls.Config, error) {
	if cfg.TLSCertFile == "" {
		return nil, nil
	}
	return tlsconf.Server(cfg.TLSCertFile, cfg.TLSPrivateKeyFile, cfg.ClientCAFile)
}
