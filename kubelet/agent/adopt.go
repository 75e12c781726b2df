package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/shim"
)

// adopt takes over the pods that an earlier kubelet ran on this node: those that have a directory. Their workers run at
// once, on what is on disk; the mirror will say later what has changed.
func (a *Agent) adopt(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(a.Root, "pods"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the pods of an earlier run: %w", err)
	}
	a.unmountStray(ctx, entries)
	var tried sync.WaitGroup
	for _, e := range entries {
		uid := types.UID(e.Name())
		p, static, err := a.readPod(uid)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				a.Log.Warn("record of a pod cannot be read; it waits for the API", "uid", uid, "error", err)
			}
			continue // whatever it is, the sweep after the first snapshot decides
		}
		a.mu.Lock()
		w := newWorker(a, p)
		w.status, w.static = p.Status.DeepCopy(), static
		a.workers[uid] = w
		a.mu.Unlock()
		tried.Add(1)
		a.wg.Go(func() {
			if w.adoptUntilDone(tried.Done) {
				w.run()
			}
		})
	}
	a.wg.Go(func() {
		tried.Wait()
		close(a.adopted)
	})
	return nil
}

// unmountStray removes root file systems that no record tells of: their kubelet was killed between making one and noting it.
func (a *Agent) unmountStray(ctx context.Context, pods []os.DirEntry) {
	lister, ok := a.Images.(interface{ Mounts() ([]string, error) })
	if !ok {
		return
	}
	known := map[string]bool{}
	for _, e := range pods {
		records, err := a.readRecords(types.UID(e.Name()))
		if err != nil {
			a.Log.Error("records of a pod cannot be read; no root file system is removed", "uid", e.Name(), "error", err)
			return
		}
		for id := range records {
			known[id] = true
		}
	}
	ids, err := lister.Mounts()
	for _, id := range ids {
		if !known[id] {
			err = errors.Join(err, a.Images.Unmount(ctx, id))
		}
	}
	if err != nil {
		a.Log.Error("stray root file systems were not removed", "error", err)
	}
}

// adoptRetry is when a pod is asked again for its state; its podshim may be starved on a loaded host.
const adoptRetry = time.Second

// adoptUntilDone restores the pod's state, however often it takes: a pod of which it is not known what runs must not be
// stepped. It calls tried after the first try, and returns false if the kubelet ends first.
func (w *worker) adoptUntilDone(tried func()) bool {
	for first := true; ; first = false {
		w.mu.Lock()
		err := w.adopt(w.ctx)
		w.mu.Unlock()
		if first {
			tried()
		}
		if w.ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		w.a.Log.Error("pod was not adopted; trying again", "pod", podKey(w.pod), "error", err)
		timer := time.NewTimer(adoptRetry)
		select {
		case <-timer.C:
		case <-w.ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// WaitAdopted waits until every pod of an earlier run has been tried to adopt: from then on requests find their containers.
func (a *Agent) WaitAdopted(ctx context.Context) error {
	select {
	case <-a.adopted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// adopt restores what is observed of a pod from its records and its podshim. The lock is held; nobody else has seen the
// worker's state yet.
func (w *worker) adopt(ctx context.Context) error {
	records, err := w.a.readRecords(w.uid)
	if err != nil {
		return err
	}
	id, err := os.ReadFile(w.a.recordPath(w.uid, sandboxFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	w.records, w.seen.Containers = records, nil
	if err := w.restoreAllocation(); err != nil {
		return err
	}
	w.seen.Volumes.Mounted = w.a.hasVolumes(w.uid)
	if terminal(w.pod) {
		// Its last word is told; whatever is left is taken down, with nothing to observe.
		w.seen.Volumes.Mounted = true
	}
	s, err := w.a.Shims.Attach(ctx, w.a.stateDir(w.uid))
	switch {
	case err == nil:
		return w.adoptLive(ctx, s, strings.TrimSpace(string(id)))
	case errors.Is(err, shim.ErrShimDead):
		return w.adoptDead(strings.TrimSpace(string(id)))
	case errors.Is(err, shim.ErrNotFound):
		return w.adoptNone(strings.TrimSpace(string(id)))
	}
	return err
}

// adoptLive restores a pod whose podshim lives.
func (w *worker) adoptLive(ctx context.Context, s Sandbox, id string) error {
	state, err := s.State(ctx)
	if err != nil {
		return err
	}
	w.sandbox = s
	w.seen.Sandbox = pod.Sandbox{State: pod.SandboxReady, ID: id, IPs: w.a.addressesOf(w.pod, s)}
	if len(w.seen.Sandbox.IPs) == 0 {
		// Its maker was killed before the network stood: not a sandbox to go on with.
		w.seen.Sandbox.State = pod.SandboxDead
	}
	for _, c := range state.Containers {
		r := w.records[c.ID]
		if r == nil || c.Phase == shim.Created {
			// Half made when the last kubelet was killed: nobody has been told of it.
			if err := ignoreGone(s.Delete(ctx, c.ID)); err != nil {
				return err
			}
			delete(w.records, c.ID)
			_ = errors.Join(w.a.Images.Unmount(ctx, c.ID), w.a.dropRecord(w.uid, c.ID))
			continue
		}
		w.adoptInstance(r, c)
	}
	w.dropUnknown(ctx)
	if _, err := os.Stat(filepath.Join(w.a.volumes.PodDir(w.uid), "etc-hosts")); err != nil && len(w.seen.Sandbox.IPs) > 0 {
		if err := w.a.writeNames(w.pod, w.seen.Sandbox.IPs); err != nil {
			return err
		}
	}
	w.refresh() // tokens are asked for anew, and what changed meanwhile is written
	w.follow(s)
	return nil
}

// adoptDead restores a pod whose podshim has died: its exits are on disk, the rest is lost.
func (w *worker) adoptDead(id string) error {
	_, state, err := w.a.Shims.ReadState(w.a.stateDir(w.uid))
	w.seen.Sandbox = pod.Sandbox{State: pod.SandboxDead, ID: id}
	for _, c := range state.Containers {
		if r := w.records[c.ID]; r != nil {
			if c.Phase != shim.Exited {
				c = lost(c)
				c.FinishedAt = time.Now()
			}
			w.adoptInstance(r, c)
		}
	}
	return err
}

// adoptNone restores a pod without a sandbox: after a restart of the host, or before it had one. What else there may be of
// one (network, root file systems) is taken down before there is a new one.
func (w *worker) adoptNone(id string) error {
	if id != "" || len(w.records) > 0 {
		w.seen.Sandbox = pod.Sandbox{State: pod.SandboxDead, ID: id}
	}
	return nil
}

func (w *worker) adoptInstance(r *record, c shim.ContainerStatus) {
	i := w.a.instance(r, c)
	i.State = pod.Running
	if spec := findContainer(w.pod, r.Name); spec != nil && spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil && reportedRunning(w, r) {
		i.PostStart = pod.HookDone
	}
	if c.Phase == shim.Exited {
		w.exits[r.ID] = c
		noteExit(&i, c, w.a.terminationMessage(findContainer(w.pod, r.Name), r, c))
	}
	w.seen.Containers = append(w.seen.Containers, i)
}

// reportedRunning says whether the last status showed the instance as running, which it does not before its postStart hook
// has succeeded.
func reportedRunning(w *worker, r *record) bool {
	for _, s := range w.pod.Status.ContainerStatuses {
		if s.Name == r.Name && s.State.Running != nil && s.ContainerID == pod.IDScheme+r.ID {
			return true
		}
	}
	return false
}

// dropUnknown forgets records of instances that podshim has never heard of: it was not asked before the kubelet died.
func (w *worker) dropUnknown(ctx context.Context) {
	known := map[string]bool{}
	for _, c := range w.seen.Containers {
		known[c.ID] = true
	}
	for id := range w.records {
		if !known[id] {
			delete(w.records, id)
			if err := errors.Join(w.a.Images.Unmount(ctx, id), w.a.dropRecord(w.uid, id)); err != nil {
				w.a.Log.Error("half-made container was not removed", "uid", w.uid, "error", err)
			}
		}
	}
}

// hasVolumes says whether all of the pod's volumes are mounted: their mounting was noted since the host was started, for what is
// mounted does not outlast that.
func (a *Agent) hasVolumes(uid types.UID) bool {
	data, err := os.ReadFile(a.recordPath(uid, volumesFile))
	return err == nil && string(data) == bootID()
}

// noteVolumes notes that all of the pod's volumes are mounted, or that they may no longer be.
func (a *Agent) noteVolumes(uid types.UID, mounted bool) error {
	if mounted {
		return writeFile(a.recordPath(uid, volumesFile), []byte(bootID()), 0o600)
	}
	err := os.Remove(a.recordPath(uid, volumesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// bootID tells one start of the host from the next (random(4)).
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}
