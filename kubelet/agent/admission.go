package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/admit"
	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/topology"
)

// admitLocked ends a pod before it begins if the node does not take it, and ends others before it begins if they make room for it.
func (a *Agent) admitLocked(w *worker, p *corev1.Pod) {
	neighbours, others := a.neighboursLocked(w)
	v := admit.Admit(admit.Pod{Pod: p, Static: w.static}, others, a.node(), func() *admit.Rejection { return a.reserve(p) })
	for _, i := range v.Preempted {
		a.preemptLocked(w, neighbours[i])
	}
	r := v.Rejection
	if r == nil {
		a.cpusChanged()
		return
	}
	if err := a.Shares.Release(p.UID); err != nil {
		a.Log.Error("devices, CPUs and memory of a pod were not noted as free", "pod", podKey(p), "error", err)
	}
	w.stop = &pod.Stop{Reason: r.Reason, Message: r.Message}
	a.event(p, corev1.EventTypeWarning, r.Reason, "", "%s", strings.TrimPrefix(r.Message, "Pod was rejected: "))
	a.Log.Warn("pod rejected", "pod", podKey(p), "reason", r.Reason, "message", r.Message)
}

// reserve chooses what a pod gets for itself alone: devices, CPUs and memory.
func (a *Agent) reserve(p *corev1.Pod) *admit.Rejection {
	var r *topology.Refusal
	switch err := a.Shares.Reserve(p); {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return &admit.Rejection{Reason: r.Reason, Message: r.Message}
	default:
		return &admit.Rejection{Reason: "UnexpectedAdmissionError", Message: err.Error()}
	}
}

// node is what pods are held against.
func (a *Agent) node() admit.Node {
	return admit.Node{
		Allocatable: a.Node.Allocatable(), Object: a.Node.Object(), Pressure: a.Node.Pressure(), ShuttingDown: a.shuttingDown.Load(),
		AppArmor: a.AppArmor, UnsafeSysctls: a.UnsafeSysctls,
	}
}

// neighboursLocked are the pods beside one that are not terminal, with what they have been granted.
func (a *Agent) neighboursLocked(of *worker) (workers []*worker, pods []admit.Pod) {
	for _, o := range a.workers {
		if o == of {
			continue
		}
		o.mu.Lock()
		if !o.gone && !o.endedLocked() {
			workers, pods = append(workers, o), append(pods, admit.Pod{Pod: o.grantedLocked(), Static: o.static})
		}
		o.mu.Unlock()
	}
	return workers, pods
}

// ActivePods are the node's pods that have not ended.
func (a *Agent) ActivePods() []*corev1.Pod {
	var all []*corev1.Pod
	for _, w := range a.all() {
		w.mu.Lock()
		if !w.endedLocked() {
			all = append(all, w.pod)
		}
		w.mu.Unlock()
	}
	slices.SortFunc(all, func(x, y *corev1.Pod) int { return strings.Compare(podKey(x), podKey(y)) })
	return all
}

// endedLocked says whether the pod's phase is final, by the API's word or ours.
func (w *worker) endedLocked() bool {
	return terminal(w.pod) || w.status != nil && (w.status.Phase == corev1.PodSucceeded || w.status.Phase == corev1.PodFailed)
}

// grantedLocked is the pod with the resources that it has been granted.
func (w *worker) grantedLocked() *corev1.Pod {
	if w.grantedFor == w.pod.Generation || w.allocated.Same(pod.Wanted(&w.pod.Spec)) {
		return w.pod
	}
	p := *w.pod
	p.Spec = *w.pod.Spec.DeepCopy()
	w.allocated.Apply(&p.Spec)
	return &p
}

// preemptLocked ends a pod so that another can begin.
func (a *Agent) preemptLocked(by, victim *worker) {
	const message = "Preempted in order to admit critical pod"
	by.after = append(by.after, victim)
	victim.mu.Lock()
	if victim.stop == nil {
		victim.stop = &pod.Stop{Reason: "Preempting", Message: message, Grace: specGrace(victim.pod), Condition: &corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet,
			Message: "Pod was preempted by Kubelet to accommodate a critical pod.",
		}}
	}
	p := victim.pod
	victim.mu.Unlock()
	a.event(p, corev1.EventTypeWarning, "Preempting", "", "%s", message)
	a.Log.Warn("pod preempted", "pod", podKey(p), "by", podKey(by.pod))
	victim.nudge()
}

// awaitRoom waits until the pods that make room for this one have ended; false if the worker ends first.
func (w *worker) awaitRoom() bool {
	for _, victim := range w.after {
		select {
		case <-victim.over:
		case <-victim.ctx.Done():
		case <-w.ctx.Done():
			return false
		}
	}
	return true
}

// overLocked notes that nothing of the pod runs any more.
func (w *worker) overLocked() {
	select {
	case <-w.over:
		return
	default:
	}
	close(w.over)
	// Before anybody is told that the pod has ended: what takes its place may ask for its devices.
	if err := errors.Join(w.a.Shares.Release(w.uid), w.a.releaseClaims(w.uid)); err != nil {
		w.a.Log.Error("devices, CPUs and memory of a pod were not noted as free", "uid", w.uid, "error", err)
	}
	w.a.cpusChanged()
	w.a.wg.Go(func() {
		w.a.mu.Lock()
		defer w.a.mu.Unlock()
		w.a.reconsiderLocked()
	})
}

// reconsiderLocked has resizes tried again that wait for others to let go of something.
func (a *Agent) reconsiderLocked() {
	for _, w := range a.workers {
		w.mu.Lock()
		r := w.seen.Resized
		waits := r != nil && r.Pending != nil && r.Pending.Reason == corev1.PodReasonDeferred
		if waits {
			w.seen.Resized = nil
		}
		w.mu.Unlock()
		if waits {
			w.nudge()
		}
	}
}

// saveGrant writes what the pod has been granted to disk.
func (w *worker) saveGrant(grant pod.Allocation) error {
	data, err := json.Marshal(grant)
	if err != nil {
		return err
	}
	return writeFile(w.a.recordPath(w.uid, grantFile), data, 0o600)
}

// restoreAllocation finds out what an earlier kubelet granted the pod: its specification may have changed since.
func (w *worker) restoreAllocation() error {
	w.grantedFor = 0
	data, err := os.ReadFile(w.a.recordPath(w.uid, grantFile))
	if err == nil {
		return json.Unmarshal(data, &w.allocated)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	attempts := map[string]int{}
	for _, r := range w.records {
		if last, ok := attempts[r.Name]; r.Resources != nil && (!ok || r.Attempt > last) {
			if _, known := w.allocated.Containers[r.Name]; known {
				w.allocated.Containers[r.Name], attempts[r.Name] = *r.Resources.DeepCopy(), r.Attempt
			}
		}
	}
	return nil
}
