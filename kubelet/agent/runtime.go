package agent

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/runspec"
)

// RuntimeHandler is the one handler that RuntimeClasses can name here: containers are made by podshim with runc's library.
const RuntimeHandler = "runc"

// checkRuntime finds out whether this node has the runtime that a RuntimeClass means (KEP-585).
func (a *Agent) checkRuntime(ctx context.Context, name string) error {
	class, err := client.Of(a.Client, client.RuntimeClasses()).Get(ctx, "", name)
	if err != nil {
		return fmt.Errorf("failed to get RuntimeClass %q: %w", name, err)
	}
	if class.Handler != RuntimeHandler {
		return fmt.Errorf("failed to get sandbox runtime: no runtime for %q is configured", class.Handler)
	}
	return nil
}

// podLimits are the limits of a pod's group: its containers' or its own, and the overhead of its sandbox (KEP-688), which needs
// its share beside them.
func (a *Agent) podLimits(p *corev1.Pod) cgroup.Resources {
	r := runspec.PodResources(&p.Spec, a.PidsLimit)
	cpu, memory := p.Spec.Overhead.Cpu().MilliValue(), p.Spec.Overhead.Memory().Value()
	if cpu > 0 {
		r.CPUShares += runspec.Shares(cpu)
		if r.CPUQuota > 0 {
			r.CPUQuota += runspec.Quota(cpu)
		}
	}
	if memory > 0 && r.MemoryLimit > 0 {
		r.MemoryLimit += memory
	}
	return r
}
