package apiextensions_test

import (
	"testing"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/registry/codec"
)

// No definition, however wrong its schema and rules, makes validation panic or takes long.
func FuzzDefinition(f *testing.F) {
	f.Add([]byte(base))
	f.Add([]byte(base + "          status: {type: array, items: {type: string, x-kubernetes-validations: [{rule: 'self == oldSelf', messageExpression: '1'}]}}\n"))
	f.Add([]byte("spec: {versions: [{name: v1, storage: true, schema: {openAPIV3Schema: {allOf: [{not: {properties: {a: {default: {b: 1}}}}}]}}}]}"))
	r := kind(f)
	f.Fuzz(func(_ *testing.T, body []byte) {
		if codec.Bounded(codec.YAML, body) != nil {
			return
		}
		d := &v1.CustomResourceDefinition{}
		if yaml.Unmarshal(body, d) != nil {
			return
		}
		r.Strategy.Default(d)
		r.Strategy.Validate(d)
		r.Strategy.Warnings(d)
		r.Strategy.ValidateUpdate(d, d.DeepCopy())
	})
}
