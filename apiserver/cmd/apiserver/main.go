// Command apiserver serves the Kubernetes API, over gRPC and REST on one TLS port, from an embedded SQLite file or from etcd.
package main

import (
	"context"
	"log/slog"

	"bareboat.dev/daemon"
)

func main() {
	cfg := defaults()
	daemon.Main(daemon.Spec{
		Name: "apiserver", Description: "serves the Kubernetes API over gRPC and REST", Config: cfg, Flags: cfg.flags, Validate: cfg.validate,
		Run: func(ctx context.Context, env *daemon.Env) error {
			slog.SetDefault(env.Log)
			return run(ctx, env, cfg)
		},
	})
}
