package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/cgroup"
)

// TestRuntimeClass shows that a pod runs with the node's runtime, has its overhead beside its limits, and waits with a reason for a
// runtime that is not there.
func TestRuntimeClass(t *testing.T) {
	h := newHost(t)
	h.load()
	for name, handler := range map[string]string{"plain": "runc", "strong": "hypervisor"} {
		class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: handler}
		if _, err := client.Of(h.api.Client(), client.RuntimeClasses()).Create(context.Background(), class); err != nil {
			t.Fatal(err)
		}
	}
	h.create("web", `{runtimeClassName: plain, overhead: {memory: 8Mi}, containers: [{name: app, resources: {limits: {memory: 32Mi}}}]}`)
	h.create("safe", `{runtimeClassName: strong, containers: [{name: app}]}`)
	p := h.await("web", "Running", running)
	if got := h.podMemoryLimit(p); got != "41943040" {
		t.Errorf("the pod's group is limited to %s", got)
	}
	h.awaitEvent("safe", "FailedCreatePodSandBox", `no runtime for "hypervisor" is configured`)
}

// podMemoryLimit reads a pod's limit from the kernel.
func (h *host) podMemoryLimit(p *corev1.Pod) string {
	h.t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/memory/" + h.c.CgroupRoot + "/*/pod" + string(p.UID) + "/memory.limit_in_bytes", "/sys/fs/cgroup/" + h.c.CgroupRoot + "/*/pod" + string(p.UID) + "/memory.max"} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if data, err := os.ReadFile(path); err == nil {
				return strings.TrimSpace(string(data))
			}
		}
	}
	h.t.Fatal("the pod's memory limit cannot be read")
	return ""
}

// burstableShares are the CPU shares of the class Burstable, or on v2 its weight.
func (h *host) burstableShares() string {
	h.t.Helper()
	for _, path := range []string{"/sys/fs/cgroup/cpu/" + h.c.CgroupRoot + "/burstable/cpu.shares", "/sys/fs/cgroup/" + h.c.CgroupRoot + "/burstable/cpu.weight"} {
		if data, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	h.t.Fatal("the shares of the class Burstable cannot be read")
	return ""
}

// TestBurstableShares shows that the class Burstable has the CPU shares of its pods together, and of no others, as they come and go.
func TestBurstableShares(t *testing.T) {
	h := newHost(t)
	h.load()
	wants := func(shares uint64) {
		t.Helper()
		if got := h.burstableShares(); got != strconv.FormatUint(shares, 10) && got != strconv.FormatUint(cgroup.Weight(shares), 10) {
			t.Errorf("the class has %s, want %d", got, shares)
		}
	}
	h.create("one", `containers: [{name: app, resources: {requests: {cpu: 100m}}}]`)
	h.create("guaranteed", `containers: [{name: app, resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 50m, memory: 32Mi}}}]`)
	one := h.await("one", "Running", running)
	h.await("guaranteed", "Running", running)
	wants(102)
	h.create("two", `containers: [{name: app, resources: {requests: {cpu: 250m}}}]`)
	h.await("two", "Running", running)
	wants(102 + 256)
	h.remove("one", 0)
	h.awaitGone("one")
	h.awaitNoTraces(one)
	h.create("three", `containers: [{name: app, resources: {requests: {cpu: 500m}}}]`)
	h.await("three", "Running", running)
	wants(256 + 512)
}

// awaitEvent waits until an event about an object says what it should.
func (h *host) awaitEvent(object, reason, message string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var seen []string
	for e, err := range client.Of(h.api.Client(), client.Events()).Watch(ctx, "", client.WatchOptions{}) {
		if err != nil {
			break
		}
		if o := e.Object; o != nil && o.InvolvedObject.Name == object {
			if o.Reason == reason && strings.Contains(o.Message, message) {
				return
			}
			seen = append(seen, o.Reason+": "+o.Message)
		}
	}
	h.t.Fatalf("no event %s about %s that says %q; there are\n%s", reason, object, message, strings.Join(seen, "\n"))
}
