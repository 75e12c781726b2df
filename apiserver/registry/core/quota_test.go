package core_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

// Quotas that kube-apiserver accepts and refuses, and why.
func TestResourceQuota(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "ResourceQuota")
	const base = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {pods: 10, requests.cpu: 4}}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "numbers of objects", Edit: "spec: {hard: {count/deployments.apps: 3, requests.nvidia.com/gpu: 1, gold.storageclass.storage.k8s.io/requests.storage: 1Gi}}"},
		{Name: "scopes", Edit: "spec: {scopes: [NotBestEffort, Terminating]}"},
		{Name: "priority", Edit: "spec: {scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}}"},
		{Name: "unknown", Edit: "spec: {hard: {wishes: 3}}", Want: []string{
			`spec.hard[wishes]: Invalid value: "wishes": must be a standard resource type or fully qualified`,
			`spec.hard[wishes]: Invalid value: "wishes": must be a standard resource for quota`}},
		{Name: "half a pod", Edit: "spec: {hard: {pods: 500m}}", Want: []string{
			`spec.hard[pods]: Invalid value: "500m": must be an integer`}},
		{Name: "negative", Edit: "spec: {hard: {pods: -1}}", Want: []string{
			`spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0`}},
		{Name: "unknown scope", Edit: "spec: {scopes: [Mine]}", Want: []string{`spec.scopes: Invalid value: ["Mine"]: unsupported scope`}},
		{Name: "scope without the resource", Edit: "spec: {scopes: [BestEffort]}", Want: []string{
			`spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource`}},
		{Name: "conflict", Edit: "spec: {scopes: [Terminating, NotTerminating]}", Want: []string{
			`spec.scopes: Invalid value: ["Terminating","NotTerminating"]: conflicting scopes`}},
		{Name: "selector", Edit: "spec: {scopeSelector: {matchExpressions: [{scopeName: Terminating, operator: In}]}}", Want: []string{
			`spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exist' when scope is any of…`,
			"spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "amounts", Edit: "spec: {hard: {pods: 20}}"},
		{Name: "scopes", Edit: "spec: {scopes: [NotBestEffort]}", Want: []string{
			`spec.scopes: Invalid value: ["NotBestEffort"]: field is immutable`}},
	})
	obj, _ := kindtest.New(t, r, base)
	q := obj.(*corev1.ResourceQuota)
	q.Status.Hard = corev1.ResourceList{"pods": resource.MustParse("10"), "limits.cpu": resource.MustParse("4"), "cpu": resource.MustParse("1")}
	q.Status.Used = corev1.ResourceList{"pods": resource.MustParse("3")}
	for i, want := range []string{"q", "cpu: 0/1, pods: 3/10", "limits.cpu: 0/4"} {
		if got := r.Columns[i].Cell(q, time.Time{}); got != want {
			t.Errorf("column %s: got %q, want %q", r.Columns[i].Name, got, want)
		}
	}
}
