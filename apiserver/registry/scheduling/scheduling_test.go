package scheduling_test

import (
	"testing"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/scheduling"
)

// Classes that kube-apiserver accepts and refuses, and why.
func TestPriorityClass(t *testing.T) {
	r := kindtest.Kind(t, scheduling.Resources(), "PriorityClass")
	const base = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 1000\n"
	const reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "highest", Edit: "value: 1000000000"},
		{Name: "negative", Edit: "value: -5"},
		{Name: "never", Edit: "preemptionPolicy: Never"},
		{Name: "system's own", Edit: "{metadata: {name: system-node-critical}, value: 2000001000}"},
		{Name: "too high", Edit: "value: 1000000001", Want: []string{
			"value: Forbidden: maximum allowed value of a user defined priority is 1000000000"}},
		{Name: "system prefix", Edit: "metadata: {name: system-x}", Want: []string{
			reserved + "system-x is not a known system priority class"}},
		{Name: "system value", Edit: "metadata: {name: system-cluster-critical}", Want: []string{
			reserved + "value of system-cluster-critical PriorityClass must be 2000000000"}},
		{Name: "system default", Edit: "{metadata: {name: system-cluster-critical}, value: 2000000000, globalDefault: true}", Want: []string{
			reserved + "globalDefault of system-cluster-critical PriorityClass must be false"}},
		{Name: "policy", Edit: "preemptionPolicy: Always", Want: []string{
			`preemptionPolicy: Unsupported value: "Always": supported values: "PreemptLowerPriority", "Never"`}},
		{Name: "empty policy", Edit: "preemptionPolicy: ''", Want: []string{"preemptionPolicy: Required value"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "description", Edit: "{description: text, globalDefault: true}"},
		{Name: "value", Edit: "value: 2", Want: []string{"value: Forbidden: may not be changed in an update."}},
		{Name: "policy", Edit: "preemptionPolicy: Never", Want: []string{
			`preemptionPolicy: Invalid value: "Never": field is immutable`}},
	})
}
