package core_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

// Controllers that kube-apiserver accepts and refuses, and why.
func TestReplicationController(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "ReplicationController")
	const base = `
apiVersion: v1
kind: ReplicationController
metadata: {name: c}
spec: {template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}}
`
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "negative", Edit: "spec: {replicas: -1, minReadySeconds: -1}", Want: []string{
			"spec.replicas: Invalid value: -1: must be greater than or equal to 0",
			"spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"}},
		{Name: "no template", Edit: "spec: {template: null}", Want: []string{
			"spec.selector: Required value", "spec.template: Required value"}},
		{Name: "other labels", Edit: "spec: {selector: {app: b}}", Want: []string{
			"spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"}},
		{Name: "restart", Edit: "spec: {template: {spec: {restartPolicy: Never, activeDeadlineSeconds: 5}}}", Want: []string{
			`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`,
			"spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "everything may change", Edit: "spec: {replicas: 3, selector: {app: b}, template: {metadata: {labels: {app: b}}}}"},
	})
	obj, _ := kindtest.New(t, r, base)
	c := obj.(*corev1.ReplicationController)
	if c.Labels["app"] != "a" || c.Spec.Selector["app"] != "a" || *c.Spec.Replicas != 1 {
		t.Errorf("defaults: got %v, %v, %d", c.Labels, c.Spec.Selector, *c.Spec.Replicas)
	}
	bad := c.DeepCopy()
	bad.Status.ReadyReplicas = 1
	if errs := r.Subresources["status"].Validate(bad, c); len(errs) != 1 || errs[0].Field != "status.readyReplicas" {
		t.Errorf("status: got %v", errs)
	}
}

// Templates that kube-apiserver accepts and refuses, and why.
func TestPodTemplate(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PodTemplate")
	const base = "apiVersion: v1\nkind: PodTemplate\nmetadata: {name: t}\ntemplate: {spec: {containers: [{name: c, image: i}]}}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "any restart policy", Edit: "template: {spec: {restartPolicy: Never}}"},
		{Name: "no containers", Edit: "template: {spec: {containers: null}}", Want: []string{"template.spec.containers: Required value"}},
		{Name: "labels", Edit: "template: {metadata: {labels: {'a b': c}}}", Want: []string{`template.labels: Invalid value: "a b": name part must consist…`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "image", Edit: "template: {spec: {containers: [{name: c, image: j}]}}"}})
}
