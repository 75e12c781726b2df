package node_test

import (
	"testing"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/node"
)

// Classes that kube-apiserver accepts and refuses, and why.
func TestRuntimeClass(t *testing.T) {
	r := kindtest.Kind(t, node.Resources(), "RuntimeClass")
	const base = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: r}\nhandler: kata\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "full", Edit: "{overhead: {podFixed: {cpu: 10m}}, scheduling: {nodeSelector: {a: b}, tolerations: [{key: a, operator: Exists}]}}"},
		{Name: "handler", Edit: "handler: Kata", Want: []string{`handler: Invalid value: "Kata": a lowercase RFC 1123 label…`}},
		{Name: "overhead", Edit: "overhead: {podFixed: {cpu: -1}}", Want: []string{
			`overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0`}},
		{Name: "scheduling", Edit: "scheduling: {nodeSelector: {'a b': c}, tolerations: [{key: a, operator: Exists}, {key: a, operator: Exists, tolerationSeconds: 1, effect: ''}]}", Want: []string{
			`scheduling.nodeSelector: Invalid value: "a b": name part must consist…`,
			`scheduling.tolerations[1].effect: Invalid value: "": effect must be 'NoExecute' when ` + "`tolerationSeconds` is set",
			`scheduling.tolerations[1]: Duplicate value: {"key":"a","operator":"Exists","tolerationSeconds":1}`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "overhead", Edit: "overhead: {podFixed: {cpu: 10m}}"},
		{Name: "handler", Edit: "handler: runc", Want: []string{`handler: Invalid value: "runc": field is immutable`}},
	})
}
