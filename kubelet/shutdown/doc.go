// Package shutdown ends a node's pods before its host goes down (KEP-2000, KEP-2712).
//
// [Plan] is pure: it puts pods into groups by priority and gives each group its share of the time. [Watch] holds an inhibitor lock
// of systemd-logind, so that a shutdown waits, and says when one begins and when it is called off.
//
//	steps := shutdown.Plan(pods, shutdown.Simple(30*time.Second, 10*time.Second))
//	err := shutdown.Watch(ctx, bus, shutdown.Total(groups), shutdown.Handler{
//		Begin: func(ctx context.Context) { … },   // end pods, step by step
//		CallOff: func() { … },
//	})
//
// Source: https://www.freedesktop.org/wiki/Software/systemd/inhibit/ (delay locks) and
// https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/.
package shutdown
