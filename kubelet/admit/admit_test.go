package admit

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

func podOf(t *testing.T, spec string) Pod {
	t.Helper()
	p := Pod{Pod: &corev1.Pod{}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAdmit shows what a node with 1 CPU, 1 GiB and room for 2 pods, of which one with half a CPU is there, takes and refuses.
func TestAdmit(t *testing.T) {
	node := Node{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("2")},
		UnsafeSysctls: []string{"net.core.*"}}
	others := []Pod{podOf(t, `containers: [{name: c, resources: {requests: {cpu: 500m}}, ports: [{hostPort: 80, containerPort: 8080}]}]`)}
	for spec, want := range map[string]string{
		`containers: [{name: c}]`: "",
		`containers: [{name: c, resources: {requests: {cpu: 500m, memory: 1Gi}}}]`:                                                                     "",
		`containers: [{name: c, resources: {requests: {cpu: 501m}}}]`:                                                                                  "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 501, used: 500, capacity: 1000",
		`containers: [{name: c, resources: {requests: {memory: 2Gi}}}]`:                                                                                "OutOfmemory: Pod was rejected: Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824",
		`containers: [{name: c, resources: {requests: {hugepages-2Mi: 2Mi}}}]`:                                                                         "OutOfhugepages-2Mi: Pod was rejected: Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0",
		`{initContainers: [{name: i, resources: {requests: {cpu: 600m}}}], containers: [{name: c}]}`:                                                   "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000",
		`{securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: "1"}, {name: net.core.somaxconn, value: "9"}]}, containers: [{name: c}]}`: "",
		`{securityContext: {sysctls: [{name: kernel.msgmax, value: "1"}]}, containers: [{name: c}]}`:                                                   `SysctlForbidden: Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted`,
		`{hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: "1"}]}, containers: [{name: c}]}`:                      `SysctlForbidden: Pod was rejected: forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled`,
		`{containers: [{name: c, securityContext: {appArmorProfile: {type: RuntimeDefault}}}]}`:                                                        "AppArmor: Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host",
		`{containers: [{name: c, securityContext: {appArmorProfile: {type: Unconfined}}}]}`:                                                            "",
		`{containers: [{name: c}], overhead: {cpu: 600m}}`:                                                                                             "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000",
		`{resources: {requests: {cpu: 501m}}, containers: [{name: c}]}`:                                                                                "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 501, used: 500, capacity: 1000",
		`{os: {name: windows}, containers: [{name: c}]}`:                                                                                               "PodOSNotSupported: Pod was rejected: Failed to admit pod as the OS field doesn't match node OS",
		`{containers: [{name: c, ports: [{hostPort: 80, containerPort: 1}]}]}`:                                                                         "NodePorts: Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
		`{containers: [{name: c, ports: [{hostPort: 80, protocol: UDP, containerPort: 1}]}]}`:                                                          "",
	} {
		got := ""
		if r := Admit(podOf(t, spec), others, node, nil).Rejection; r != nil {
			got = r.Reason + ": " + r.Message
		}
		if got != want {
			t.Errorf("%s:\n got %q\nwant %q", spec, got, want)
		}
	}
	if r := Admit(podOf(t, `containers: [{name: c}]`), append(others, others[0]), node, nil).Rejection; r == nil || r.Reason != "OutOfpods" {
		t.Errorf("a third pod: %v", r)
	}
	// What a pod is to have alone is chosen after the node's state, and before room for it.
	none := func() *Rejection { return &Rejection{"Reserve", "no"} }
	for spec, want := range map[string]string{
		`{securityContext: {sysctls: [{name: kernel.msgmax, value: "1"}]}, containers: [{name: c}]}`: "SysctlForbidden",
		`containers: [{name: c, resources: {requests: {cpu: 501m}}}]`:                                "Reserve",
	} {
		if r := Admit(podOf(t, spec), others, node, none).Rejection; r == nil || r.Reason != want {
			t.Errorf("%s: %v, want %s", spec, r, want)
		}
	}
}

// TestPlace shows how a node's labels, taints, shortages and shutdown keep pods away, and which pods they do not.
func TestPlace(t *testing.T) {
	object := &corev1.Node{}
	object.Labels = map[string]string{"disk": "ssd"}
	object.Spec.Taints = []corev1.Taint{{Key: "down", Effect: corev1.TaintEffectNoExecute}, {Key: "full", Effect: corev1.TaintEffectNoSchedule}}
	memory, disk := []corev1.NodeConditionType{corev1.NodeMemoryPressure}, []corev1.NodeConditionType{corev1.NodeDiskPressure}
	const tolerant = `tolerations: [{key: down, operator: Exists}], containers: [{name: c}]`
	for name, c := range map[string]struct {
		spec   string
		static bool
		node   Node
		want   string
	}{
		"labels match":       {`{nodeSelector: {disk: ssd}, ` + tolerant + `}`, false, Node{Object: object}, ""},
		"labels do not":      {`{nodeSelector: {disk: hdd}, ` + tolerant + `}`, false, Node{Object: object}, "NodeAffinity: Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		"labels not known":   {`{nodeSelector: {disk: hdd}, ` + tolerant + `}`, false, Node{}, ""},
		"affinity does not":  {`{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: DoesNotExist}]}]}}}, ` + tolerant + `}`, false, Node{Object: object}, "NodeAffinity: Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		"tainted":            {`{containers: [{name: c}]}`, false, Node{Object: object}, "TaintToleration: Pod was rejected: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"},
		"tainted, static":    {`{containers: [{name: c}]}`, true, Node{Object: object}, ""},
		"best effort":        {`{containers: [{name: c}]}`, false, Node{Pressure: memory}, "Evicted: Pod was rejected: The node had condition: [MemoryPressure]. "},
		"best, tolerant":     {`{tolerations: [{key: node.kubernetes.io/memory-pressure, operator: Exists}], containers: [{name: c}]}`, false, Node{Pressure: memory}, ""},
		"burstable":          {`{containers: [{name: c, resources: {requests: {memory: 0.001}}}]}`, false, Node{Pressure: memory, Allocatable: corev1.ResourceList{"memory": resource.MustParse("1")}}, ""},
		"burstable and disk": {`{containers: [{name: c, resources: {requests: {memory: 1}}}]}`, false, Node{Pressure: disk}, "Evicted: Pod was rejected: The node had condition: [DiskPressure]. "},
		"critical":           {`{priority: 2000000000, containers: [{name: c}]}`, false, Node{Pressure: disk}, ""},
		"shutdown":           {`{priority: 2000000000, containers: [{name: c}]}`, true, Node{ShuttingDown: true}, "NodeShutdown: Pod was rejected: Pod was rejected as the node is shutting down."},
	} {
		p := podOf(t, c.spec)
		p.Static = c.static
		got := ""
		if r := Admit(p, nil, c.node, nil).Rejection; r != nil {
			got = r.Reason + ": " + r.Message
		}
		if got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, c.want)
		}
	}
}

// TestPreempt shows which pods make room for a critical one: as few and as cheap ones as suffice.
func TestPreempt(t *testing.T) {
	node := Node{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("4Gi"), "pods": resource.MustParse("9")}}
	others := []Pod{
		podOf(t, `{priority: 10, containers: [{name: c, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}]}`),
		podOf(t, `{priority: 5, containers: [{name: c, resources: {requests: {cpu: 1}}}]}`),
		podOf(t, `{containers: [{name: c, resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}}]}`),
		podOf(t, `{priority: 2000000000, containers: [{name: c, resources: {requests: {cpu: 1}}}]}`),
		podOf(t, `{containers: [{name: best-effort}]}`),
	}
	for spec, want := range map[string]string{
		`{priority: 2000001000, containers: [{name: c, resources: {requests: {cpu: 1}}}]}`:              "[1]",
		`{priority: 2000000000, containers: [{name: c, resources: {requests: {cpu: 2}}}]}`:              "[0 1]",
		`{priority: 2000000000, containers: [{name: c, resources: {requests: {cpu: 3}}}]}`:              "[0 1 2]",
		`{priority: 2000000000, containers: [{name: c, resources: {requests: {cpu: 4}}}]}`:              "OutOfcpu",
		`{priority: 2000001000, containers: [{name: c, resources: {requests: {cpu: 4}}}]}`:              "[0 1 2 3]",
		`{priority: 2000001000, containers: [{name: c, resources: {requests: {memory: 3.5Gi}}}]}`:       "[2]",
		`{priority: 1999999999, containers: [{name: c, resources: {requests: {cpu: 1}}}]}`:              "OutOfcpu",
		`{priority: 2000001000, containers: [{name: c, resources: {requests: {cpu: 1, memory: 4Gi}}}]}`: "[2]",
	} {
		v := Admit(podOf(t, spec), others, node, nil)
		got := fmt.Sprint(v.Preempted)
		if v.Rejection != nil {
			got = v.Rejection.Reason
		}
		if got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}

// TestResize shows when a node grants a pod more than it had.
func TestResize(t *testing.T) {
	node := Node{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4")}}
	other := podOf(t, `containers: [{name: c, resources: {requests: {cpu: 2}}}]`)
	for cpu, want := range map[string]string{
		"2": "",
		"3": "Deferred: Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000",
		"5": "Infeasible: Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000",
	} {
		got := ""
		if r := Resize(podOf(t, `containers: [{name: c, resources: {requests: {cpu: `+cpu+`}}}]`), []Pod{other}, node); r != nil {
			got = r.Reason + ": " + r.Message
		}
		if got != want {
			t.Errorf("%s: %q, want %q", cpu, got, want)
		}
	}
}
