package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/cpus"
)

// allowed are the CPUs that the kernel lets a pod's container run on.
func (h *host) allowed(p *corev1.Pod) string {
	h.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid(p)))
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "Cpus_allowed_list:\t")
	list, _, _ := strings.Cut(rest, "\n")
	return list
}

// TestOwnCPUs shows the static policy in the kernel: a Guaranteed pod has its CPU alone, others leave it at once and come back when it
// has ended, and a restart of the kubelet changes nothing.
func TestOwnCPUs(t *testing.T) {
	all, err := cpus.Host("/sys/devices/system/cpu")
	if err != nil || len(all) < 2 {
		t.Fatal("this test needs a host of two CPUs: ", len(all), err)
	}
	h := newHost(t)
	h.load()
	h.stop()
	h.c.CPUManagerPolicy, h.c.ReservedCPUs = "static", "0"
	h.start()
	h.create("other", `containers: [{name: app, command: [sh, -c, "while true; do l=$(grep Cpus_allowed_list /proc/self/status); test \"$l\" = \"$o\" || echo $l; o=$l; sleep 0.1; done"]}]`)
	other := h.await("other", "Running", running)
	everywhere := h.allowed(other)
	told := func(sets ...string) {
		t.Helper()
		want := ""
		for _, s := range sets {
			want += "Cpus_allowed_list: " + s + "\n"
		}
		h.awaitLog(other, "app", "0", want)
	}
	told(everywhere)
	h.create("own", `containers: [{name: app, resources: {requests: {cpu: 1, memory: 32Mi}, limits: {cpu: 1, memory: 32Mi}}}]`)
	own := h.await("own", "Running", running)
	mine := h.allowed(own)
	if ids, err := cpus.Parse(mine); err != nil || len(ids) != 1 || ids[0] == 0 {
		t.Errorf("it runs on %s, %v", mine, err)
	}
	shared := h.k.agent.CPUs.CPUSet("", "")
	told(everywhere, shared)
	if shared == everywhere || h.allowed(own) != mine {
		t.Errorf("others run on %s, it on %s", shared, h.allowed(own))
	}
	h.stop()
	h.start()
	h.create("late", `containers: [{name: app}]`)
	if late := h.await("late", "Running", running); h.allowed(late) != shared || h.allowed(own) != mine {
		t.Errorf("after a restart a new pod runs on %s, it on %s", h.allowed(late), h.allowed(own))
	}
	h.remove("own", 1)
	h.awaitGone("own")
	told(everywhere, shared, everywhere)
}
