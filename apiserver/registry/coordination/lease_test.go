package coordination_test

import (
	"testing"

	"bareboat.dev/apiserver/registry/coordination"
	"bareboat.dev/apiserver/registry/kindtest"
)

// Leases that kube-apiserver accepts and refuses, and why.
func TestLease(t *testing.T) {
	r := kindtest.Kind(t, coordination.Resources(), "Lease")
	const base = "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: l}\nspec: {holderIdentity: me}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "numbers", Edit: "spec: {leaseDurationSeconds: 0, leaseTransitions: -1}", Want: []string{
			"spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
			"spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"}},
		{Name: "coordinated election is off", Edit: "spec: {preferredHolder: you, strategy: Nonsense}"},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "holder", Edit: "spec: {holderIdentity: you}"}})
}
