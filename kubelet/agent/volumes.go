package agent

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/pod"
)

// mountVolumes makes the pod's volumes.
func (w *worker) mountVolumes(ctx context.Context) func() {
	view := w.snapshot()
	if failed := w.prepareClaims(ctx, view.pod); failed != nil {
		return failed
	}
	err := w.a.volumes.Mount(ctx, view.pod)
	if err == nil {
		err = w.a.noteVolumes(w.uid, true)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		w.a.event(view.pod, corev1.EventTypeWarning, "FailedMount", "", "%v", err)
		w.a.Log.Warn("volumes were not mounted", "pod", podKey(view.pod), "error", err)
		return func() { w.seen.Volumes = pod.Volumes{Failure: failure(w.seen.Volumes.Failure, "FailedMount", err)} }
	}
	return func() {
		w.seen.Volumes = pod.Volumes{Mounted: true}
		w.refresh() // a change may have come in while we wrote
	}
}

// refresh asks for the pod's volumes to be brought up to date. It never waits: the mirrors of the objects in the volumes call it, and
// bringing up to date waits for those mirrors.
func (w *worker) refresh() {
	select {
	case w.stale <- struct{}{}:
	default:
	}
}

// refreshVolumes brings the pod's volumes up to date whenever that is asked for or due, until the pod's worker ends.
func (w *worker) refreshVolumes() {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.stale:
		case <-timer.C:
		}
		if !w.volumesMounted() {
			continue
		}
		view := w.snapshot()
		again, err := w.a.volumes.Refresh(w.ctx, view.pod)
		if err != nil && w.ctx.Err() == nil {
			w.a.Log.Warn("volumes were not brought up to date", "pod", podKey(view.pod), "error", err)
			again = time.Now().Add(refreshRetry)
		}
		timer.Stop()
		if !again.IsZero() {
			timer.Reset(max(time.Until(again), 0))
		}
	}
}

// volumesMounted says whether there are volumes to bring up to date, and nothing about to remove them.
func (w *worker) volumesMounted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.Volumes.Mounted && !w.seen.InFlight[pod.Key{Op: pod.UnmountVolumes}]
}

// refreshRetry is when a failed update of a volume is tried again.
const refreshRetry = 10 * time.Second

// unmountVolumes removes the pod's volumes.
func (w *worker) unmountVolumes() func() {
	err := w.a.noteVolumes(w.uid, false)
	if err == nil {
		err = w.a.volumes.Unmount(w.uid)
	}
	if err != nil {
		view := w.snapshot()
		w.a.Log.Error("volumes were not removed", "pod", podKey(view.pod), "error", err)
		return func() { w.seen.Volumes.Failure = failure(w.seen.Volumes.Failure, "FailedUnMount", err) }
	}
	return func() { w.seen.Volumes = pod.Volumes{} }
}

// removeContainer removes what is left of a dead instance, its log included.
func (w *worker) removeContainer(ctx context.Context, act pod.Action) func() {
	w.mu.Lock()
	r, s := w.records[act.ID], w.sandbox
	w.mu.Unlock()
	if r == nil {
		return func() { w.dropLocked(act.ID) }
	}
	ctx, cancel := context.WithTimeout(ctx, teardownLimit)
	defer cancel()
	var err error
	if s != nil {
		err = ignoreGone(s.Delete(ctx, act.ID))
	}
	err = errors.Join(err, w.a.Images.Unmount(ctx, act.ID), w.a.removeLog(r), w.a.dropRecord(w.uid, act.ID))
	if err != nil {
		w.a.Log.Error("dead container was not removed", "uid", w.uid, "container", r.Name, "error", err)
	}
	return func() { w.dropLocked(act.ID) }
}

func (w *worker) dropLocked(id string) {
	delete(w.records, id)
	delete(w.exits, id)
	kept := w.seen.Containers[:0:0]
	for _, c := range w.seen.Containers {
		if c.ID != id {
			kept = append(kept, c)
		}
	}
	w.seen.Containers = kept
}
