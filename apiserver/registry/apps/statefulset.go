package apps

import (
	"fmt"

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

func statefulSets() *registry.Resource {
	columns := []registry.Column{
		registry.NameColumn(),
		registry.Text("Ready", "Number of the pod with ready state", func(s *appsv1.StatefulSet) string {
			return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, *s.Spec.Replicas)
		}),
		registry.AgeColumn(),
	}
	warnings, changeWarnings := podspec.TemplateWarnings(func(s *appsv1.StatefulSet) *corev1.PodTemplateSpec { return &s.Spec.Template }, claimWarnings, field.NewPath("spec", "template"))
	return &registry.Resource{
		Kind: kind("StatefulSet"), Plural: "statefulsets", Singular: "statefulset", ShortNames: []string{"sts"}, Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/statefulsets/",
		New:     func() registry.Object { return &appsv1.StatefulSet{} },
		NewList: func() runtime.Object { return &appsv1.StatefulSetList{} },
		Strategy: registry.Strategy{
			Default:        registry.On(defaultStatefulSet),
			PrepareCreate:  registry.On(func(s *appsv1.StatefulSet) { s.Status = appsv1.StatefulSetStatus{} }),
			PrepareUpdate:  registry.OnChange(func(s, old *appsv1.StatefulSet) { s.Status = old.Status }),
			Validate:       registry.Checks(checkStatefulSetCreate),
			ValidateUpdate: registry.ChecksChange(checkStatefulSetUpdate),
			// Its pods' host names begin with it.
			ValidateName: apivalidation.NameIsDNSLabel,
			SpecChanged: registry.Differs(func(s, old *appsv1.StatefulSet) bool {
				return !equality.Semantic.DeepEqual(s.Spec, old.Spec)
			}),

			Warnings:                 warnings,
			ChangeWarnings:           changeWarnings,
			AllowUnconditionalUpdate: true,
		},
		Columns: append(columns, podspec.TemplateColumns(func(s *appsv1.StatefulSet) *corev1.PodTemplateSpec { return &s.Spec.Template })...),
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(s, body *appsv1.StatefulSet) { s.Status = body.Status }, checkStatefulSetStatus),
			"scale": registry.ScaleSubresource(registry.Scaled[*appsv1.StatefulSet]{
				Replicas: func(s *appsv1.StatefulSet) (desired **int32, current int32, selector *metav1.LabelSelector) {
					return &s.Spec.Replicas, s.Status.Replicas, s.Spec.Selector
				},
				Validate: checkStatefulSetUpdate,
			}),
		},
	}
}

func defaultStatefulSet(s *appsv1.StatefulSet) {
	setIfNil(&s.Spec.Replicas, 1)
	setIfNil(&s.Spec.RevisionHistoryLimit, 10)
	if s.Spec.PodManagementPolicy == "" {
		s.Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	u := &s.Spec.UpdateStrategy
	if u.Type == "" {
		u.Type = appsv1.RollingUpdateStatefulSetStrategyType
		setIfNil(&u.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	}
	if u.Type == appsv1.RollingUpdateStatefulSetStrategyType && u.RollingUpdate != nil {
		setIfNil(&u.RollingUpdate.Partition, 0)
		setIfNil(&u.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	}
	// What kind the templates are goes without saying, and the store does not say it: what is sent is to equal what is kept.
	for i := range s.Spec.VolumeClaimTemplates {
		s.Spec.VolumeClaimTemplates[i].TypeMeta = metav1.TypeMeta{}
	}
	setIfNil(&s.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	for _, p := range []*appsv1.PersistentVolumeClaimRetentionPolicyType{
		&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, &s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled,
	} {
		if *p == "" {
			*p = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
		}
	}
	podspec.Default(&s.Spec.Template.Spec)
	for i := range s.Spec.VolumeClaimTemplates {
		c := &s.Spec.VolumeClaimTemplates[i]
		podspec.DefaultClaimSpec(&c.Spec)
		if c.Status.Phase == "" {
			c.Status.Phase = corev1.ClaimPending
		}
	}
}

// checkStatefulSetCreate also checks what can never change, and what older servers did not check.
func checkStatefulSetCreate(e *check.Errors, s *appsv1.StatefulSet) {
	checkStatefulSet(e, s)
	if name := s.Spec.ServiceName; name != "" {
		e.Label(spec.Child("serviceName"), name)
	}
	for i := range s.Spec.VolumeClaimTemplates {
		podspec.ValidateClaimSpec(e, &s.Spec.VolumeClaimTemplates[i].Spec, spec.Child("volumeClaimTemplates").Index(i).Child("spec"))
	}
}

func checkStatefulSet(e *check.Errors, s *appsv1.StatefulSet) {
	switch p := s.Spec.PodManagementPolicy; p {
	case "":
		e.Required(spec.Child("podManagementPolicy"), "")
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		e.Invalid(spec.Child("podManagementPolicy"), p,
			fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement))
	}
	checkStatefulSetStrategy(e, &s.Spec.UpdateStrategy, spec.Child("updateStrategy"))
	if p := s.Spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		at := spec.Child("persistentVolumeClaimRetentionPolicy")
		allowed := []appsv1.PersistentVolumeClaimRetentionPolicyType{
			appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
		}
		check.Supported(e, at.Child("whenDeleted"), p.WhenDeleted, allowed...)
		check.Supported(e, at.Child("whenScaled"), p.WhenScaled, allowed...)
	}
	e.NonNegative(spec.Child("replicas"), int64(*s.Spec.Replicas))
	e.NonNegative(spec.Child("minReadySeconds"), int64(s.Spec.MinReadySeconds))
	if o := s.Spec.Ordinals; o != nil {
		e.NonNegative(spec.Child("ordinals.start"), int64(o.Start))
	}
	checkStatefulSetTemplate(e, s)
}

func checkStatefulSetStrategy(e *check.Errors, u *appsv1.StatefulSetUpdateStrategy, at *field.Path) {
	switch u.Type {
	case "":
		e.Required(at, "")
	case appsv1.OnDeleteStatefulSetStrategyType:
		if u.RollingUpdate != nil {
			e.Invalid(at.Child("rollingUpdate"), u.RollingUpdate,
				fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if u.RollingUpdate == nil {
			return
		}
		at = at.Child("rollingUpdate")
		if p := u.RollingUpdate.Partition; p != nil {
			e.NonNegative(at.Child("partition"), int64(*p))
		}
		if m := u.RollingUpdate.MaxUnavailable; m != nil {
			e.NonNegativeIntOrPercent(at.Child("maxUnavailable"), *m)
			if check.IsZeroIntOrPercent(*m) {
				e.Invalid(at.Child("maxUnavailable"), *m, "cannot be 0")
			}
			e.AtMostAllPercent(at.Child("maxUnavailable"), *m)
		}
	default:
		e.Invalid(at, u, fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))
	}
}

// checkStatefulSetTemplate checks the template as its pods will be: with a volume per claim template, and without names.
func checkStatefulSetTemplate(e *check.Errors, s *appsv1.StatefulSet) {
	at := spec.Child("selector")
	if sel := s.Spec.Selector; sel == nil {
		e.Required(at, "")
	} else {
		e.Selector(at, sel)
		if len(sel.MatchLabels)+len(sel.MatchExpressions) == 0 {
			e.Invalid(at, sel, "empty selector is invalid for statefulset")
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s.Spec.Selector)
	if err != nil {
		e.Invalid(at, s.Spec.Selector, "")
		return
	}
	template := spec.Child("template")
	if !selector.Empty() && !selector.Matches(labels.Set(s.Spec.Template.Labels)) {
		e.Invalid(template.Child("metadata", "labels"), s.Spec.Template.Labels, "`selector` does not match template `labels`")
	}
	t := s.Spec.Template.DeepCopy()
	// The controller sets these for each pod.
	t.Spec.Hostname, t.Spec.Subdomain = "", ""
	for _, c := range s.Spec.VolumeClaimTemplates {
		t.Spec.Volumes = append(withoutVolume(t.Spec.Volumes, c.Name), corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name + "-" + s.Name},
		}})
	}
	podspec.ValidateSelected(e, t, "StatefulSet", template)
}

func withoutVolume(volumes []corev1.Volume, name string) []corev1.Volume {
	var kept []corev1.Volume
	for _, v := range volumes {
		if v.Name != name {
			kept = append(kept, v)
		}
	}
	return kept
}

func checkStatefulSetUpdate(e *check.Errors, s, old *appsv1.StatefulSet) {
	checkStatefulSet(e, s)
	e.Immutable(spec.Child("selector"), s.Spec.Selector, old.Spec.Selector)
	e.Immutable(spec.Child("volumeClaimTemplates"), s.Spec.VolumeClaimTemplates, old.Spec.VolumeClaimTemplates)
	e.Immutable(spec.Child("serviceName"), s.Spec.ServiceName, old.Spec.ServiceName)
	e.Immutable(spec.Child("podManagementPolicy"), s.Spec.PodManagementPolicy, old.Spec.PodManagementPolicy)
}

func checkStatefulSetStatus(e *check.Errors, s, old *appsv1.StatefulSet) {
	st, at := s.Status, field.NewPath("status")
	counts := []struct {
		name string
		n    int32
	}{
		{"replicas", st.Replicas}, {"readyReplicas", st.ReadyReplicas}, {"currentReplicas", st.CurrentReplicas},
		{"updatedReplicas", st.UpdatedReplicas}, {"availableReplicas", st.AvailableReplicas},
	}
	for _, c := range counts {
		e.NonNegative(at.Child(c.name), int64(c.n))
	}
	e.NonNegative(at.Child("observedGeneration"), st.ObservedGeneration)
	for _, c := range counts[1:] {
		if c.n > st.Replicas {
			e.Invalid(at.Child(c.name), c.n, "cannot be greater than status.replicas")
		}
	}
	if st.AvailableReplicas > st.ReadyReplicas {
		e.Invalid(at.Child("availableReplicas"), st.AvailableReplicas, "cannot be greater than status.readyReplicas")
	}
	checkCollisions(e, st.CollisionCount, old.Status.CollisionCount, at.Child("collisionCount"))
}

func checkCollisions(e *check.Errors, is, was *int32, at *field.Path) {
	if is != nil {
		e.NonNegative(at, int64(*is))
	}
	if was != nil && (is == nil || *is < *was) {
		var n int32
		if is != nil {
			n = *is
		}
		e.Invalid(at, n, "cannot be decremented")
	}
}

// claimWarnings are about the claim templates.
func claimWarnings(s *appsv1.StatefulSet) []string {
	var list []string
	for i := range s.Spec.VolumeClaimTemplates {
		list = append(list, podspec.ClaimWarnings(&s.Spec.VolumeClaimTemplates[i].Spec, spec.Child("volumeClaimTemplates").Index(i))...)
	}
	if n := s.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		list = append(list, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return list
}
