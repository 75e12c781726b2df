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

// unmountStray removes root file systems that no record tells of: their kubelet was killed between making one and noting it. Those of image
// volumes are known by the pods that have them.
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
		p, _, err := a.readPod(types.UID(e.Name()))
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				a.Log.Error("record of a pod cannot be read; no root file system is removed", "uid", e.Name(), "error", err)
				return
			}
			continue
		}
		for _, v := range p.Spec.Volumes {
			known[mountID(p.UID, v.Name)] = true
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

const (
	// adoptRetry is when a pod is asked again for its state; its podshim may be starved on a loaded host.
	adoptRetry = time.Second
	// adoptLimit bounds one try: the kubelet begins to serve when all have been tried. A podshim answers within a millisecond, hundreds of
	// them on a loaded host within a second.
	adoptLimit = 5 * time.Second
)

// adoptUntilDone restores the pod's state, however often it takes: a pod of which it is not known what runs must not be
// stepped. It calls tried after the first try, and returns false if the kubelet ends first.
func (w *worker) adoptUntilDone(tried func()) bool {
	for first := true; ; first = false {
		err := w.adopt()
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

// left is what an earlier kubelet left of a pod.
type left struct {
	records map[string]*record
	// id is the sandbox's; empty if there was none.
	id string
	// sandbox is set if podshim lives, dead if it has died.
	sandbox Sandbox
	dead    bool
	state   shim.State
}

// adopt restores what is observed of a pod from its records and its podshim.
func (w *worker) adopt() error {
	ctx, cancel := context.WithTimeout(w.ctx, adoptLimit)
	defer cancel()
	l, err := w.look(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records, w.seen.Containers = l.records, nil
	if err := w.restoreAllocation(); err != nil {
		return err
	}
	w.seen.Volumes.Mounted = w.a.hasVolumes(w.uid)
	if terminal(w.pod) {
		// Its last word is told; whatever is left is taken down, with nothing to observe.
		w.seen.Volumes.Mounted = true
	}
	switch {
	case l.sandbox != nil:
		return w.adoptLiveLocked(l)
	case l.dead:
		w.adoptDeadLocked(l)
	case l.id != "" || len(l.records) > 0:
		// After a restart of the host. What else there may be (network, root file systems) is taken down before there is a new one.
		w.seen.Sandbox = pod.Sandbox{State: pod.SandboxDead, ID: l.id}
	}
	return nil
}

// look finds what is left, and removes what was half made when the last kubelet was killed: nobody has been told of it. It does so without
// the worker's lock, which everybody wants, since podshim may not answer.
func (w *worker) look(ctx context.Context) (l left, err error) {
	if l.records, err = w.a.readRecords(w.uid); err != nil {
		return l, err
	}
	id, err := os.ReadFile(w.a.recordPath(w.uid, sandboxFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return l, err
	}
	l.id = strings.TrimSpace(string(id))
	s, err := w.a.Shims.Attach(ctx, w.a.stateDir(w.uid))
	switch {
	case errors.Is(err, shim.ErrNotFound):
		return l, nil
	case errors.Is(err, shim.ErrShimDead): // its exits are on disk, the rest is lost
		l.dead = true
		_, l.state, err = w.a.Shims.ReadState(w.a.stateDir(w.uid))
		return l, err
	case err != nil:
		return l, err
	}
	l.sandbox = s
	if l.state, err = s.State(ctx); err != nil {
		return l, err
	}
	return l, w.removeHalfMade(ctx, &l)
}

// removeHalfMade forgets containers that podshim has and no record, or has made and not started, and records of those that it was never
// asked for.
func (w *worker) removeHalfMade(ctx context.Context, l *left) error {
	whole := map[string]bool{}
	var kept []shim.ContainerStatus
	for _, c := range l.state.Containers {
		if l.records[c.ID] != nil && c.Phase != shim.Created {
			whole[c.ID] = true
			kept = append(kept, c)
			continue
		}
		if err := ignoreGone(l.sandbox.Delete(ctx, c.ID)); err != nil {
			return err
		}
		_ = errors.Join(w.a.Images.Unmount(ctx, c.ID), w.a.dropRecord(w.uid, c.ID))
		delete(l.records, c.ID)
	}
	l.state.Containers = kept
	for id := range l.records {
		if whole[id] {
			continue
		}
		delete(l.records, id)
		if err := errors.Join(w.a.Images.Unmount(ctx, id), w.a.dropRecord(w.uid, id)); err != nil {
			w.a.Log.Error("half-made container was not removed", "uid", w.uid, "error", err)
		}
	}
	return nil
}

// adoptLiveLocked restores a pod whose podshim lives.
func (w *worker) adoptLiveLocked(l left) error {
	w.sandbox = l.sandbox
	w.seen.Sandbox = pod.Sandbox{State: pod.SandboxReady, ID: l.id, IPs: w.a.addressesOf(w.pod, l.sandbox)}
	if len(w.seen.Sandbox.IPs) == 0 {
		// Its maker was killed before the network stood: not a sandbox to go on with.
		w.seen.Sandbox.State = pod.SandboxDead
	}
	for _, c := range l.state.Containers {
		w.adoptInstance(l.records[c.ID], c)
	}
	if _, err := os.Stat(filepath.Join(w.a.volumes.PodDir(w.uid), "etc-hosts")); err != nil && len(w.seen.Sandbox.IPs) > 0 {
		if err := w.a.writeNames(w.pod, w.seen.Sandbox.IPs); err != nil {
			return err
		}
	}
	w.refresh() // tokens are asked for anew, and what changed meanwhile is written
	w.follow(l.sandbox)
	return nil
}

// adoptDeadLocked restores a pod whose podshim has died.
func (w *worker) adoptDeadLocked(l left) {
	w.seen.Sandbox = pod.Sandbox{State: pod.SandboxDead, ID: l.id}
	for _, c := range l.state.Containers {
		if r := l.records[c.ID]; r != nil {
			if c.Phase != shim.Exited {
				c = lost(c)
				c.FinishedAt = time.Now()
			}
			w.adoptInstance(r, c)
		}
	}
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
