package main

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/shutdown"
)

// TestHostGoesDown shows a shutdown: pods end in groups, the critical ones last, each within its group's time; none is taken any more;
// the node says that it is not ready. When it is called off, static pods come back.
func TestHostGoesDown(t *testing.T) {
	h := newHost(t)
	h.load()
	h.stop()
	h.c.StaticPodPath = t.TempDir()
	h.writeManifest("static", "sleep 1000")
	h.start()
	h.create("stubborn", `{terminationGracePeriodSeconds: 600, containers: [{name: app, command: [sh, -c, "trap '' TERM; while true; do sleep 0.1; done"]}]}`)
	h.create("critical", `{priority: 2000000000, containers: [{name: app, command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.1; done"]}]}`)
	for _, name := range []string{"stubborn", "critical", "static-node1"} {
		h.await(name, "Running", running)
	}
	h.k.agent.RefusePods()
	h.k.node.Nudge()
	h.awaitCondition(corev1.NodeReady, corev1.ConditionFalse)
	h.create("late", `containers: [{name: app}]`)
	h.k.agent.ShutDown(t.Context(), shutdown.Simple(12*time.Second, 10*time.Second))
	failed := func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed }
	ends := map[string]time.Time{}
	for _, name := range []string{"stubborn", "critical", "static-node1"} {
		p := h.await(name, "Failed", failed)
		if p.Status.Reason != "Terminated" || p.Status.Message != "Pod was terminated in response to imminent node shutdown." {
			t.Errorf("%s: %s", name, statusText(p))
		}
		ends[name] = p.Status.ContainerStatuses[0].State.Terminated.FinishedAt.Time
	}
	if ends["critical"].Before(ends["stubborn"]) {
		t.Errorf("the critical pod ended first: %v", ends)
	}
	if p := h.await("late", "rejected", failed); p.Status.Reason != "NodeShutdown" {
		t.Errorf("late: %s", statusText(p))
	}
	h.k.agent.CallOffShutdown()
	h.k.node.Nudge()
	h.await("static-node1", "Running again", running)
	h.awaitCondition(corev1.NodeReady, corev1.ConditionTrue)
}
