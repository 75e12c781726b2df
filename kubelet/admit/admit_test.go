package admit

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

func podOf(t *testing.T, spec string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAdmit shows what a node with 1 CPU, 1 GiB and room for 2 pods, of which one with half a CPU is there, takes and refuses.
func TestAdmit(t *testing.T) {
	node := Node{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("2")},
		UnsafeSysctls: []string{"net.core.*"}}
	others := []*corev1.Pod{podOf(t, `containers: [{name: c, resources: {requests: {cpu: 500m}}}]`)}
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
	} {
		got := ""
		if r := Admit(podOf(t, spec), others, node); r != nil {
			got = r.Reason + ": " + r.Message
		}
		if got != want {
			t.Errorf("%s:\n got %q\nwant %q", spec, got, want)
		}
	}
	if r := Admit(podOf(t, `containers: [{name: c}]`), append(others, others[0]), node); r == nil || r.Reason != "OutOfpods" {
		t.Errorf("a third pod: %v", r)
	}
}
