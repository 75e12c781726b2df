package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestResize shows resizes that the node does not grant now or ever, one that restarts its container, and that a restart of the
// kubelet forgets no grant.
func TestResize(t *testing.T) {
	h := newHost(t)
	h.load()
	allocatable := h.k.node.Allocatable()
	cpus := allocatable.Cpu().MilliValue()
	half := *resource.NewMilliQuantity(cpus/2, resource.DecimalSI)
	h.create("other", `containers: [{name: app, resources: {requests: {cpu: `+half.String()+`}}}]`)
	h.create("web", `containers: [{name: app, resources: {requests: {cpu: 100m}, limits: {memory: 64Mi}}, resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]}]`)
	h.await("other", "Running", running)
	p := h.await("web", "Running", running)
	ask := func(milli int64) {
		h.update("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(milli, resource.DecimalSI)
		})
	}
	pending := func(reason string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodResizePending {
					return c.Reason == reason && p.Status.ObservedGeneration == p.Generation
				}
			}
			return reason == "" && p.Status.ObservedGeneration == p.Generation
		}
	}
	granted := func(milli int64) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses[0]
			return running(p) && s.Resources != nil && s.Resources.Requests.Cpu().MilliValue() == milli && s.AllocatedResources.Cpu().MilliValue() == milli && pending("")(p)
		}
	}
	ask(2 * cpus)
	h.await("web", "a resize that can never be", pending(corev1.PodReasonInfeasible))
	ask(200)
	h.await("web", "a resize", granted(200))
	ask(cpus)
	h.await("web", "a resize that waits", pending(corev1.PodReasonDeferred))
	h.stop()
	h.start()
	q := h.await("web", "a resize that still waits", pending(corev1.PodReasonDeferred))
	if s := q.Status.ContainerStatuses[0]; s.AllocatedResources.Cpu().MilliValue() != 200 || s.ContainerID != p.Status.ContainerStatuses[0].ContainerID {
		t.Errorf("after a restart of the kubelet: %s", statusText(q))
	}
	h.remove("other", 0)
	h.await("web", "what it waited for", granted(cpus))
	h.update("web", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("48Mi")
	})
	q = h.await("web", "a restart for its new memory", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses[0]
		return running(p) && s.RestartCount == 1 && s.Resources.Limits.Memory().Value() == 48<<20
	})
	if got := h.memoryLimit(q); got != "50331648" {
		t.Errorf("the kernel limits memory to %s", got)
	}
	if s := q.Status.ContainerStatuses[0]; s.StopSignal == nil || *s.StopSignal != "SIGTERM" {
		t.Errorf("stop signal: %v", s.StopSignal)
	}
}

// TestCriticalPodPreempts shows that a critical pod for which there is no room makes some, and starts when it is there.
func TestCriticalPodPreempts(t *testing.T) {
	h := newHost(t)
	h.load()
	allocatable := h.k.node.Allocatable()
	cpus := allocatable.Cpu()
	h.create("plain", `containers: [{name: app, resources: {requests: {cpu: `+cpus.String()+`}}}]`)
	h.create("small", `containers: [{name: app}]`)
	h.await("plain", "Running", running)
	h.await("small", "Running", running)
	h.create("critical", `{priority: 2000000000, containers: [{name: app, resources: {requests: {cpu: 100m}}}]}`)
	p := h.await("critical", "Running", running)
	victim := h.await("plain", "preempted", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	end := victim.Status.ContainerStatuses[0].State.Terminated
	if victim.Status.Reason != "Preempting" || end == nil || p.Status.ContainerStatuses[0].State.Running.StartedAt.Before(&end.FinishedAt) {
		t.Errorf("victim: %s", statusText(victim))
	}
	if small := h.await("small", "still running", running); small.Status.Reason != "" {
		t.Errorf("a pod in nobody's way: %s", statusText(small))
	}
}
