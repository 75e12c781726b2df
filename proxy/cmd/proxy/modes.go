package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"bareboat.dev/client"
	"bareboat.dev/daemon"
	"bareboat.dev/proxy/agent"
	"bareboat.dev/proxy/config"
	"bareboat.dev/proxy/iptables"
	"bareboat.dev/proxy/nftables"
	"bareboat.dev/proxy/plan"
)

// kernelFamilies are the IP families that this kernel has; IPv6 can be switched off altogether.
func kernelFamilies() []plan.Family {
	if _, err := os.Stat("/proc/net/if_inet6"); errors.Is(err, fs.ErrNotExist) {
		return []plan.Family{plan.IPv4}
	}
	return []plan.Family{plan.IPv4, plan.IPv6}
}

// applier is what both packages of rules offer.
type applier interface {
	agent.Applier
	Cleanup(context.Context) error
}

// newApplier makes the applier of a mode.
func newApplier(mode string, family plan.Family, cfg *config.Config) (applier, error) {
	cidrs, err := cfg.ClusterCIDRs()
	if err != nil {
		return nil, err
	}
	nodePorts, err := cfg.NodePortPrefixes()
	if err != nil {
		return nil, err
	}
	if mode == config.ModeNFTables {
		return nftables.New(nftables.Config{
			Family: family, ClusterCIDRs: cidrs, NodePortAddresses: nodePorts, MasqueradeAll: cfg.MasqueradeAll,
		})
	}
	return iptables.New(iptables.Config{
		Family: family, ClusterCIDRs: cidrs, NodePortAddresses: nodePorts, MasqueradeAll: cfg.MasqueradeAll,
	})
}

// warnMissing tells what services will not have on this kernel.
func warnMissing(a agent.Applier, family plan.Family, log *slog.Logger) {
	if limited, ok := a.(interface{ Missing() []string }); ok {
		for _, what := range limited.Missing() {
			log.Warn("this kernel or its iptables lacks something; services do without it", "what", what, "family", family)
		}
	}
}

// families makes an applier for each IP family that this host can serve; IPv4 must be one of them.
func families(cfg *config.Config, log *slog.Logger) ([]agent.Family, error) {
	var out []agent.Family
	for _, f := range kernelFamilies() {
		a, err := newApplier(cfg.ProxyMode, f, cfg)
		switch {
		case err == nil:
			warnMissing(a, f, log)
			out = append(out, agent.Family{Family: f, Applier: a})
		case f == plan.IPv4:
			return nil, err
		default:
			log.Info("IPv6 services are not served on this host", "reason", err)
		}
	}
	return out, nil
}

// policies makes the enforcement of policies; nil: there is none.
func policies(c *client.Client, node string, cfg *config.Config, env *daemon.Env) *agent.Policies {
	cidrs, _ := cfg.ClusterCIDRs() // validated at the start
	out := agent.PolicyConfig{NodeName: node, Log: env.Log, Registry: env.Registry}
	for _, f := range kernelFamilies() {
		p, err := nftables.NewPolicies(f, cidrs)
		switch {
		case err != nil && cfg.NetworkPolicy:
			env.Log.Warn("network policies are not enforced", "family", f, "reason", err)
		case err != nil:
		case cfg.NetworkPolicy:
			out.Families = append(out.Families, agent.PolicyFamily{Family: f, Policer: p})
		default:
			if err := p.Cleanup(context.Background()); err != nil {
				env.Log.Warn("network policies of an earlier run not removed", "family", f, "error", err)
			}
		}
	}
	if len(out.Families) == 0 {
		return nil
	}
	return agent.NewPolicies(c, out)
}

// cleanupPolicies removes the policies' tables.
func cleanupPolicies(ctx context.Context, log *slog.Logger) error {
	var errs []error
	for _, f := range kernelFamilies() {
		p, err := nftables.NewPolicies(f, nil)
		if err != nil {
			log.Debug("nothing to remove", "family", f, "reason", err)
			continue
		}
		errs = append(errs, p.Cleanup(ctx))
	}
	return errors.Join(errs...)
}

// cleanup removes what the given modes left behind. A mode whose tools are missing cannot have left anything.
func cleanup(ctx context.Context, cfg *config.Config, log *slog.Logger, modes ...string) error {
	var errs []error
	for _, mode := range modes {
		for _, f := range kernelFamilies() {
			a, err := newApplier(mode, f, cfg)
			if err != nil {
				log.Debug("nothing to remove", "mode", mode, "family", f, "reason", err)
				continue
			}
			errs = append(errs, a.Cleanup(ctx))
			if mode == config.ModeIPTables {
				nftables.DropEmpty(f, "nat", "filter")
			}
		}
	}
	return errors.Join(errs...)
}

// otherMode is the mode that is not in use.
func otherMode(mode string) string {
	if mode == config.ModeIPTables {
		return config.ModeNFTables
	}
	return config.ModeIPTables
}
