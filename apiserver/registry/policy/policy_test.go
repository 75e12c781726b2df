package policy_test

import (
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/policy"
)

const budget = `
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: b}
spec: {minAvailable: 1, selector: {matchLabels: {app: a}}}
`

// Budgets that kube-apiserver accepts and refuses, and why.
func TestPodDisruptionBudget(t *testing.T) {
	r := kindtest.Kind(t, policy.Resources(), "PodDisruptionBudget")
	kindtest.Create(t, r, budget, []kindtest.Case{
		{Name: "minimal"},
		{Name: "empty", Edit: "spec: null"},
		{Name: "percent", Edit: "spec: {minAvailable: null, maxUnavailable: 100%}"},
		{Name: "policy", Edit: "spec: {unhealthyPodEvictionPolicy: AlwaysAllow}"},
		{Name: "both", Edit: "spec: {maxUnavailable: 1}", Want: []string{
			`spec: Invalid value: {"minAvailable":1,"selector":{"matchLabels":{"app":"a"}},"maxUnavailable":1}: minAvailable and maxUnavailable cannot be both set`}},
		{Name: "negative", Edit: "spec: {minAvailable: -1}", Want: []string{
			"spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"}},
		{Name: "too much", Edit: "spec: {minAvailable: 101%}", Want: []string{
			`spec.minAvailable: Invalid value: "101%": must not be greater than 100%`}},
		{Name: "not a percentage", Edit: "spec: {minAvailable: many}", Want: []string{
			`spec.minAvailable: Invalid value: "many": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')`}},
		{Name: "unknown policy", Edit: "spec: {unhealthyPodEvictionPolicy: Never}", Want: []string{
			`spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", "IfHealthyBudget"`}},
		{Name: "bad selector", Edit: "spec: {selector: {matchExpressions: [{key: a, operator: In}]}}", Want: []string{
			"spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"}},
	})
	kindtest.Update(t, r, budget, []kindtest.Case{
		{Name: "everything may change", Edit: "spec: {minAvailable: null, maxUnavailable: 2, selector: {matchLabels: {app: b}}}"},
		{Name: "checked again", Edit: "spec: {minAvailable: -2}", Want: []string{
			"spec.minAvailable: Invalid value: -2: must be greater than or equal to 0"}},
	})
}

// The status is the status subresource's.
func TestBudgetStatus(t *testing.T) {
	r := kindtest.Kind(t, policy.Resources(), "PodDisruptionBudget")
	old, errs := kindtest.New(t, r, budget)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	body := old.DeepCopyObject().(*policyv1.PodDisruptionBudget)
	body.Spec.MinAvailable = nil
	body.Status.DisruptionsAllowed = -1
	sub := r.Subresources["status"]
	got, err := sub.Apply(old, body, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	b := got.(*policyv1.PodDisruptionBudget)
	if b.Spec.MinAvailable == nil || b.Status.DisruptionsAllowed != -1 {
		t.Errorf("got %v", b)
	}
	if errs := sub.Validate(b, old); len(errs) != 1 || errs[0].Field != "status.disruptionsAllowed" {
		t.Errorf("got %v", errs)
	}
}

// Unset amounts are printed as not applicable.
func TestBudgetColumns(t *testing.T) {
	r := kindtest.Kind(t, policy.Resources(), "PodDisruptionBudget")
	obj, _ := kindtest.New(t, r, budget)
	for i, want := range []string{"b", "1", "N/A", "0"} {
		if got := r.Columns[i].Cell(obj, time.Time{}); got != want {
			t.Errorf("column %s: got %q, want %q", r.Columns[i].Name, got, want)
		}
	}
}
