package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/config"
	"bareboat.dev/kubelet/dirwatch"
	"bareboat.dev/kubelet/network"
	"bareboat.dev/kubelet/network/cni"
)

// networkConfig is the pod network's configuration for the node's own ranges.
func (k *kubelet) networkConfig(own []netip.Prefix) (network.Config, error) {
	cluster, err := config.Prefixes(k.c.ClusterCIDR)
	c := network.Config{PodCIDRs: own, ClusterCIDRs: cluster, StateDir: k.c.NetworkState}
	for _, s := range k.node.Addresses() {
		ip, e := netip.ParseAddr(s)
		err = errors.Join(err, e)
		c.NodeIPs = append(c.NodeIPs, ip)
	}
	return c, err
}

// startNetwork opens the pod network at once if its range is configured; otherwise the Node object will tell it. CNI plug-ins need
// none.
func (k *kubelet) startNetwork(context.Context) error {
	if k.c.NetworkPlugin != "" {
		return nil
	}
	own, err := config.Prefixes(k.c.PodCIDR)
	if err != nil || len(own) == 0 {
		return err
	}
	return k.openNetwork(own)
}

func (k *kubelet) openNetwork(own []netip.Prefix) error {
	c, err := k.networkConfig(own)
	if err != nil {
		return err
	}
	n, err := network.Open(c)
	if err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	k.network.Set(n)
	k.settle()
	return nil
}

// settle notes that it is known whether the network stands.
func (k *kubelet) settle() {
	k.settled.Store(true)
	k.node.Nudge()
}

// cniConfig is where CNI plug-ins and what they have done are.
func cniConfig(c *config.Config) cni.Config {
	return cni.Config{ConfDir: c.CNIConfDir, BinDirs: c.CNIBinDir, StateDir: filepath.Join(c.NetworkState, "cni")}
}

// watchPlugins opens the CNI network when there is a configuration, until ctx ends. Later configurations count for later pods.
func (k *kubelet) watchPlugins(ctx context.Context) error {
	if k.c.NetworkPlugin == "" {
		return nil
	}
	n, err := cni.Open(cniConfig(k.c))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(k.c.CNIConfDir, 0o755); err != nil {
		return err
	}
	w, err := k.watches.Open(k.c.CNIConfDir, dirwatch.Names|dirwatch.Written)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		err := cni.Ready(k.c.CNIConfDir)
		if err == nil {
			k.network.Set(n)
			k.settle()
			return nil
		}
		k.settle()
		select {
		case <-ctx.Done():
			return nil
		case _, there := <-w.Changed():
			if !there {
				return fmt.Errorf("the directory of CNI configurations %s was removed", k.c.CNIConfDir)
			}
		}
	}
}

// router keeps the routes to other nodes' pods, and opens the network once the Node object has a pod range.
type router struct {
	k    *kubelet
	kick chan struct{}
}

func newRouter(k *kubelet) *router { return &router{k: k, kick: make(chan struct{}, 1)} }

func (r *router) nudge() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// routeRetry is how long after a failure routes are set again; the cause (an interface that is down) is not announced.
const routeRetry = 10 * time.Second

// run follows the nodes until ctx ends.
func (r *router) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.kick:
		case <-timer.C:
		}
		if err := r.sync(ctx); err != nil && ctx.Err() == nil {
			r.k.env.Log.Warn("pod network was not brought up to date", "error", err)
			timer.Reset(routeRetry)
		}
	}
}

func (r *router) sync(ctx context.Context) error {
	if r.k.c.NetworkPlugin != "" {
		return nil // nodes reach each other's pods as the plug-ins have it
	}
	if r.k.network.Get() == nil {
		own, ok := r.k.nodes.Get("", r.k.nodeName)
		if !ok {
			return nil
		}
		if len(podCIDRs(own)) == 0 {
			r.k.settle()
			return nil
		}
		if err := r.k.openNetwork(podCIDRs(own)); err != nil {
			r.k.settle()
			return err
		}
	}
	if n, ok := r.k.network.Get().(*network.Network); ok && r.k.nodes.Synced() {
		return n.SyncRoutes(ctx, routes(r.k.nodes.List(), r.k.nodeName))
	}
	return nil
}

// podCIDRs are a node's pod ranges.
func podCIDRs(n *corev1.Node) []netip.Prefix {
	list := n.Spec.PodCIDRs
	if len(list) == 0 && n.Spec.PodCIDR != "" {
		list = []string{n.Spec.PodCIDR}
	}
	prefixes, err := config.Prefixes(list)
	if err != nil {
		return nil // the API validates them
	}
	return prefixes
}

// routes lead to the pods of all nodes but our own, by the nodes' internal addresses of the same family.
func routes(nodes []*corev1.Node, self string) []network.Route {
	var all []network.Route
	for _, n := range nodes {
		if n.Name == self {
			continue
		}
		for _, p := range podCIDRs(n) {
			if gateway, ok := internalIP(n, p.Addr().Is4()); ok {
				all = append(all, network.Route{Destination: p, Gateway: gateway})
			}
		}
	}
	return all
}

func internalIP(n *corev1.Node, v4 bool) (netip.Addr, bool) {
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() == v4 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}
