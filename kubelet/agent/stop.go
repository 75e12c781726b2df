package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/probe"
	"bareboat.dev/kubelet/shim"
)

// ignoreGone drops errors that say that there is nothing left to act on.
func ignoreGone(err error) error {
	if errors.Is(err, shim.ErrNotFound) || errors.Is(err, shim.ErrNotRunning) || errors.Is(err, shim.ErrShimDead) {
		return nil
	}
	return err
}

// signalStop sends an instance its stop signal.
func (w *worker) signalStop(ctx context.Context, act pod.Action) func() {
	w.mu.Lock()
	r, s := w.records[act.ID], w.sandbox
	w.mu.Unlock()
	if s == nil {
		return nil
	}
	name := ""
	if r != nil {
		name = r.StopSignal
	}
	if err := ignoreGone(s.Signal(ctx, act.ID, parseSignal(name))); err != nil && ctx.Err() == nil {
		w.a.Log.Error("stop signal was not sent", "uid", w.uid, "container", act.Container, "error", err)
	}
	return nil
}

// parseSignal reads a signal as images and the API name it; SIGTERM if there is none.
func parseSignal(name string) syscall.Signal {
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		return syscall.Signal(n)
	}
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	if after, ok := strings.CutPrefix(upper, "SIGRTMIN"); ok {
		const rtmin = 34 // the first that the C library leaves to programs
		n, _ := strconv.Atoi(strings.TrimPrefix(after, "+"))
		return syscall.Signal(rtmin + n)
	}
	if n := unix.SignalNum(upper); n != 0 {
		return n
	}
	return unix.SIGTERM
}

// signalName is a stop signal as the API names it; empty for one that has no name.
func signalName(name string) string {
	sig := parseSignal(name)
	const rtmin, rtmax = 34, 64
	switch {
	case sig == rtmin:
		return "SIGRTMIN"
	case sig == rtmax:
		return "SIGRTMAX"
	case sig > rtmin && sig < rtmax:
		return fmt.Sprintf("SIGRTMIN+%d", sig-rtmin)
	}
	return unix.SignalName(sig)
}

// signalKill kills an instance.
func (w *worker) signalKill(ctx context.Context, act pod.Action) func() {
	w.mu.Lock()
	s := w.sandbox
	created := false
	w.editLocked(act.ID, func(c *pod.Container) { created = c.State == pod.Created })
	w.mu.Unlock()
	if s == nil {
		return nil
	}
	if created {
		err := ignoreGone(s.Delete(ctx, act.ID))
		if err != nil {
			w.a.Log.Error("container was not removed", "uid", w.uid, "container", act.Container, "error", err)
			return nil
		}
		return func() {
			w.editLocked(act.ID, func(c *pod.Container) { c.State, c.ExitCode, c.FinishedAt = pod.Exited, exitLost, time.Now() })
		}
	}
	if err := ignoreGone(s.Kill(ctx, act.ID)); err != nil && ctx.Err() == nil {
		w.a.Log.Error("container was not killed", "uid", w.uid, "container", act.Container, "error", err)
	}
	return nil
}

// runPostStart runs an instance's postStart hook.
func (w *worker) runPostStart(ctx context.Context, act pod.Action) func() {
	view := w.snapshot()
	c := findContainer(view.pod, act.Container)
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	err := w.hook(ctx, view, c, act.ID, c.Lifecycle.PostStart)
	if err != nil {
		if w.ctx.Err() != nil || ctx.Err() != nil {
			return nil
		}
		w.a.event(view.pod, corev1.EventTypeWarning, "FailedPostStartHook", c.Name, "PostStartHook failed")
		w.a.Log.Warn("postStart hook failed", "pod", podKey(view.pod), "container", c.Name, "error", err)
		return func() {
			w.editLocked(act.ID, func(i *pod.Container) { i.PostStart, i.PostStartMessage = pod.HookFailed, err.Error() })
		}
	}
	return func() {
		w.editLocked(act.ID, func(i *pod.Container) { i.PostStart = pod.HookDone })
		if r := w.records[act.ID]; r != nil {
			r.PostStart = true
			if err := w.a.saveRecord(w.uid, r); err != nil {
				w.a.Log.Error("container record was not written", "uid", w.uid, "error", err)
			}
		}
	}
}

// runPreStop runs an instance's preStop hook. That it takes too long is the machine's to notice.
func (w *worker) runPreStop(ctx context.Context, act pod.Action) func() {
	view := w.snapshot()
	c := findContainer(view.pod, act.Container)
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return nil
	}
	state := pod.HookDone
	if err := w.hook(ctx, view, c, act.ID, c.Lifecycle.PreStop); err != nil && w.ctx.Err() == nil {
		state = pod.HookFailed
		w.a.event(view.pod, corev1.EventTypeWarning, "FailedPreStopHook", c.Name, "PreStopHook failed")
		w.a.Log.Warn("preStop hook failed", "pod", podKey(view.pod), "container", c.Name, "error", err)
	}
	return func() { w.editLocked(act.ID, func(i *pod.Container) { i.PreStop = state }) }
}

// hook runs a lifecycle handler, until the container exits at the latest.
func (w *worker) hook(ctx context.Context, view podView, c *corev1.Container, id string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		out, code, err := execIn(ctx, view.sandbox, id, h.Exec.Command)
		if err == nil && code != 0 {
			err = fmt.Errorf("command %q exited with %d: %s", strings.Join(h.Exec.Command, " "), code, out)
		}
		return err
	case h.HTTPGet != nil:
		return probe.Do(ctx, h.HTTPGet, hostOf(view), c)
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the hook has no handler")
}

// hostOf is the address at which the pod is reached from its node.
func hostOf(view podView) string {
	if len(view.ips) > 0 {
		return view.ips[0]
	}
	return view.pod.Status.PodIP
}

// execOutputLimit is how much output of probes and hooks is kept.
const execOutputLimit = 10 << 10

// execIn runs a command in a container and returns the beginning of what it wrote.
func execIn(ctx context.Context, s Sandbox, id string, command []string) (string, int, error) {
	if s == nil {
		return "", 0, shim.ErrShimDead
	}
	out := &limitedBuffer{}
	exit, err := s.Exec(ctx, id, shim.ExecConfig{Args: command}, shim.Stdio{Stdout: out, Stderr: out}, nil)
	if errors.Is(err, shim.ErrStart) {
		return err.Error(), exitStartError - 1, nil // 127: command not found, as a shell has it
	}
	return out.String(), int(exit.Code), err
}
