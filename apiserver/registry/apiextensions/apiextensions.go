// Package apiextensions holds the resource of apiextensions.k8s.io/v1: CustomResourceDefinition, by which users bring kinds of
// their own. What a definition makes the server serve is apiserver/customresource's business; here is what a valid one is.
//
// The rules are checked on the library's internal form of a definition, in which fields that all versions have in common
// stand once at the top: Kubernetes words its errors so, and a definition of one version has its schema under
// spec.validation there.
package apiextensions

import (
	"slices"
	"strings"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/registry"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{definitions()} }

func definitions() *registry.Resource {
	type crd = *v1.CustomResourceDefinition
	return &registry.Resource{
		Kind:       v1.SchemeGroupVersion.WithKind("CustomResourceDefinition"),
		Plural:     "customresourcedefinitions",
		Singular:   "customresourcedefinition",
		ShortNames: []string{"crd", "crds"},
		Categories: []string{"api-extensions"},
		Defines:    true,
		KeyPrefix:  "/registry/apiextensions.k8s.io/customresourcedefinitions/",
		New:        func() registry.Object { return &v1.CustomResourceDefinition{} },
		NewList:    func() runtime.Object { return &v1.CustomResourceDefinitionList{} },
		Strategy: registry.Strategy{
			AnyFinalizer:  true,
			Default:       registry.On(setDefaults),
			PrepareCreate: registry.On(func(d crd) { d.Status = v1.CustomResourceDefinitionStatus{}; store(d) }),
			PrepareUpdate: registry.OnChange(func(d, old crd) {
				old.Status.DeepCopyInto(&d.Status)
				store(d)
			}),
			Validate:       registry.Checks(validate),
			ValidateUpdate: registry.ChecksChange(validateUpdate),
			Warnings:       func(obj registry.Object) []string { return warnings(obj.(crd)) },
			ChangeWarnings: func(obj, old registry.Object) []string { return newWarnings(obj.(crd), old.(crd)) },
			SpecChanged:    registry.Differs(func(d, old crd) bool { return !equality.Semantic.DeepEqual(d.Spec, old.Spec) }),
			// A definition goes when its instances have gone, which the finalizer that its deletion adds waits for.
			Held:        func(obj registry.Object) bool { return obj.GetDeletionTimestamp() == nil },
			MarkDeleted: func(obj registry.Object) { markDeleted(obj.(crd)) },
		},
		Columns: columns(),
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(d, body crd) { body.Status.DeepCopyInto(&d.Status) }, validateStatus),
		},
	}
}

func setDefaults(d *v1.CustomResourceDefinition) {
	names := &d.Spec.Names
	if names.Singular == "" {
		names.Singular = strings.ToLower(names.Kind)
	}
	if names.ListKind == "" && names.Kind != "" {
		names.ListKind = names.Kind + "List"
	}
	if d.Spec.Conversion == nil {
		d.Spec.Conversion = &v1.CustomResourceConversion{Strategy: v1.NoneConverter}
	}
	if w := d.Spec.Conversion.Webhook; w != nil && w.ClientConfig != nil && w.ClientConfig.Service != nil && w.ClientConfig.Service.Port == nil {
		port := int32(443)
		w.ClientConfig.Service.Port = &port
	}
	if len(d.Status.StoredVersions) == 0 {
		store(d)
	}
}

// store adds the storage version to those in which objects may be in the store.
func store(d *v1.CustomResourceDefinition) {
	i := slices.IndexFunc(d.Spec.Versions, func(v v1.CustomResourceDefinitionVersion) bool { return v.Storage })
	if i < 0 || slices.Contains(d.Status.StoredVersions, d.Spec.Versions[i].Name) {
		return
	}
	d.Status.StoredVersions = append(d.Status.StoredVersions, d.Spec.Versions[i].Name)
}

func markDeleted(d *v1.CustomResourceDefinition) {
	if !slices.Contains(d.Finalizers, v1.CustomResourceCleanupFinalizer) {
		d.Finalizers = append(d.Finalizers, v1.CustomResourceCleanupFinalizer)
	}
	now := metav1.Time{}
	if d.DeletionTimestamp != nil {
		now = *d.DeletionTimestamp
	}
	SetCondition(d, v1.CustomResourceDefinitionCondition{
		Type: v1.Terminating, Status: v1.ConditionTrue, Reason: "InstanceDeletionPending",
		Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
	}, now)
}

// Condition returns the condition of a type, or nil.
func Condition(d *v1.CustomResourceDefinition, t v1.CustomResourceDefinitionConditionType) *v1.CustomResourceDefinitionCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == t {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

// Is reports whether the condition of a type is true.
func Is(d *v1.CustomResourceDefinition, t v1.CustomResourceDefinitionConditionType) bool {
	c := Condition(d, t)
	return c != nil && c.Status == v1.ConditionTrue
}

// SetCondition adds or replaces a condition; its transition time is now if its status changes.
func SetCondition(d *v1.CustomResourceDefinition, c v1.CustomResourceDefinitionCondition, now metav1.Time) {
	c.LastTransitionTime = now
	have := Condition(d, c.Type)
	if have == nil {
		d.Status.Conditions = append(d.Status.Conditions, c)
		return
	}
	if have.Status == c.Status && !have.LastTransitionTime.IsZero() {
		c.LastTransitionTime = have.LastTransitionTime
	}
	*have = c
}
