package agent

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/pod"
)

// cpuRetry is the pause after a container's set of CPUs could not be changed.
const cpuRetry = 5 * time.Second

func (a *Agent) cpusChanged() {
	if !a.CPUs.Active() {
		return
	}
	select {
	case a.cpuKick <- struct{}{}:
	default:
	}
}

// shareCPUs keeps running containers on the CPUs that they may have: those that have none of their own share what others leave. It
// returns when ctx ends.
func (a *Agent) shareCPUs(ctx context.Context) error {
	if !a.CPUs.Active() {
		return nil
	}
	if err := a.WaitAdopted(ctx); err != nil {
		return nil // only the end of ctx ends the wait
	}
	in := map[string]string{} // what each container is known to have
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.cpuKick:
		case <-timer.C:
		}
		if err := a.applyCPUs(ctx, in); err != nil && ctx.Err() == nil {
			a.Log.Warn("containers were not moved to the CPUs that they share", "error", err)
			timer.Reset(cpuRetry)
		}
	}
}

// applyCPUs changes the sets of the containers whose set is another than in says.
func (a *Agent) applyCPUs(ctx context.Context, in map[string]string) error {
	var all error
	running := map[string]bool{}
	for _, w := range a.all() {
		w.mu.Lock()
		sandbox, live := w.sandbox, map[string]string{}
		for _, c := range w.seen.Containers {
			if c.State == pod.Running && sandbox != nil {
				live[c.ID] = c.Name
			}
		}
		w.mu.Unlock()
		for id, name := range live {
			running[id] = true
			want := a.CPUs.CPUSet(w.uid, name)
			if in[id] == want {
				continue
			}
			err := ignoreGone(sandbox.UpdateResources(ctx, id, specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: want}}))
			if all = errors.Join(all, err); err == nil {
				in[id] = want
			}
		}
	}
	for id := range in {
		if !running[id] {
			delete(in, id)
		}
	}
	return all
}

// confine puts a new container on its CPUs, and its memory on its NUMA nodes.
func (a *Agent) confine(spec *specs.Spec, uid types.UID, container string) {
	cpus, mems := a.CPUs.CPUSet(uid, container), a.Memory.NodeSet(uid, container)
	if cpus == "" && mems == "" {
		return
	}
	if spec.Linux.Resources.CPU == nil {
		spec.Linux.Resources.CPU = &specs.LinuxCPU{}
	}
	spec.Linux.Resources.CPU.Cpus, spec.Linux.Resources.CPU.Mems = cpus, mems
}
