package agent

import (
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/pod"
)

// The least and the most CPU shares that the kernel takes.
const leastShares, mostShares = 2, 262144

// shareBurstable gives the class Burstable the CPU shares of its pods together, so that against Guaranteed pods, which stand beside the
// class, each has the weight that it has asked for. It is called when a pod comes, is resized, or goes: then it is no longer there, though
// its worker may go on for a while.
func (a *Agent) shareBurstable(uid types.UID, there bool) {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	if there {
		delete(a.left, uid)
	} else {
		a.left[uid] = true
	}
	sum, live := uint64(0), map[types.UID]bool{}
	for _, w := range a.all() {
		live[w.uid] = true
		if a.left[w.uid] {
			continue
		}
		w.mu.Lock()
		if p := w.grantedLocked(); !w.endedLocked() && cgroup.QoS(pod.QOSClass(&p.Spec)) == cgroup.Burstable {
			sum += a.podLimits(p).CPUShares
		}
		w.mu.Unlock()
	}
	for uid := range a.left {
		if !live[uid] {
			delete(a.left, uid)
		}
	}
	if err := a.Groups.SetQoS(cgroup.Burstable, cgroup.Resources{CPUShares: min(max(sum, leastShares), mostShares)}); err != nil {
		a.Log.Warn("the class of burstable pods did not get its CPU shares", "error", err)
	}
}
