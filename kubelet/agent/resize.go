package agent

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/runspec"
)

// resize makes live containers' limits, and the pod's, what the specification says now (KEP-1287).
func (w *worker) resize(ctx context.Context) func() {
	view := w.snapshot()
	w.mu.Lock()
	live := map[string]string{}
	for _, c := range w.seen.Containers {
		if c.State == pod.Running {
			live[c.ID] = c.Name
		}
	}
	w.mu.Unlock()
	result := &pod.Resized{Generation: view.pod.Generation}
	err := w.applyResources(ctx, view, live)
	if err != nil {
		w.a.Log.Warn("resources were not resized", "pod", podKey(view.pod), "error", err)
		result.Failure = failure(nil, corev1.PodReasonError, err)
	}
	return func() {
		w.seen.Resized = result
		if err != nil {
			return
		}
		for id, name := range live {
			w.noteResized(view, id, name)
		}
	}
}

// applyResources widens the pod's group before its containers' and tightens it after them, so that no moment refuses what
// both the old and the new limits allow.
func (w *worker) applyResources(ctx context.Context, view podView, live map[string]string) error {
	limits := runspec.PodResources(&view.pod.Spec, w.a.PidsLimit)
	wide := limits
	wide.MemoryLimit, wide.CPUQuota = -1, -1
	if err := w.a.Groups.UpdatePod(string(w.uid), wide); err != nil {
		return err
	}
	var all error
	for id, name := range live {
		c := findContainer(view.pod, name)
		if c == nil {
			continue
		}
		if err := view.sandbox.UpdateResources(ctx, id, *runspec.Resources(&c.Resources)); err != nil {
			all = errors.Join(all, fmt.Errorf("container %s: %w", name, err))
		}
	}
	return errors.Join(all, w.a.Groups.UpdatePod(string(w.uid), limits))
}

// noteResized notes what an instance has now.
func (w *worker) noteResized(view podView, id, name string) {
	c := findContainer(view.pod, name)
	if c == nil {
		return
	}
	w.editLocked(id, func(i *pod.Container) { i.Resources = c.Resources.DeepCopy() })
	if r := w.records[id]; r != nil {
		r.Resources = c.Resources.DeepCopy()
		if err := w.a.saveRecord(w.uid, r); err != nil {
			w.a.Log.Error("container record was not written", "uid", w.uid, "error", err)
		}
	}
}
