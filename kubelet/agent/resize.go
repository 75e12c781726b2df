package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/admit"
	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/runspec"
)

// resize grants the pod what its specification asks for, if the node has it, and puts into force what is granted (KEP-1287).
func (w *worker) resize(ctx context.Context) func() {
	result := &pod.Resized{Generation: w.snapshot().pod.Generation}
	refused, err := w.grant()
	if refused != nil {
		result.Pending = failure(nil, refused.Reason, errors.New(refused.Message))
	}
	view := w.snapshot()
	live := w.resizable(view.pod)
	if err == nil && len(live) > 0 {
		err = w.applyResources(ctx, view, live)
	}
	if err != nil {
		w.a.Log.Warn("resources were not resized", "pod", podKey(view.pod), "error", err)
		w.a.event(view.pod, corev1.EventTypeWarning, "ResizeError", "", "Pod resize failed: %v", err)
		result.Failure = failure(nil, corev1.PodReasonError, err)
	}
	return func() {
		w.seen.Resized = result
		if err == nil {
			for id, name := range live {
				w.noteResized(view, id, name)
			}
		}
	}
}

// grant decides whether the pod gets what its specification asks for. Decisions follow one another: nothing is granted twice.
func (w *worker) grant() (*admit.Rejection, error) {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	_, others := w.a.neighboursLocked(w)
	w.mu.Lock()
	defer w.mu.Unlock()
	want := pod.Wanted(&w.pod.Spec)
	if want.Same(w.allocated) {
		return nil, nil
	}
	for policy, exclusive := range map[string]bool{`CPU Manager policy "static"`: w.a.CPUs.Exclusive(w.uid), `Memory Manager policy "Static"`: w.a.Memory.Exclusive(w.uid)} {
		if exclusive {
			return &admit.Rejection{Reason: corev1.PodReasonInfeasible, Message: "Resize is infeasible for Guaranteed Pods alongside " + policy}, nil
		}
	}
	if r := admit.Resize(admit.Pod{Pod: w.pod, Static: w.static}, others, w.a.node()); r != nil {
		w.a.event(w.pod, corev1.EventTypeWarning, "Resize"+r.Reason, "", "Pod resize %s: %s", r.Reason, r.Message)
		return r, nil
	}
	if err := w.saveGrant(want); err != nil {
		return nil, err
	}
	w.allocated, w.grantedFor = want, w.pod.Generation
	w.a.event(w.pod, corev1.EventTypeNormal, "ResizeStarted", "", "Pod resize started")
	return nil, nil
}

// resizable are the live containers whose resources can be changed while they run, by id. Others are started anew.
func (w *worker) resizable(p *corev1.Pod) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	live := map[string]string{}
	for _, i := range w.seen.Containers {
		c := findContainer(p, i.Name)
		if i.State != pod.Running || c == nil || i.Resources == nil {
			continue
		}
		restarts := slices.ContainsFunc(c.ResizePolicy, func(r corev1.ContainerResizePolicy) bool {
			was, is := i.Resources.Requests[r.ResourceName], c.Resources.Requests[r.ResourceName]
			wasLimit, isLimit := i.Resources.Limits[r.ResourceName], c.Resources.Limits[r.ResourceName]
			return r.RestartPolicy == corev1.RestartContainer && (was.Cmp(is) != 0 || wasLimit.Cmp(isLimit) != 0)
		})
		if !restarts {
			live[i.ID] = i.Name
		}
	}
	return live
}

// applyResources widens the pod's group before its containers' and tightens it after them, so that no moment refuses what
// both the old and the new limits allow.
func (w *worker) applyResources(ctx context.Context, view podView, live map[string]string) error {
	if view.sandbox == nil {
		return nil
	}
	limits := w.a.podLimits(view.pod)
	wide := limits
	wide.MemoryLimit, wide.CPUQuota = -1, -1
	if err := w.a.Groups.UpdatePod(string(w.uid), wide); err != nil {
		return err
	}
	var all error
	for id, name := range live {
		c := findContainer(view.pod, name)
		err := checkMemory(ctx, view.sandbox, id, c)
		if err == nil {
			err = view.sandbox.UpdateResources(ctx, id, *runspec.Resources(&c.Resources))
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("container %s: %w", name, err))
		}
	}
	err := w.a.Groups.UpdatePod(string(w.uid), limits)
	w.a.shareBurstable(w.uid, true)
	return errors.Join(all, err)
}

// checkMemory refuses a limit below what a container uses: the kernel would kill it.
func checkMemory(ctx context.Context, s Sandbox, id string, c *corev1.Container) error {
	limit := c.Resources.Limits.Memory().Value()
	if limit == 0 {
		return nil
	}
	stats, err := s.Stats(ctx, id)
	if err == nil && stats.MemoryWorkingSet > uint64(limit) {
		err = fmt.Errorf("attempting to set memory limit (%d) below current usage (%d)", limit, stats.MemoryWorkingSet)
	}
	return err
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
