// Package storage is storage.k8s.io/v1.
package storage

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

const (
	maxParameters     = 512
	maxParametersSize = 256 << 10
)

// isDefaultClass are the annotations that mark the class of claims that name none; the second one is older.
var isDefaultClass = []string{"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"}

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	return []*registry.Resource{storageClasses(), drivers(), csiNodes(), capacities(), attachments(), attributesClasses()}
}

// checkDriverName checks what a CSI driver calls itself.
func checkDriverName(e *check.Errors, name string, at *field.Path) {
	const longest = 63
	if !e.Present(at, name) {
		return
	}
	if len(name) > longest {
		e.Add(field.TooLong(at, name, longest))
	}
	e.Each(at, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))
}

func setIfNil[T any](dst **T, value T) {
	if *dst == nil {
		*dst = &value
	}
}

func storageClasses() *registry.Resource {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	name := registry.Text("Name", "", className)
	name.TableColumnDefinition = registry.NameColumn().TableColumnDefinition
	return &registry.Resource{
		Kind:   storagev1.SchemeGroupVersion.WithKind("StorageClass"),
		Plural: "storageclasses", Singular: "storageclass",
		ShortNames: []string{"sc"},
		KeyPrefix:  "/registry/storageclasses/",
		New:        func() registry.Object { return &storagev1.StorageClass{} },
		NewList:    func() runtime.Object { return &storagev1.StorageClassList{} },
		Strategy: registry.Strategy{
			Default:        registry.On(defaultClass),
			Validate:       registry.Checks(checkClass),
			ValidateUpdate: registry.ChecksChange(checkClassUpdate),
			ValidateName:   apivalidation.NameIsDNSSubdomain,
			Warnings:       registry.Warns(classWarnings),

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			name,
			registry.Text("Provisioner", doc["provisioner"], func(c *storagev1.StorageClass) string { return c.Provisioner }),
			registry.Text("ReclaimPolicy", doc["reclaimPolicy"], func(c *storagev1.StorageClass) string {
				if c.ReclaimPolicy == nil {
					return string(corev1.PersistentVolumeReclaimDelete)
				}
				return string(*c.ReclaimPolicy)
			}),
			registry.Text("VolumeBindingMode", doc["volumeBindingMode"], func(c *storagev1.StorageClass) string {
				if c.VolumeBindingMode == nil {
					return string(storagev1.VolumeBindingImmediate)
				}
				return string(*c.VolumeBindingMode)
			}),
			registry.TruthText("AllowVolumeExpansion", doc["allowVolumeExpansion"], func(c *storagev1.StorageClass) bool {
				return c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion
			}),
			registry.AgeColumn(),
		},
	}
}

func className(c *storagev1.StorageClass) string {
	for _, a := range isDefaultClass {
		if c.Annotations[a] == "true" {
			return c.Name + " (default)"
		}
	}
	return c.Name
}

func defaultClass(c *storagev1.StorageClass) {
	if c.ReclaimPolicy == nil {
		policy := corev1.PersistentVolumeReclaimDelete
		c.ReclaimPolicy = &policy
	}
	if c.VolumeBindingMode == nil {
		mode := storagev1.VolumeBindingImmediate
		c.VolumeBindingMode = &mode
	}
}

func checkClass(e *check.Errors, c *storagev1.StorageClass) {
	if at := field.NewPath("provisioner"); e.Present(at, c.Provisioner) {
		e.QualifiedName(at, strings.ToLower(c.Provisioner))
	}
	checkParameters(e, c.Parameters, field.NewPath("parameters"))
	if p := c.ReclaimPolicy; p != nil && *p != "" {
		check.Supported(e, field.NewPath("reclaimPolicy"), *p, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)
	}
	if m := c.VolumeBindingMode; m != nil {
		check.Supported(e, field.NewPath("volumeBindingMode"), *m, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)
	}
	checkTopologies(e, c.AllowedTopologies, field.NewPath("allowedTopologies"))
}

func checkClassUpdate(e *check.Errors, c, old *storagev1.StorageClass) {
	checkClass(e, c)
	e.Immutable(field.NewPath("parameters"), c.Parameters, old.Parameters)
	e.Immutable(field.NewPath("provisioner"), c.Provisioner, old.Provisioner)
	e.Immutable(field.NewPath("reclaimPolicy"), c.ReclaimPolicy, old.ReclaimPolicy)
	e.Immutable(field.NewPath("volumeBindingMode"), c.VolumeBindingMode, old.VolumeBindingMode)
}

func checkParameters(e *check.Errors, parameters map[string]string, at *field.Path) {
	if len(parameters) > maxParameters {
		e.Add(field.TooLong(at, "", maxParameters))
		return
	}
	size := 0
	for k, v := range parameters {
		if k == "" {
			e.Invalid(at, k, "field can not be empty.")
		}
		size += len(k) + len(v)
	}
	if size > maxParametersSize {
		e.Add(field.TooLong(at, "", maxParametersSize))
	}
}

// checkTopologies: a term's keys differ, a key's values differ, and so do the terms.
func checkTopologies(e *check.Errors, terms []corev1.TopologySelectorTerm, at *field.Path) {
	var before []map[string]sets.Set[string]
	for i, term := range terms {
		expressions := at.Index(i).Child("matchLabelExpressions")
		keys := map[string]sets.Set[string]{}
		for j, r := range term.MatchLabelExpressions {
			one := expressions.Index(j)
			values := sets.New[string]()
			if len(r.Values) == 0 {
				e.Required(one.Child("values"), "")
			}
			for k, v := range r.Values {
				if values.Has(v) {
					e.Duplicate(one.Child("values").Index(k), v)
				}
				values.Insert(v)
			}
			e.LabelName(one.Child("key"), r.Key)
			if _, twice := keys[r.Key]; twice {
				e.Duplicate(one.Child("key"), r.Key)
			}
			keys[r.Key] = values
		}
		// A term without expressions never passes, be it the first.
		same := func(other map[string]sets.Set[string]) bool {
			return maps.EqualFunc(keys, other, func(a, b sets.Set[string]) bool { return a.Equal(b) })
		}
		if len(keys) == 0 || slices.ContainsFunc(before, same) {
			e.Duplicate(expressions, "")
		}
		before = append(before, keys)
	}
}

// classWarnings are about deprecated labels of nodes.
func classWarnings(c *storagev1.StorageClass) []string {
	var list []string
	for i, term := range c.AllowedTopologies {
		for j, r := range term.MatchLabelExpressions {
			if why := podspec.DeprecatedLabel(r.Key); why != "" {
				at := field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j).Child("key")
				list = append(list, at.String()+": "+why)
			}
		}
	}
	return list
}
