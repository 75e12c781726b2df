package agent

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/shutdown"
)

// What is said of pods that end because their host goes down.
const (
	shutdownReason  = "Terminated"
	shutdownMessage = "Pod was terminated in response to imminent node shutdown."
)

// RefusePods takes no pod any more: the host goes down.
func (a *Agent) RefusePods() { a.shuttingDown.Store(true) }

// ShutDown ends all pods, group by group. RefusePods must have been called. It returns when they have ended or their time is over, or when ctx
// is done: the shutdown has been called off.
func (a *Agent) ShutDown(ctx context.Context, groups []shutdown.Group) {
	a.mu.Lock()
	workers := map[types.UID]*worker{}
	var pods []shutdown.Pod
	for uid, w := range a.workers {
		w.mu.Lock()
		if !w.endedLocked() && !w.buried {
			p := shutdown.Pod{UID: uid, Grace: specGrace(w.pod)}
			if w.pod.Spec.Priority != nil {
				p.Priority = *w.pod.Spec.Priority
			}
			pods, workers[uid] = append(pods, p), w
		}
		w.mu.Unlock()
	}
	a.mu.Unlock()
	for _, step := range shutdown.Plan(pods, groups) {
		a.Log.Info("pods end since the host goes down", "pods", len(step.Pods), "within", step.Period)
		if !a.endStep(ctx, step, workers) {
			return
		}
	}
}

// endStep ends one group; false if ctx is done.
func (a *Agent) endStep(ctx context.Context, step shutdown.Step, workers map[types.UID]*worker) bool {
	for _, p := range step.Pods {
		workers[p.UID].shutDown(p.Grace)
	}
	timer := time.NewTimer(step.Period)
	defer timer.Stop()
	for _, p := range step.Pods {
		w := workers[p.UID]
		select {
		case <-w.over:
		case <-w.ctx.Done():
		case <-timer.C:
			a.Log.Warn("pods have not ended in their time", "within", step.Period)
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (w *worker) shutDown(grace time.Duration) {
	w.mu.Lock()
	if w.stop == nil {
		w.stop = &pod.Stop{Reason: shutdownReason, Message: shutdownMessage, Grace: grace, Condition: &corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: shutdownMessage,
		}}
	}
	p := w.pod
	w.mu.Unlock()
	w.a.event(p, corev1.EventTypeNormal, shutdownReason, "", "%s", shutdownMessage)
	w.nudge()
}

// CallOffShutdown takes pods again. Static pods that have ended for the shutdown start anew; others are for their controllers to replace.
func (a *Agent) CallOffShutdown() {
	a.shuttingDown.Store(false)
	for _, w := range a.all() {
		w.mu.Lock()
		ended := w.static && w.stop != nil
		w.mu.Unlock()
		if ended {
			w.setGone()
		}
	}
}

// ShuttingDown says whether the host is going down.
func (a *Agent) ShuttingDown() bool { return a.shuttingDown.Load() }
