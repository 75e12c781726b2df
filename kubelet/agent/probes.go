package agent

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/probe"
)

// probeKey identifies a probe that runs.
type probeKey struct {
	kind pod.ProbeKind
	id   string
}

// syncProbesLocked makes the running probes those that a step asks for.
func (w *worker) syncProbesLocked(want []pod.Probe) {
	keep := map[probeKey]bool{}
	for _, p := range want {
		key := probeKey{p.Kind, p.ID}
		keep[key] = true
		if w.probes[key] == nil {
			ctx, cancel := context.WithCancel(w.ctx)
			w.probes[key] = cancel
			w.a.wg.Go(func() { w.probe(ctx, p) })
		}
	}
	for key, cancel := range w.probes {
		if !keep[key] {
			cancel()
			delete(w.probes, key)
		}
	}
}

// probe runs one probe until ctx ends.
func (w *worker) probe(ctx context.Context, p pod.Probe) {
	namespace, name, _ := strings.Cut(w.key, "/")
	who := probeLabels{kind: string(p.Kind), container: p.Container, pod: name, namespace: namespace, uid: string(w.uid)}
	defer w.a.metrics.forget(who)
	began := time.Time{}
	attempt := func(ctx context.Context) probe.Result {
		began = time.Now()
		view := w.snapshot()
		c := findContainer(view.pod, p.Container)
		if c == nil {
			return probe.Result{Outcome: probe.Errored, Message: "the container is not in the pod"}
		}
		return probe.Probe(ctx, p.Spec, probe.Target{Host: hostOf(view), Container: c,
			Exec: func(ctx context.Context, command []string) (string, int, error) {
				return execIn(ctx, view.sandbox, p.ID, command)
			}})
	}
	verdict := func(v pod.Verdict) {
		if ctx.Err() == nil {
			w.edit(p.ID, func(c *pod.Container) { setVerdict(c, p.Kind, v) })
		}
	}
	observe := func(r probe.Result) {
		w.a.metrics.probe(who, r.Outcome, time.Since(began))
		w.observeProbe(p, r)
	}
	probe.Run(ctx, p.Spec, p.Started, attempt, verdict, observe)
}

func setVerdict(c *pod.Container, kind pod.ProbeKind, v pod.Verdict) {
	switch kind {
	case pod.Startup:
		c.Startup = v
	case pod.Liveness:
		c.Liveness = v
	case pod.Readiness:
		c.Readiness = v
	}
}

func (w *worker) observeProbe(p pod.Probe, r probe.Result) {
	if r.Outcome == probe.Success && r.Warning == "" {
		return
	}
	view := w.snapshot()
	if r.Warning != "" {
		w.a.event(view.pod, corev1.EventTypeWarning, "ProbeWarning", p.Container, "%s probe warning: %s", p.Kind, r.Warning)
		return
	}
	if r.Outcome == probe.Errored {
		w.a.event(view.pod, corev1.EventTypeWarning, "Unhealthy", p.Container, "%s probe errored and resulted in unknown state: %s", p.Kind, r.Message)
		return
	}
	w.a.event(view.pod, corev1.EventTypeWarning, "Unhealthy", p.Container, "%s probe failed: %s", p.Kind, r.Message)
}
