package customresource

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	crvalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"

	"bareboat.dev/apiserver/registry"
)

func content(obj registry.Object) map[string]any { return obj.(*registry.CustomObject).Object }

func (v *kindVersion) strategy() registry.Strategy {
	return registry.Strategy{
		Default: func(obj registry.Object) { v.fill(content(obj)) },
		PrepareCreate: func(obj registry.Object) {
			if v.hasStatus() {
				delete(content(obj), "status")
			}
		},
		PrepareUpdate: func(obj, old registry.Object) {
			if v.hasStatus() {
				carry(content(obj), content(old), "status")
			}
		},
		SpecChanged:    v.changed,
		Validate:       v.validate,
		ValidateUpdate: v.validateUpdate,
		Warnings:       func(obj registry.Object) []string { return finalizerWarnings(obj.GetFinalizers(), nil) },
		ChangeWarnings: func(obj, old registry.Object) []string {
			return finalizerWarnings(obj.GetFinalizers(), old.GetFinalizers())
		},
	}
}

// carry makes a member what it was before.
func carry(obj, old map[string]any, name string) {
	if was, ok := old[name]; ok {
		obj[name] = was
	} else {
		delete(obj, name)
	}
}

// changed reports whether anything but the metadata, and a status that is written by itself, has changed.
func (v *kindVersion) changed(obj, old registry.Object) bool {
	relevant := func(m map[string]any) map[string]any {
		out := make(map[string]any, len(m))
		for name, value := range m {
			if name != "metadata" && (name != "status" || !v.hasStatus()) {
				out[name] = value
			}
		}
		return out
	}
	return !equality.Semantic.DeepEqual(relevant(content(obj)), relevant(content(old)))
}

func (v *kindVersion) validate(o registry.Object) field.ErrorList {
	obj := content(o)
	if errs := v.typeErrors(obj); len(errs) > 0 {
		return errs
	}
	s, check, err := v.ready()
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	errs := crvalidation.ValidateCustomResource(nil, obj, check.whole)
	errs = append(errs, v.scaleSpec(obj)...)
	errs = append(errs, v.scaleStatus(obj)...)
	errs = append(errs, objectmeta.Validate(context.Background(), nil, obj, s, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s, obj)...)
	return v.withRules(errs, obj, nil)
}

func (v *kindVersion) validateUpdate(o, before registry.Object) field.ErrorList {
	obj, old := content(o), content(before)
	if errs := v.typeErrors(obj); len(errs) > 0 {
		return errs
	}
	s, check, err := v.ready()
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	// What was wrong before and has not changed is not held against a change (KEP-4008).
	correlated := common.NewCorrelatedObject(obj, old, &model.Structural{Structural: s})
	errs := crvalidation.ValidateCustomResourceUpdate(nil, obj, old, check.whole, crvalidation.WithRatcheting(correlated))
	errs = append(errs, v.scaleSpec(obj)...)
	errs = append(errs, v.scaleStatus(obj)...)
	errs = append(errs, objectmeta.Validate(context.Background(), nil, obj, s, false)...)
	errs = append(errs, listErrors(s, obj, old)...)
	return v.withRules(errs, obj, old, cel.WithRatcheting(correlated))
}

func (v *kindVersion) validateStatus(o, before registry.Object) field.ErrorList {
	obj, old := content(o), content(before)
	if errs := v.typeErrors(obj); len(errs) > 0 {
		return errs
	}
	s, check, err := v.ready()
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	correlated := common.NewCorrelatedObject(obj, old, &model.Structural{Structural: s})
	var options []crvalidation.ValidationOption
	if s != nil {
		options = append(options, crvalidation.WithRatcheting(correlated.Key("status")))
	}
	var errs field.ErrorList
	if status, ok := obj["status"]; ok {
		errs = crvalidation.ValidateCustomResourceUpdate(field.NewPath("status"), status, old["status"], check.status, options...)
	}
	errs = append(errs, v.scaleStatus(obj)...)
	errs = append(errs, listErrors(s, obj, old)...)
	return v.withRules(errs, obj, old, cel.WithRatcheting(correlated))
}

func (v *kindVersion) ready() (*structuralschema.Structural, validators, error) {
	s, err := v.schema()
	if err != nil {
		return nil, validators{}, err
	}
	check, err := v.validators()
	return s, check, err
}

// listErrors are about lists that are sets or maps, unless the old object had such errors too.
func listErrors(s *structuralschema.Structural, obj, old map[string]any) field.ErrorList {
	errs := listtype.ValidateListSetsAndMaps(nil, s, obj)
	if len(errs) > 0 && len(listtype.ValidateListSetsAndMaps(nil, s, old)) > 0 {
		return nil
	}
	return errs
}

// withRules adds what the CEL rules find, unless the object is not even of the form that they were compiled for.
func (v *kindVersion) withRules(errs field.ErrorList, obj, old map[string]any, options ...cel.Option) field.ErrorList {
	rules := v.rules()
	if rules == nil {
		return errs
	}
	blocking := []field.ErrorType{
		field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid,
	}
	if slices.ContainsFunc(errs, func(e *field.Error) bool { return slices.Contains(blocking, e.Type) }) {
		return append(errs, field.Invalid(nil, nil,
			"some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"))
	}
	s, err := v.schema()
	if err != nil {
		return append(errs, field.InternalError(nil, err))
	}
	var before any
	if old != nil {
		before = old
	}
	// The budget bounds the evaluation; it does no I/O that a context would end.
	found, _ := rules.Validate(context.Background(), nil, s, obj, before, celconfig.RuntimeCELCostBudget, options...)
	return append(errs, found...)
}

func (v *kindVersion) typeErrors(obj map[string]any) field.ErrorList {
	var errs field.ErrorList
	u := unstructured.Unstructured{Object: obj}
	if kind := u.GetKind(); kind != v.kind.Kind {
		errs = append(errs, field.Invalid(field.NewPath("kind"), kind, "must be "+v.kind.Kind))
	}
	if want := v.kind.GroupVersion().String(); u.GetAPIVersion() != want {
		errs = append(errs, field.Invalid(field.NewPath("apiVersion"), u.GetAPIVersion(), "must be "+want))
	}
	return errs
}

func (v *kindVersion) scaleSpec(obj map[string]any) field.ErrorList {
	if s := v.scale(); s != nil {
		return replicaErrors(obj, s.SpecReplicasPath)
	}
	return nil
}

func (v *kindVersion) scaleStatus(obj map[string]any) field.ErrorList {
	s := v.scale()
	if s == nil {
		return nil
	}
	errs := replicaErrors(obj, s.StatusReplicasPath)
	if selector := selectorPath(s); selector != "" {
		text, _, err := unstructured.NestedString(obj, pathOf(selector)...)
		if err != nil {
			errs = append(errs, field.Invalid(field.NewPath(selector), text, err.Error()))
		}
	}
	return errs
}

func selectorPath(s *v1.CustomResourceSubresourceScale) string {
	if s.LabelSelectorPath == nil {
		return ""
	}
	return *s.LabelSelectorPath
}

func replicaErrors(obj map[string]any, jsonPath string) field.ErrorList {
	at := field.NewPath(jsonPath)
	n, _, err := unstructured.NestedInt64(obj, pathOf(jsonPath)...)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(at, n, err.Error())}
	case n < 0:
		return field.ErrorList{field.Invalid(at, n, "should be a non-negative integer")}
	case n > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, n, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32))}
	}
	return nil
}

// finalizerWarnings are about the names of finalizers that are new.
func finalizerWarnings(now, before []string) []string {
	known := []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents, string(corev1.FinalizerKubernetes)}
	var out []string
	for _, f := range slices.Sorted(slices.Values(now)) {
		if slices.Contains(before, f) {
			continue
		}
		for _, bad := range validation.IsQualifiedName(f) {
			out = append(out, fmt.Sprintf("metadata.finalizers: %q: %s", f, bad))
		}
		switch {
		case strings.Contains(f, "/") || slices.Contains(known, f):
		case strings.Contains(f, "."):
			out = append(out, fmt.Sprintf("metadata.finalizers: %q: prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers", f))
		default:
			out = append(out, fmt.Sprintf("metadata.finalizers: %q: prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers", f))
		}
	}
	return out
}
