package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
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
	for _, v := range eviction.Decide(eviction.Input{Pods: h.k.agent.Usage(t.Context(), "")}).Victims {
		h.k.agent.Evict(v.UID, v.Message, v.Grace)
	}
	p = h.await("full", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "Evicted" || p.Status.Message != `Usage of EmptyDir volume "v" exceeds the limit "1Mi". ` {
		t.Errorf("status: %s", statusText(p))
	}
}

// TestContainerOverItsStorage shows that what a container writes to its root file system and log counts against its limit.
func TestContainerOverItsStorage(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("writer", `containers: [{name: app, command: [sh, -c, "dd if=/dev/zero of=/f bs=1M count=3 2>/dev/null; echo full; sleep 1000"], resources: {limits: {ephemeral-storage: 2Mi}}}]`)
	h.create("talker", `containers: [{name: app, command: [sh, -c, "seq 1 1000000; sleep 1000"], resources: {limits: {ephemeral-storage: 2Mi}}}]`)
	w, p := h.await("writer", "Running", running), h.await("talker", "Running", running)
	h.awaitLogHas(w, "app", "0", "full\n")
	h.awaitLogHas(p, "app", "0", "\n1000000\n")
	for _, v := range eviction.Decide(eviction.Input{Pods: h.k.agent.Usage(t.Context(), "")}).Victims {
		h.k.agent.Evict(v.UID, v.Message, v.Grace)
	}
	for _, name := range []string{"writer", "talker"} {
		p := h.await(name, "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		if p.Status.Reason != "Evicted" || p.Status.Message != `Container app exceeded its local ephemeral storage limit "2Mi". ` {
			t.Errorf("%s: %s", name, statusText(p))
		}
	}
}

// TestShortOfMemory shows a node that runs short: it says so, ends the pod that uses most beyond its request, takes no pod without
// requests, and takes it again when the shortage has passed.
func TestShortOfMemory(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("modest", `containers: [{name: app, resources: {requests: {memory: 64Mi}}}]`)
	h.create("greedy", `containers: [{name: app, command: [sh, -c, "dd if=/dev/zero of=/dev/shm/f bs=1M count=20 2>/dev/null; echo ate; sleep 1000"]}]`)
	h.await("modest", "Running", running)
	h.awaitLogHas(h.await("greedy", "Running", running), "app", "0", "ate\n")
	now := time.Now()
	in := eviction.Input{Config: eviction.Config{Hard: eviction.Defaults()}, Now: now, Levels: map[eviction.Signal]eviction.Level{
		eviction.MemoryAvailable: {Capacity: 1 << 30, Available: 1 << 20},
	}}
	in.Memory = h.k.relieve(t.Context(), in)
	p := h.await("greedy", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "Evicted" || !strings.HasPrefix(p.Status.Message, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 1Mi. Container app was using ") {
		t.Errorf("greedy: %s", statusText(p))
	}
	h.create("late", `containers: [{name: app}]`)
	p = h.await("late", "rejected", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "Evicted" || p.Status.Message != "Pod was rejected: The node had condition: [MemoryPressure]. " {
		t.Errorf("late: %s", statusText(p))
	}
	h.awaitCondition(corev1.NodeMemoryPressure, corev1.ConditionTrue)
	in.Now, in.Levels[eviction.MemoryAvailable] = now.Add(time.Minute), eviction.Level{Capacity: 1 << 30, Available: 1 << 29}
	h.k.relieve(t.Context(), in)
	h.awaitCondition(corev1.NodeMemoryPressure, corev1.ConditionFalse)
	h.create("later", `containers: [{name: app}]`)
	h.await("later", "Running", running)
	h.await("modest", "still Running", running)
}

// awaitCondition waits until the node says so of itself.
func (h *host) awaitCondition(kind corev1.NodeConditionType, status corev1.ConditionStatus) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for e, err := range client.Of(h.api.Client(), client.Nodes()).Watch(ctx, "", client.WatchOptions{}) {
		if err != nil {
			break
		}
		for _, c := range e.Object.Status.Conditions {
			if c.Type == kind && c.Status == status {
				return
			}
		}
	}
	h.t.Fatalf("the node does not say %s=%s", kind, status)
}

// TestForkBomb shows that a pod that makes processes without end makes no more than it may, and disturbs nobody.
func TestForkBomb(t *testing.T) {
	h := newHost(t)
	h.load()
	h.stop()
	h.c.PodPidsLimit = 50
	h.start()
	h.create("quiet", `containers: [{name: app}]`)
	h.create("bomb", `containers: [{name: app, command: [sh, -c, "bomb() { bomb | bomb & }; bomb; while true; do wait; done"]}]`)
	h.await("quiet", "Running", running)
	p := h.await("bomb", "Running", running)
	h.awaitPids(p, 50)
	h.remove("bomb", 0)
	h.awaitGone("bomb")
	h.awaitNoTraces(p)
	h.await("quiet", "still Running", running)
}

// awaitPids waits until a pod has been refused a process, and looks at the limit in the kernel.
func (h *host) awaitPids(p *corev1.Pod, limit int) {
	h.t.Helper()
	dir := filepath.Join(h.c.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID), "app")
	h.awaitOn(dir, "a refused process", func() bool { return strings.Contains(h.log(p, "app", "0"), "can't fork") })
	for _, dir := range []string{"/sys/fs/cgroup/pids/" + h.c.CgroupRoot + "/besteffort/pod" + string(p.UID), "/sys/fs/cgroup/" + h.c.CgroupRoot + "/besteffort/pod" + string(p.UID)} {
		if data, err := os.ReadFile(dir + "/pids.max"); err == nil && strings.TrimSpace(string(data)) != strconv.Itoa(limit) {
			h.t.Errorf("the pod's group may have %s processes", data)
		}
	}
}
