package core

import (
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func configMaps() *registry.Resource {
	return &registry.Resource{
		Kind: kind("ConfigMap"), Plural: "configmaps", Singular: "configmap", ShortNames: []string{"cm"},
		Namespaced: true, KeyPrefix: "/registry/configmaps/",
		New:     func() registry.Object { return &corev1.ConfigMap{} },
		NewList: func() runtime.Object { return &corev1.ConfigMapList{} },
		Strategy: registry.Strategy{
			Validate:       registry.Checks(checkConfigMap),
			ValidateUpdate: registry.ChecksChange(checkConfigMapUpdate),
			ValidateName:   dnsSubdomain,

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.NumericText("Data", corev1.ConfigMap{}.SwaggerDoc()["data"],
				func(c *corev1.ConfigMap) string { return strconv.Itoa(len(c.Data) + len(c.BinaryData)) }),
			registry.AgeColumn(),
		},
	}
}

func checkConfigMap(e *check.Errors, c *corev1.ConfigMap) {
	size := 0
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		at := field.NewPath("data").Key(key)
		e.Each(at, key, validation.IsConfigMapKey(key))
		if _, both := c.BinaryData[key]; both {
			e.Invalid(at, key, "duplicate of key present in binaryData")
		}
		size += len(c.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(c.BinaryData)) {
		e.Each(field.NewPath("binaryData").Key(key), key, validation.IsConfigMapKey(key))
		size += len(c.BinaryData[key])
	}
	if size > corev1.MaxSecretSize {
		e.Add(field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
}

func checkConfigMapUpdate(e *check.Errors, c, old *corev1.ConfigMap) {
	checkSealed(e, old.Immutable, c.Immutable, map[string][2]any{
		"data": {c.Data, old.Data}, "binaryData": {c.BinaryData, old.BinaryData},
	})
	checkConfigMap(e, c)
}

// checkSealed holds an object that was marked immutable to what it was. fields are new and old values.
func checkSealed(e *check.Errors, was, is *bool, fields map[string][2]any) {
	if was == nil || !*was {
		return
	}
	const detail = "field is immutable when `immutable` is set"
	if is == nil || !*is {
		e.Forbidden(field.NewPath("immutable"), detail)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		v := fields[name]
		if !equality.Semantic.DeepEqual(v[0], v[1]) {
			e.Forbidden(field.NewPath(name), detail)
		}
	}
}
