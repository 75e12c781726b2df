package apps_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"bareboat.dev/apiserver/registry/apps"
	"bareboat.dev/apiserver/registry/kindtest"
)

const replicaSet = `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web-1}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: nginx}]}
`

// Replica sets that kube-apiserver accepts and refuses, and why.
func TestReplicaSet(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "ReplicaSet")
	kindtest.Create(t, r, replicaSet, []kindtest.Case{
		{Name: "minimal"},
		{Name: "zero", Edit: "spec: {replicas: 0}"},
		{Name: "negative", Edit: "spec: {replicas: -1, minReadySeconds: -2}", Want: []string{
			"spec.replicas: Invalid value: -1: must be greater than or equal to 0",
			"spec.minReadySeconds: Invalid value: -2: must be greater than or equal to 0"}},
		{Name: "no selector", Edit: "spec: {selector: null}", Want: []string{"spec.selector: Required value",
			"spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"}},
		{Name: "mismatch", Edit: "spec: {template: {metadata: {labels: {app: null, x: z}}}}", Want: []string{
			"spec.template.metadata.labels: Invalid value: {\"x\":\"z\"}: `selector` does not match template `labels`"}},
		{Name: "selector operator", Edit: "spec: {selector: {matchExpressions: [{key: a, operator: Is}]}}", Want: []string{
			`spec.selector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator`,
			`spec.selector: Invalid value: {"matchLabels":{"app":"a"},"matchExpressions":[{"key":"a","operator":"Is"}]}: invalid label selector for replica set`}},
	})
	kindtest.Update(t, r, replicaSet, []kindtest.Case{
		{Name: "scale", Edit: "spec: {replicas: 3}"},
		{Name: "selector", Edit: "spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: b}}}}", Want: []string{
			`spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable`}},
	})
}

// A status that cannot be is refused.
func TestReplicaSetStatus(t *testing.T) {
	r := kindtest.Kind(t, apps.Resources(), "ReplicaSet")
	old, _ := kindtest.New(t, r, replicaSet)
	obj := old.DeepCopyObject().(*appsv1.ReplicaSet)
	obj.Status = appsv1.ReplicaSetStatus{Replicas: 1, ReadyReplicas: 2, AvailableReplicas: 3}
	got := kindtest.Texts(r.Subresources["status"].Validate(obj, old))
	want := []string{
		"status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
		"status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
		"status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%q", got)
	}
}
