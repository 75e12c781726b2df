package main

import (
	"context"
	"errors"

	"bareboat.dev/kubelet/shutdown"
)

// watchShutdown ends pods before the host goes down, until ctx ends.
func (k *kubelet) watchShutdown(ctx context.Context) error {
	groups, err := k.c.ShutdownGroups()
	if err != nil || shutdown.Total(groups) == 0 {
		return err
	}
	bus := shutdown.Bus{Address: k.c.SystemBusAddress, ConfigDir: k.c.LogindConfigDir, Log: k.env.Log}
	err = shutdown.Watch(ctx, bus, shutdown.Total(groups), shutdown.Handler{
		Begin: func(ctx context.Context) {
			k.env.Log.Warn("the host goes down")
			k.agent.RefusePods()
			k.node.Nudge()
			k.agent.ShutDown(ctx, groups)
		},
		CallOff: func() {
			k.env.Log.Info("the host's shutdown was called off")
			k.agent.CallOffShutdown()
			k.node.Nudge()
		},
	})
	if errors.Is(err, shutdown.ErrNoLogind) {
		k.env.Log.Warn("pods are not ended before the host goes down", "error", err)
		return nil
	}
	return err
}
