package agent

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/eviction"
	"bareboat.dev/kubelet/pod"
)

// systemCritical is the priority from which pods are never evicted: that of system-cluster-critical.
const systemCritical = 2000000000

// Usage is what each running pod uses. Local storage is measured for all pods if disk, and otherwise only for those that
// have a limit of it: it means walking their files.
func (a *Agent) Usage(ctx context.Context, disk bool) []eviction.Pod {
	var list []eviction.Pod
	for _, w := range a.all() {
		w.mu.Lock()
		p, sandbox := w.pod, w.sandbox
		ending := w.stop != nil || w.gone || p.DeletionTimestamp != nil || terminal(p)
		var ids []string
		for _, c := range w.seen.Containers {
			if c.State == pod.Running {
				ids = append(ids, c.ID)
			}
		}
		w.mu.Unlock()
		if ending || sandbox == nil {
			continue
		}
		u := eviction.Pod{UID: w.uid, Name: podKey(p), MemoryRequest: requests(p, corev1.ResourceMemory), DiskRequest: requests(p, corev1.ResourceEphemeralStorage)}
		if p.Spec.Priority != nil {
			u.Priority = *p.Spec.Priority
		}
		u.Critical = u.Priority >= systemCritical || w.static
		for _, id := range ids {
			if s, err := sandbox.Stats(ctx, id); err == nil {
				u.Memory += int64(s.MemoryWorkingSet)
				u.PIDs += int64(s.Pids)
			}
		}
		if disk || limitsStorage(p) {
			a.measureDisk(p, ids, &u)
		}
		list = append(list, u)
	}
	return list
}

func requests(p *corev1.Pod, name corev1.ResourceName) (sum int64) {
	for i := range p.Spec.Containers {
		q := p.Spec.Containers[i].Resources.Requests[name]
		sum += q.Value()
	}
	return sum
}

// limitsStorage says whether a pod has a limit of local storage.
func limitsStorage(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault
	}) || slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
		_, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
		return ok
	})
}

// writable measures what containers have written to their root file systems; [image.Store] does.
type writable interface {
	WritableUsage(containerID string) (bytes, inodes int64, err error)
}

// measureDisk measures a pod's local storage and compares it with its limits.
func (a *Agent) measureDisk(p *corev1.Pod, ids []string, u *eviction.Pod) {
	dirs, err := a.volumes.EmptyDirUsage(p.UID)
	if err != nil {
		return // a volume that is being removed
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.Medium != corev1.StorageMediumDefault {
			continue
		}
		used := dirs[v.Name]
		u.Disk += used
		if limit := v.EmptyDir.SizeLimit; limit != nil && limit.Sign() > 0 && used > limit.Value() {
			u.Exceeded = fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
	}
	if images, ok := a.Images.(writable); ok {
		for _, id := range ids {
			if n, _, err := images.WritableUsage(id); err == nil {
				u.Disk += n
			}
		}
	}
	u.Disk += treeSize(a.logDir(p))
	if limit, all := storageLimit(p); all && u.Disk > limit.Value() && u.Exceeded == "" {
		u.Exceeded = fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
}

// storageLimit is the sum of the containers' limits, if all have one.
func storageLimit(p *corev1.Pod) (sum resource.Quantity, all bool) {
	for i := range p.Spec.Containers {
		q, ok := p.Spec.Containers[i].Resources.Limits[corev1.ResourceEphemeralStorage]
		if !ok {
			return sum, false
		}
		sum.Add(q)
	}
	return sum, true
}

// treeSize adds up the sizes of a directory's files.
func treeSize(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// Evict ends a pod for the node's sake.
func (a *Agent) Evict(uid types.UID, message string) {
	a.withWorker(uid, func(w *worker) {
		w.mu.Lock()
		p := w.pod
		first := w.stop == nil
		w.stop = &pod.Stop{Reason: "Evicted", Message: message, Condition: &corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: message,
		}}
		w.mu.Unlock()
		if first {
			a.event(p, corev1.EventTypeWarning, "Evicted", "", "%s", message)
			a.Log.Warn("pod evicted", "pod", podKey(p), "reason", message)
		}
		w.nudge()
	})
}
