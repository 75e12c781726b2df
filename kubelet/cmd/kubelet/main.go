// Command kubelet runs the pods of one node. It drives podshim, one small process per pod, which outlives it: a kubelet that
// stops, by SIGTERM or otherwise, leaves containers running, and the next one goes on with them.
package main

import (
	"context"

	"bareboat.dev/daemon"
	"bareboat.dev/kubelet/config"
)

func main() {
	cfg := config.Default()
	daemon.Main(daemon.Spec{
		Name: "kubelet", Description: "runs this node's pods", Config: &cfg, Flags: cfg.Flags, Validate: cfg.Validate,
		Run: func(ctx context.Context, env *daemon.Env) error {
			if cfg.Cleanup {
				return cleanup(ctx, env, &cfg)
			}
			return run(ctx, env, &cfg)
		},
	})
}
