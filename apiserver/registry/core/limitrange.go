package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func limitRanges() *registry.Resource {
	created := registry.Text("Created At", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], func(l *corev1.LimitRange) string {
		return l.CreationTimestamp.UTC().Format(time.RFC3339)
	})
	created.Type = "date"
	return &registry.Resource{
		Kind: kind("LimitRange"), Plural: "limitranges", Singular: "limitrange",
		ShortNames: []string{"limits"},
		Namespaced: true, KeyPrefix: "/registry/limitranges/",
		New:     func() registry.Object { return &corev1.LimitRange{} },
		NewList: func() runtime.Object { return &corev1.LimitRangeList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(l *corev1.LimitRange) {
				for i := range l.Spec.Limits {
					defaultLimits(&l.Spec.Limits[i])
				}
			}),
			Validate:       registry.Checks(checkLimitRange),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, l, _ *corev1.LimitRange) { checkLimitRange(e, l) }),
			ValidateName:   dnsSubdomain,

			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{registry.NameColumn(), created},
	}
}

// defaultLimits: for containers, the default limit is the greatest one, and the default request the default limit or else
// the least one.
func defaultLimits(l *corev1.LimitRangeItem) {
	if l.Type == corev1.LimitTypeContainer {
		l.Default = filled(l.Default, l.Max)
		l.DefaultRequest = filled(filled(l.DefaultRequest, l.Default), l.Min)
	}
	for _, list := range []corev1.ResourceList{l.Max, l.Min, l.Default, l.DefaultRequest, l.MaxLimitRequestRatio} {
		podspec.DefaultResources(list)
	}
}

func filled(list, from corev1.ResourceList) corev1.ResourceList {
	if list == nil {
		list = corev1.ResourceList{}
	}
	for name, q := range from {
		if _, set := list[name]; !set {
			list[name] = q.DeepCopy()
		}
	}
	return list
}

func checkLimitRange(e *check.Errors, r *corev1.LimitRange) {
	seen := map[corev1.LimitType]bool{}
	for i := range r.Spec.Limits {
		l, at := &r.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		checkLimitType(e, l.Type, at.Child("type"))
		if seen[l.Type] {
			e.Duplicate(at.Child("type"), l.Type)
		}
		seen[l.Type] = true
		checkLimits(e, l, at)
	}
}

func checkLimitType(e *check.Errors, t corev1.LimitType, at *field.Path) {
	before := len(e.List)
	e.QualifiedName(at, string(t))
	switch t {
	case corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim:
		return
	}
	if len(e.List) == before && !strings.Contains(string(t), "/") {
		e.Invalid(at, t, "must be a standard limit type or fully qualified")
	}
}

func checkLimits(e *check.Errors, l *corev1.LimitRangeItem, at *field.Path) {
	names := map[corev1.ResourceName]bool{}
	list := func(name string, amounts corev1.ResourceList) {
		for _, resource := range slices.Sorted(maps.Keys(amounts)) {
			names[resource] = true
			if here := at.Child(name).Key(string(resource)); l.Type == corev1.LimitTypePod || l.Type == corev1.LimitTypeContainer {
				podspec.ValidateContainerResourceName(e, here, resource)
			} else {
				podspec.ValidateResourceName(e, here, resource)
			}
		}
	}
	list("max", l.Max)
	list("min", l.Min)
	checked := *l
	if l.Type == corev1.LimitTypePod {
		const never = "may not be specified when `type` is 'Pod'"
		if len(l.Default) > 0 {
			e.Forbidden(at.Child("default"), never)
		}
		if len(l.DefaultRequest) > 0 {
			e.Forbidden(at.Child("defaultRequest"), never)
		}
		checked.Default, checked.DefaultRequest = nil, nil
	} else {
		list("default", l.Default)
		list("defaultRequest", l.DefaultRequest)
	}
	if l.Type == corev1.LimitTypePersistentVolumeClaim {
		_, least := l.Min[corev1.ResourceStorage]
		_, most := l.Max[corev1.ResourceStorage]
		if !least && !most {
			e.Required(at.Child("limits"), "either minimum or maximum storage value is required, but neither was provided")
		}
	}
	list("maxLimitRequestRatio", l.MaxLimitRequestRatio)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		checkLimit(e, &checked, name, at)
	}
}

// checkLimit checks what an item says of one resource: min <= default request <= default <= max, and the ratio possible.
func checkLimit(e *check.Errors, l *corev1.LimitRangeItem, name corev1.ResourceName, at *field.Path) {
	least, hasLeast := l.Min[name]
	most, hasMost := l.Max[name]
	limit, hasLimit := l.Default[name]
	request, hasRequest := l.DefaultRequest[name]
	ratio, hasRatio := l.MaxLimitRequestRatio[name]
	// greater says that a is greater than b though it may not be; the value of the message is shown.
	greater := func(both bool, field string, shown, a, b resource.Quantity, aName, bName string) {
		if both && a.Cmp(b) > 0 {
			e.Invalid(at.Child(field).Key(string(name)), shown,
				fmt.Sprintf("%s value %s is greater than %s value %s", aName, a.String(), bName, b.String()))
		}
	}
	greater(hasLeast && hasMost, "min", least, least, most, "min", "max")
	greater(hasRequest && hasLeast, "defaultRequest", request, least, request, "min", "default request")
	greater(hasRequest && hasMost, "defaultRequest", request, request, most, "default request", "max")
	greater(hasRequest && hasLimit, "defaultRequest", request, request, limit, "default request", "default limit")
	greater(hasLimit && hasLeast, "default", least, least, limit, "min", "default")
	greater(hasLimit && hasMost, "default", most, limit, most, "default", "max")
	if hasRatio {
		here := at.Child("maxLimitRequestRatio").Key(string(name))
		if ratio.Cmp(resource.MustParse("1")) < 0 {
			e.Invalid(here, ratio, fmt.Sprintf("ratio %s is less than 1", ratio.String()))
		}
		if possible := most.AsApproximateFloat64() / least.AsApproximateFloat64(); hasLeast && hasMost && ratio.AsApproximateFloat64() > possible {
			e.Invalid(here, ratio, fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), possible))
		}
	}
	if !podspec.Overcommits(name) && hasLimit && hasRequest && limit.Cmp(request) != 0 {
		e.Invalid(at.Child("defaultRequest").Key(string(name)), request,
			fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", limit.String(), request.String(), name))
	}
}
