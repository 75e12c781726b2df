package apps

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func daemonSets() *registry.Resource {
	doc := appsv1.DaemonSetStatus{}.SwaggerDoc()
	number := func(name, field string, n func(appsv1.DaemonSetStatus) int32) registry.Column {
		return registry.Number(name, doc[field], func(d *appsv1.DaemonSet) int64 { return int64(n(d.Status)) })
	}
	columns := []registry.Column{
		registry.NameColumn(),
		number("Desired", "desiredNumberScheduled", func(s appsv1.DaemonSetStatus) int32 { return s.DesiredNumberScheduled }),
		number("Current", "currentNumberScheduled", func(s appsv1.DaemonSetStatus) int32 { return s.CurrentNumberScheduled }),
		number("Ready", "numberReady", func(s appsv1.DaemonSetStatus) int32 { return s.NumberReady }),
		number("Up-to-date", "updatedNumberScheduled", func(s appsv1.DaemonSetStatus) int32 { return s.UpdatedNumberScheduled }),
		number("Available", "numberAvailable", func(s appsv1.DaemonSetStatus) int32 { return s.NumberAvailable }),
		registry.Text("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"],
			func(d *appsv1.DaemonSet) string { return registry.LabelsText(d.Spec.Template.Spec.NodeSelector) }),
		registry.AgeColumn(),
	}
	columns = append(columns, podspec.TemplateColumns(func(d *appsv1.DaemonSet) *corev1.PodTemplateSpec { return &d.Spec.Template })...)
	columns = append(columns, registry.Text("Selector", appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"],
		func(d *appsv1.DaemonSet) string { return metav1.FormatLabelSelector(d.Spec.Selector) }).Wide())
	warnings, changeWarnings := podspec.TemplateWarnings(func(d *appsv1.DaemonSet) *corev1.PodTemplateSpec { return &d.Spec.Template }, nil, field.NewPath("spec", "template"))
	return &registry.Resource{
		Kind: kind("DaemonSet"), Plural: "daemonsets", Singular: "daemonset", ShortNames: []string{"ds"}, Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/daemonsets/",
		New:     func() registry.Object { return &appsv1.DaemonSet{} },
		NewList: func() runtime.Object { return &appsv1.DaemonSetList{} },
		Strategy: registry.Strategy{
			Default: registry.On(defaultDaemonSet),
			PrepareCreate: registry.On(func(d *appsv1.DaemonSet) {
				d.Status = appsv1.DaemonSetStatus{}
				setTemplateGeneration(d, max(templateGeneration(d), 1))
			}),
			PrepareUpdate: registry.OnChange(func(d, old *appsv1.DaemonSet) {
				d.Status = old.Status
				n := templateGeneration(old)
				if !equality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
					n++
				}
				setTemplateGeneration(d, n)
			}),
			Validate: registry.Checks(checkDaemonSet),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, d, old *appsv1.DaemonSet) {
				checkDaemonSet(e, d)
				e.Immutable(spec.Child("selector"), d.Spec.Selector, old.Spec.Selector)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(d, old *appsv1.DaemonSet) bool {
				return !equality.Semantic.DeepEqual(d.Spec, old.Spec)
			}),

			// Its pods' names begin with it, but are no host names that anybody asks for.
			Warnings: func(obj registry.Object) []string {
				return warnings(obj)[len(podspec.TemplateNameWarnings(obj.GetName())):]
			},
			ChangeWarnings:           changeWarnings,
			AllowUnconditionalUpdate: true,
		},
		Columns: columns,
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(d, body *appsv1.DaemonSet) { d.Status = body.Status }, checkDaemonSetStatus),
		},
	}
}

// templateGeneration counts the changes of the template, in an annotation that controllers of old read.
func templateGeneration(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func setTemplateGeneration(d *appsv1.DaemonSet, n int64) {
	metav1.SetMetaDataAnnotation(&d.ObjectMeta, appsv1.DeprecatedTemplateGeneration, strconv.FormatInt(n, 10))
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	u := &d.Spec.UpdateStrategy
	if u.Type == "" {
		u.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if u.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		setIfNil(&u.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		setIfNil(&u.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		setIfNil(&u.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	setIfNil(&d.Spec.RevisionHistoryLimit, 10)
	podspec.Default(&d.Spec.Template.Spec)
}

func checkDaemonSet(e *check.Errors, d *appsv1.DaemonSet) {
	at := spec.Child("selector")
	e.Selector(at, d.Spec.Selector)
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err == nil && !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		e.Invalid(spec.Child("template", "metadata", "labels"), d.Spec.Template.Labels, "`selector` does not match template `labels`")
	}
	if s := d.Spec.Selector; s != nil && len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		e.Invalid(at, s, "empty selector is invalid for daemonset")
	}
	podspec.ValidateSelected(e, &d.Spec.Template, "DaemonSet", spec.Child("template"))
	e.NonNegative(spec.Child("minReadySeconds"), int64(d.Spec.MinReadySeconds))
	checkDaemonSetStrategy(e, &d.Spec.UpdateStrategy, spec.Child("updateStrategy"))
	if d.Spec.RevisionHistoryLimit != nil {
		e.NonNegative(spec.Child("revisionHistoryLimit"), int64(*d.Spec.RevisionHistoryLimit))
	}
}

func checkDaemonSetStrategy(e *check.Errors, u *appsv1.DaemonSetUpdateStrategy, at *field.Path) {
	if u.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		check.Supported(e, at, u.Type, appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType)
		return
	}
	at = at.Child("rollingUpdate")
	r := u.RollingUpdate
	if r == nil {
		e.Required(at, "")
		return
	}
	amount := func(name string, v *intstr.IntOrString) (set bool) {
		if v == nil {
			return false
		}
		e.NonNegativeIntOrPercent(at.Child(name), *v)
		e.AtMostAllPercent(at.Child(name), *v)
		return !check.IsZeroIntOrPercent(*v)
	}
	unavailable, surge := amount("maxUnavailable", r.MaxUnavailable), amount("maxSurge", r.MaxSurge)
	switch {
	case unavailable && surge:
		e.Invalid(at.Child("maxSurge"), r.MaxSurge, "may not be set when maxUnavailable is non-zero")
	case !unavailable && !surge:
		e.Required(at.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0")
	}
}

func checkDaemonSetStatus(e *check.Errors, d, old *appsv1.DaemonSet) {
	s, at := d.Status, field.NewPath("status")
	e.NonNegative(at.Child("currentNumberScheduled"), int64(s.CurrentNumberScheduled))
	e.NonNegative(at.Child("numberMisscheduled"), int64(s.NumberMisscheduled))
	e.NonNegative(at.Child("desiredNumberScheduled"), int64(s.DesiredNumberScheduled))
	e.NonNegative(at.Child("numberReady"), int64(s.NumberReady))
	e.NonNegative(at.Child("observedGeneration"), s.ObservedGeneration)
	e.NonNegative(at.Child("updatedNumberScheduled"), int64(s.UpdatedNumberScheduled))
	e.NonNegative(at.Child("numberAvailable"), int64(s.NumberAvailable))
	e.NonNegative(at.Child("numberUnavailable"), int64(s.NumberUnavailable))
	checkCollisions(e, s.CollisionCount, old.Status.CollisionCount, at.Child("collisionCount"))
}
