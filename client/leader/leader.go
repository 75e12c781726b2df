// Package leader elects one of several processes by a Lease (coordination.k8s.io/v1), with the fields and meaning that
// Kubernetes' leader election gives them, so that either's tools read the other's leases.
//
// The contract: at any instant at most one process's OnStarted context is alive, provided that clocks of different machines
// advance at the same rate; they need not agree on the time. A leader stops RenewDeadline after the start of its last
// successful renewal, which is before LeaseDuration, and another takes over only when it has seen the lease unchanged for
// LeaseDuration by its own monotonic clock, or released. A lease that is released is taken at once: candidates watch it.
//
//	err := leader.Run(ctx, c, leader.Config{Name: "bareboat-scheduler", Identity: host, OnStarted: func(ctx context.Context) { loop.Run(ctx) }})
package leader

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"bareboat.dev/client"
)

// Defaults of Config. The lease is three seconds, so that a killed leader is replaced in about that time; it is renewed
// every second, and a leader that could not renew for two seconds stops, one second before anyone else may start.
const (
	DefaultNamespace     = "kube-system"
	DefaultLeaseDuration = 3 * time.Second
	DefaultRenewDeadline = 2 * time.Second
	DefaultRetryPeriod   = 1 * time.Second
)

// Config says what is elected and what the winner does.
type Config struct {
	// Name and Namespace of the Lease; the namespace defaults to kube-system.
	Name, Namespace string
	// Identity of this candidate, unique among them, e.g. "host_uuid".
	Identity string
	// LeaseDuration is how long others wait for a silent leader, in whole seconds.
	LeaseDuration time.Duration
	// RenewDeadline is how long a leader goes on without a successful renewal; less than LeaseDuration.
	RenewDeadline time.Duration
	// RetryPeriod is the time between renewals, and between attempts; less than RenewDeadline.
	RetryPeriod time.Duration
	// OnStarted runs while this process leads. Its context is cancelled when leadership is lost or Run's context ends; it
	// must then return promptly. If it returns earlier, Run gives the lease up and returns.
	OnStarted func(ctx context.Context)
	// OnNewLeader, optional, is told each new holder's identity, this process's too.
	OnNewLeader func(identity string)
	// Log is optional.
	Log *slog.Logger
}

func (cfg *Config) complete() error {
	if cfg.Name == "" || cfg.Identity == "" || cfg.OnStarted == nil {
		return errors.New("leader election: Name, Identity and OnStarted are required")
	}
	if cfg.Namespace == "" {
		cfg.Namespace = DefaultNamespace
	}
	if cfg.LeaseDuration == 0 {
		cfg.LeaseDuration = DefaultLeaseDuration
	}
	if cfg.RenewDeadline == 0 {
		cfg.RenewDeadline = cfg.LeaseDuration * 2 / 3
	}
	if cfg.RetryPeriod == 0 {
		cfg.RetryPeriod = cfg.LeaseDuration / 3
	}
	if cfg.LeaseDuration < time.Second || cfg.RenewDeadline >= cfg.LeaseDuration || cfg.RetryPeriod >= cfg.RenewDeadline {
		return errors.New("leader election: want RetryPeriod < RenewDeadline < LeaseDuration, and LeaseDuration of at least 1 s")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Run takes part in the election until ctx ends, and then gives the lease up if it holds it, so that the next leader need not
// wait. It returns nil when ctx ended, once OnStarted has returned. A process that loses the lease becomes a candidate again.
func Run(ctx context.Context, c *client.Client, cfg Config) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	return newCandidate(c, cfg).run(ctx)
}
