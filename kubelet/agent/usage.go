package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	helpers "k8s.io/component-helpers/resource"

	"bareboat.dev/kubelet/du"
	"bareboat.dev/kubelet/eviction"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/pod"
)

// systemCritical is the priority from which pods are never evicted: that of system-cluster-critical.
const systemCritical = 2000000000

// Usage is what each running pod uses of what the node is short of; acting is empty if it is short of nothing. Local storage is
// then measured all the same for pods that have a limit of it, and for no others: it means walking their files.
func (a *Agent) Usage(ctx context.Context, acting eviction.Signal) []eviction.Pod {
	needs := map[eviction.Signal]bool{eviction.MemoryAvailable: true, eviction.AllocatableMemory: true, eviction.PIDAvailable: true}
	stats, disk := needs[acting], acting != "" && !needs[acting]
	var list []eviction.Pod
	for _, w := range a.all() {
		w.mu.Lock()
		p, sandbox := w.pod, w.sandbox
		ending := w.stop != nil || w.gone || p.DeletionTimestamp != nil || w.endedLocked()
		var running []pod.Container
		for _, c := range w.seen.Containers {
			if c.State == pod.Running {
				running = append(running, c)
			}
		}
		granted := w.grantedLocked()
		w.mu.Unlock()
		limited := limitsStorage(p)
		if ending || sandbox == nil || acting == "" && !limited {
			continue
		}
		u := newUsage(granted, w.static)
		for _, c := range running {
			i := u.container(c.Name)
			if stats {
				if s, err := sandbox.Stats(ctx, c.ID); err == nil {
					u.Memory += int64(s.MemoryWorkingSet)
					u.PIDs += int64(s.Pids)
					u.Containers[i].Memory = int64(s.MemoryWorkingSet)
				}
			}
		}
		if disk || limited {
			a.measureDisk(p, running, &u)
		}
		list = append(list, u.Pod)
	}
	return list
}

// usage is a pod's use while it is added up.
type usage struct{ eviction.Pod }

func newUsage(p *corev1.Pod, static bool) usage {
	u := usage{eviction.Pod{UID: p.UID, Name: podKey(p)}}
	if p.Spec.Priority != nil {
		u.Priority = *p.Spec.Priority
	}
	u.Critical = u.Priority >= systemCritical || static
	requests := helpers.PodRequests(p, helpers.PodResourcesOptions{})
	u.MemoryRequest, u.DiskRequest = requests.Memory().Value(), requests.StorageEphemeral().Value()
	for i := range p.Spec.Containers {
		r := p.Spec.Containers[i].Resources.Requests
		u.Containers = append(u.Containers, eviction.Container{Name: p.Spec.Containers[i].Name, MemoryRequest: r.Memory().Value(), DiskRequest: r.StorageEphemeral().Value()})
	}
	return u
}

// container is the place of a container in the list.
func (u *usage) container(name string) int {
	for i := range u.Containers {
		if u.Containers[i].Name == name {
			return i
		}
	}
	u.Containers = append(u.Containers, eviction.Container{Name: name})
	return len(u.Containers) - 1
}

// limitsStorage says whether a pod has a limit of local storage.
func limitsStorage(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault
	}) || slices.ContainsFunc(slices.Concat(p.Spec.InitContainers, p.Spec.Containers), func(c corev1.Container) bool {
		_, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
		return ok
	})
}

// writable measures what containers have written to their root file systems; [image.Store] does.
type writable interface {
	WritableUsage(containerID string) (bytes, inodes int64, err error)
}

// measureDisk measures a pod's local storage and compares it with its limits: of each emptyDir, of each container (its root file
// system and its log), and of the pod as a whole.
func (a *Agent) measureDisk(p *corev1.Pod, running []pod.Container, u *usage) {
	dirs, err := a.volumes.EmptyDirUsage(p.UID)
	a.notMeasured(p, err)
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.Medium != corev1.StorageMediumDefault {
			continue
		}
		used := dirs[v.Name].Bytes
		u.Disk, u.Inodes = u.Disk+used, u.Inodes+dirs[v.Name].Inodes
		if limit := v.EmptyDir.SizeLimit; limit != nil && limit.Sign() > 0 && used > limit.Value() {
			u.exceed("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
	}
	images, _ := a.Images.(writable)
	for _, c := range running {
		at := u.container(c.Name)
		logs, err := du.Measure(filepath.Join(a.logDir(p), c.Name))
		a.notMeasured(p, err)
		bytes, inodes := logs.Bytes, logs.Inodes
		if images != nil {
			n, i, err := images.WritableUsage(c.ID)
			a.notMeasured(p, err)
			bytes, inodes = bytes+n, inodes+i
		}
		u.Containers[at].Disk = bytes
		u.Disk, u.Inodes = u.Disk+bytes, u.Inodes+inodes
		if spec := findContainer(p, c.Name); spec != nil {
			if limit, ok := spec.Resources.Limits[corev1.ResourceEphemeralStorage]; ok && bytes > limit.Value() {
				u.exceed("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
			}
		}
	}
	limit, ok := helpers.PodLimits(p, helpers.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	if ok && u.Disk > limit.Value() {
		u.exceed("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
}

// exceed notes the first limit that is passed.
func (u *usage) exceed(format string, args ...any) {
	if u.Exceeded == "" {
		u.Exceeded = fmt.Sprintf(format, args...)
	}
}

// CollectContainers removes what is left of dead containers but the newest of each, whose state is shown: their root file systems
// and logs.
func (a *Agent) CollectContainers() (n int) {
	for _, w := range a.all() {
		w.mu.Lock()
		last := map[string]int{}
		for _, c := range w.seen.Containers {
			last[c.Name] = max(last[c.Name], c.Attempt)
		}
		for _, c := range w.seen.Containers {
			act := pod.Action{Op: pod.RemoveContainer, Container: c.Name, ID: c.ID, Attempt: c.Attempt}
			if c.State == pod.Exited && c.Attempt < last[c.Name] && w.records[c.ID] != nil && !w.seen.InFlight[act.Key()] {
				w.beginLocked(act)
				n++
			}
		}
		w.mu.Unlock()
	}
	return n
}

// notMeasured logs why something of a pod was measured in part only; that it has gone is no reason.
func (a *Agent) notMeasured(p *corev1.Pod, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, image.ErrNotFound) {
		a.Log.Warn("a pod's storage was measured in part only", "pod", podKey(p), "error", err)
	}
}

// Evict ends a pod for the node's sake, within the given grace.
func (a *Agent) Evict(uid types.UID, message string, grace time.Duration) {
	a.withWorker(uid, func(w *worker) {
		w.mu.Lock()
		p := w.pod
		first := w.stop == nil
		w.stop = &pod.Stop{Reason: "Evicted", Message: message, Grace: grace, Condition: &corev1.PodCondition{
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
