package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"bareboat.dev/kubelet/config"
	"bareboat.dev/kubelet/numa"
	"bareboat.dev/kubelet/topology"
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
	machine, err := topology.ReadMachine("/")
	if err != nil || len(machine.CPUs) < 2 {
		t.Fatal("this test needs a host of two CPUs: ", len(machine.CPUs), err)
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
	if ids, err := numa.ParseList(mine); err != nil || len(ids) != 1 || ids[0] == 0 {
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

// TestNear shows pods on this host's true NUMA nodes, with the static policies and single-numa-node: a pod has its CPU and its memory from a
// node, as the kernel's files say, one for which no node has enough is refused, and a restart of the kubelet changes nothing.
func TestNear(t *testing.T) {
	machine, err := topology.ReadMachine("/")
	if err != nil || len(machine.CPUs) < 2 {
		t.Fatal("this test needs a host of two CPUs: ", len(machine.CPUs), err)
	}
	h := newHost(t)
	h.load()
	h.stop()
	h.c.CPUManagerPolicy, h.c.MemoryManagerPolicy, h.c.TopologyManagerPolicy = "static", "Static", "single-numa-node"
	h.c.SystemReserved = map[string]string{"cpu": "500m", "memory": "28Mi"}
	h.c.EvictionHard = "memory.available<100Mi"
	h.c.ReservedMemory = []config.MemoryReservation{{NumaNode: int32(machine.Nodes[0].ID), Limits: map[string]string{"memory": "128Mi"}}}
	if err := h.c.Validate(); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.create("own", `containers: [{name: app, resources: {requests: {cpu: 1, memory: 32Mi}, limits: {cpu: 1, memory: 32Mi}}}]`)
	own := h.await("own", "Running", running)
	mine := h.allowed(own)
	if ids, err := numa.ParseList(mine); err != nil || len(ids) != 1 {
		t.Errorf("it runs on %s, %v", mine, err)
	}
	const node = "Mems_allowed_list:\t"
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid(own)))
	if mems := h.k.agent.Memory.NodeSet(own.UID, "app"); err != nil || mems == "" || !strings.Contains(string(status), node+mems+"\n") {
		t.Errorf("its memory is of %q: %v\n%s", mems, err, status)
	}
	conn, err := grpc.NewClient("unix://"+h.c.RootDir+"/pod-resources/kubelet.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	told, err := podresources.NewPodResourcesListerClient(conn).Get(t.Context(), &podresources.GetPodResourcesRequest{PodNamespace: own.Namespace, PodName: own.Name}, grpc.WaitForReady(true))
	if c := told.GetPodResources().GetContainers(); err != nil || len(c) != 1 || fmt.Sprint(c[0].GetCpuIds()) != "["+mine+"]" || len(c[0].GetMemory()) != 1 || c[0].GetMemory()[0].GetSize() != 32<<20 {
		t.Errorf("agents are told %v, %v", told, err)
	}
	many := fmt.Sprint(len(machine.CPUs))
	h.create("many", `containers: [{name: app, resources: {requests: {cpu: `+many+`, memory: 32Mi}, limits: {cpu: `+many+`, memory: 32Mi}}}]`)
	q := h.await("many", "rejected", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if q.Status.Reason != "TopologyAffinityError" || !strings.HasSuffix(q.Status.Message, "Resources cannot be allocated with Topology locality") {
		t.Errorf("too many: %s", statusText(q))
	}
	h.stop()
	h.start()
	if again := h.await("own", "Running", running); h.allowed(again) != mine || h.k.agent.Memory.NodeSet(own.UID, "app") == "" {
		t.Errorf("after a restart it runs on %s", h.allowed(again))
	}
	h.remove("own", 1)
	h.awaitGone("own")
	if h.k.agent.Memory.Exclusive(own.UID) || h.k.agent.CPUs.Exclusive(own.UID) {
		t.Error("a pod that is gone has something still")
	}
	h.c.ReservedMemory[0].Limits["memory"] = "64Mi"
	if _, err := reservedMemory(h.c, machine, h.k.node.Capacity()); err == nil || !strings.Contains(err.Error(), `"64Mi" of type "memory" is not equal to the value "128Mi"`) {
		t.Errorf("memory that does not add up: %v", err)
	}
}
