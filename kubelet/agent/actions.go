package agent

import (
	"context"
	"slices"

	"bareboat.dev/kubelet/pod"
)

// beginLocked starts an action. It is in flight until what came of it has been noted.
func (w *worker) beginLocked(act pod.Action) {
	key := act.Key()
	ctx, cancel := context.WithCancel(w.ctx)
	w.flights[key] = cancel
	w.seen.InFlight[key] = true
	w.a.wg.Go(func() {
		note := w.carryOut(ctx, act)
		cancel()
		w.mu.Lock()
		delete(w.flights, key)
		delete(w.seen.InFlight, key)
		if note != nil {
			note()
		}
		w.mu.Unlock()
		w.nudge()
	})
}

// carryOut does what an action says, and returns what is to be noted, under the lock, of how it ended.
func (w *worker) carryOut(ctx context.Context, act pod.Action) (noteLocked func()) {
	switch act.Op {
	case pod.SetupSandbox:
		return w.setupSandbox(ctx)
	case pod.TeardownSandbox:
		return w.teardownSandbox(ctx)
	case pod.MountVolumes:
		return w.mountVolumes(ctx)
	case pod.UnmountVolumes:
		return w.unmountVolumes()
	case pod.EnsureImage:
		return w.ensureImage(ctx, act)
	case pod.StartContainer:
		return w.startContainer(ctx, act)
	case pod.RunPostStart:
		return w.runPostStart(ctx, act)
	case pod.RunPreStop:
		return w.runPreStop(ctx, act)
	case pod.SignalStop:
		return w.signalStop(ctx, act)
	case pod.SignalKill:
		return w.signalKill(ctx, act)
	case pod.RemoveContainer:
		return w.removeContainer(ctx, act)
	case pod.Resize:
		return w.resize(ctx)
	}
	return nil
}

// cancelStartsLocked gives up what would only start things in a pod that ends.
func (w *worker) cancelStartsLocked() {
	for key, cancel := range w.flights {
		switch key.Op {
		case pod.EnsureImage, pod.SetupSandbox, pod.MountVolumes, pod.StartContainer, pod.RunPostStart:
			cancel()
		}
	}
}

// snapshot returns the pod with the status that containers are to see, and its sandbox.
func (w *worker) snapshot() (view podView) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.currentLocked().DeepCopy()
	w.allocated.Apply(&p.Spec)
	// What is known here may not have been reported yet.
	if ips := w.seen.Sandbox.IPs; len(ips) > 0 {
		setIPs(p, ips)
	}
	setHostIPs(p, w.a.Node.Addresses())
	return podView{pod: p, sandbox: w.sandbox, sandboxID: w.seen.Sandbox.ID, ips: slices.Clone(w.seen.Sandbox.IPs)}
}
