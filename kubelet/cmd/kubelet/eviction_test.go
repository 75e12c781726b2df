package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/eviction"
)

// TestEvictedPodFails shows that a pod over its emptyDir's limit is found and ended as Evicted, and says why.
func TestEvictedPodFails(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("full", `{containers: [{name: app, command: [sh, -c, "dd if=/dev/zero of=/v/f bs=1M count=3 2>/dev/null; echo full; sleep 1000"], volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]}`)
	p := h.await("full", "Running", running)
	h.awaitLogHas(p, "app", "0", "full\n")
	// The kubelet looks every ten seconds; we do not wait for it.
	for _, v := range eviction.Decide(eviction.Input{Pods: h.k.agent.Usage(t.Context(), false)}).Victims {
		h.k.agent.Evict(v.UID, v.Message)
	}
	p = h.await("full", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "Evicted" || p.Status.Message != `Usage of EmptyDir volume "v" exceeds the limit "1Mi". ` {
		t.Errorf("status: %s", statusText(p))
	}
}
