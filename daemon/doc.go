// Package daemon is what makes a process a good daemon: a versioned configuration file and flags, structured logs, metrics,
// health, systemd notification, signals and exit codes.
//
// The contract of Main:
//
//   - Flags have the spelling of their Kubernetes counterparts. --config FILE reads the same settings from YAML (apiVersion
//     bareboat.dev/v1, kind <Name>Configuration), decoded strictly: unknown and duplicate fields are errors. Flags win.
//   - --validate checks flags and file and exits; --version prints the build; --log-level and --log-format shape the log.
//   - SIGTERM and SIGINT cancel Run's context; a second one ends the process at once.
//   - Under systemd (Type=notify) Env.Ready tells READY=1, the end STOPPING=1, and while the liveness checks pass
//     WATCHDOG=1 is sent twice per WatchdogSec.
//   - Exit code 0 means it ended as asked, 1 that it failed, 2 that it was called wrongly; one sentence on standard error
//     says why.
//
// A composition root:
//
//	func main() {
//		cfg := config.Default()
//		daemon.Main(daemon.Spec{
//			Name: "scheduler", Description: "assigns pods to nodes", Config: &cfg, Flags: cfg.Flags, Validate: cfg.Validate,
//			Run: func(ctx context.Context, env *daemon.Env) error { return run(ctx, env, cfg) },
//		})
//	}
package daemon
