package agent

import (
	"context"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// addressesOf are the addresses of a pod that was adopted.
func (a *Agent) addressesOf(p *corev1.Pod, s Sandbox) []string {
	if p.Spec.HostNetwork {
		return a.Node.Addresses()
	}
	if n := a.Network.Get(); n != nil {
		if at, err := n.Get(string(p.UID)); err == nil {
			return addressStrings(at.IPs)
		}
		return nil
	}
	// The network is not known yet; the pod has kept its addresses.
	var ips []string
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	return ips
}

// sweep removes what belongs to no pod, after the first complete snapshot: directories, podshims, networks and cgroups that
// were made for a pod whose record was never written, or was lost.
func (a *Agent) sweep(have map[types.UID]bool) {
	ctx := a.ctx
	known := func(uid string) bool {
		if have[types.UID(uid)] {
			return true
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.workers[types.UID(uid)] != nil
	}
	keep := func(uid types.UID) bool { return known(string(uid)) }
	a.logSweep("devices, CPUs and memory", "", a.Shares.Retain(keep))
	if a.Claims != nil {
		a.logSweep("resource claims", "", a.Claims.Retain(keep))
	}
	a.cpusChanged()
	if dirs, err := a.Shims.List(a.StateRoot); err == nil {
		for _, dir := range dirs {
			if uid := filepath.Base(dir); !known(uid) {
				a.logSweep("podshim", uid, a.Shims.Reap(ctx, dir))
			}
		}
	}
	if groups, err := a.Groups.Pods(); err == nil {
		for uid := range groups {
			if !known(uid) {
				a.logSweep("cgroup", uid, a.Groups.RemovePod(ctx, uid))
			}
		}
	}
	entries, _ := os.ReadDir(filepath.Join(a.Root, "pods"))
	for _, e := range entries {
		if uid := e.Name(); !known(uid) {
			a.sweepDir(ctx, types.UID(uid))
		}
	}
	if n, err := a.Network.Wait(ctx); err == nil {
		a.logSweep("network", "", n.Retain(ctx, known))
	}
}

func (a *Agent) sweepDir(ctx context.Context, uid types.UID) {
	records, _ := a.readRecords(uid)
	for id := range records {
		a.logSweep("root file system", string(uid), a.Images.Unmount(ctx, id))
	}
	a.logSweep("directory", string(uid), a.removePodDir(uid))
}

func (a *Agent) logSweep(what, uid string, err error) {
	if err != nil {
		a.Log.Error("leftover of an unknown pod was not removed", "what", what, "uid", uid, "error", err)
	} else if uid != "" {
		a.Log.Info("leftover of an unknown pod removed", "what", what, "uid", uid)
	}
}
