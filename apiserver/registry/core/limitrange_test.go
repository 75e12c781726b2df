package core_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

// Limit ranges that kube-apiserver accepts and refuses, and why.
func TestLimitRange(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "LimitRange")
	const base = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l}\nspec: {limits: [{type: Container, max: {cpu: 2}, min: {cpu: 100m, memory: 1Mi}}]}\n"
	const at = "spec.limits[0]"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "container"},
		{Name: "claim", Edit: "spec: {limits: [{type: PersistentVolumeClaim, max: {storage: 1Gi}}]}"},
		{Name: "other", Edit: "spec: {limits: [{type: example.com/image, max: {storage: 1Gi}}]}"},
		{Name: "type", Edit: "spec: {limits: [{type: Node}, {type: Pod}, {type: Pod}]}", Want: []string{
			at + `.type: Invalid value: "Node": must be a standard limit type or fully qualified`,
			`spec.limits[2].type: Duplicate value: "Pod"`}},
		{Name: "resource", Edit: "spec: {limits: [{type: Pod, max: {storage: 1}}]}", Want: []string{
			at + `.max[storage]: Invalid value: "storage": must be a standard resource for containers`}},
		{Name: "pod defaults", Edit: "spec: {limits: [{type: Pod, default: {cpu: 1}, defaultRequest: {cpu: 1}}]}", Want: []string{
			at + ".default: Forbidden: may not be specified when `type` is 'Pod'",
			at + ".defaultRequest: Forbidden: may not be specified when `type` is 'Pod'"}},
		{Name: "claim without size", Edit: "spec: {limits: [{type: PersistentVolumeClaim}]}", Want: []string{
			at + ".limits: Required value: either minimum or maximum storage value is required, but neither was provided"}},
		{Name: "order", Edit: "spec: {limits: [{type: Container, max: {cpu: 1}, min: {cpu: 2}, default: {cpu: 3}, defaultRequest: {cpu: 4}}]}", Want: []string{
			at + `.min[cpu]: Invalid value: "2": min value 2 is greater than max value 1`,
			at + `.defaultRequest[cpu]: Invalid value: "4": default request value 4 is greater than max value 1`,
			at + `.defaultRequest[cpu]: Invalid value: "4": default request value 4 is greater than default limit value 3`,
			at + `.default[cpu]: Invalid value: "1": default value 3 is greater than max value 1`}},
		{Name: "ratio", Edit: "spec: {limits: [{type: Pod, max: {cpu: 4}, min: {cpu: 2}, maxLimitRequestRatio: {cpu: 3, memory: 500m}}]}", Want: []string{
			at + `.maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000`,
			at + `.maxLimitRequestRatio[memory]: Invalid value: "500m": ratio 500m is less than 1`}},
		{Name: "no overcommitment", Edit: "spec: {limits: [{type: Container, default: {a.b/c: 2}, defaultRequest: {a.b/c: 1}}]}", Want: []string{
			at + `.defaultRequest[a.b/c]: Invalid value: "1": default value 2 must equal to defaultRequest value 1 in a.b/c`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "all may change", Edit: "spec: {limits: []}"}})

	obj, _ := kindtest.New(t, r, base)
	l := obj.(*corev1.LimitRange).Spec.Limits[0]
	if cpu, request := l.Default[corev1.ResourceCPU], l.DefaultRequest[corev1.ResourceCPU]; cpu.String() != "2" || request.String() != "2" {
		t.Errorf("cpu: got default %v and request %v, want 2 and 2", cpu.String(), request.String())
	}
	if memory := l.DefaultRequest[corev1.ResourceMemory]; memory.String() != "1Mi" {
		t.Errorf("memory: got request %v, want 1Mi", memory.String())
	}
}
