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
	h.create("full", `{containers: [{name: app, command: [sh, -c, "dd if=/dev/zero of=/v/f bs=1M count=3; echo full; sleep 1000"], volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]}`)
	p := h.await("full", "Running", running)
	h.awaitLogHas(p, "app", "0", "full\n")
	pods := h.k.agent.Usage(t.Context(), false)
	if len(pods) != 1 || pods[0].Exceeded != `Usage of EmptyDir volume "v" exceeds the limit "1Mi". ` || pods[0].Memory == 0 {
		t.Fatalf("usage: %+v", pods)
	}
	for _, v := range eviction.Decide(eviction.Input{Pods: pods}).Victims {
		h.k.agent.Evict(v.UID, v.Message)
	}
	p = h.await("full", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "Evicted" || p.Status.Message != pods[0].Exceeded {
		t.Errorf("status: %s", statusText(p))
	}
}
