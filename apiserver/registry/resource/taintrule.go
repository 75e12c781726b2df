package resource

import (
	"time"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func taintRules() *registry.Resource {
	type rule = *resourcev1.DeviceTaintRule
	doc := resourcev1.DeviceTaint{}.SwaggerDoc()
	return &registry.Resource{
		Kind: kind("DeviceTaintRule"), Plural: "devicetaintrules", Singular: "devicetaintrule",
		KeyPrefix: "/registry/devicetaintrules/",
		New:       func() registry.Object { return &resourcev1.DeviceTaintRule{} },
		NewList:   func() runtime.Object { return &resourcev1.DeviceTaintRuleList{} },
		Strategy: registry.Strategy{
			PrepareCreate: registry.On(func(r rule) {
				r.Status = resourcev1.DeviceTaintRuleStatus{}
				if r.Spec.Taint.TimeAdded == nil {
					at := r.CreationTimestamp
					r.Spec.Taint.TimeAdded = &at
				}
			}),
			PrepareUpdate: registry.OnChange(func(r, old rule) {
				r.Status = old.Status
				if r.Spec.Taint.TimeAdded == nil {
					r.Spec.Taint.TimeAdded = old.Spec.Taint.TimeAdded
				}
			}),
			Validate: registry.Checks(func(e *check.Errors, r rule) { checkTaintRule(e, r, "") }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, r, old rule) {
				checkTaintRule(e, r, old.Spec.Taint.Effect)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			SpecChanged:  registry.Differs(func(r, old rule) bool { return !equality.Semantic.DeepEqual(r.Spec, old.Spec) }),
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Key", doc["key"], func(r rule) string { return r.Spec.Taint.Key }),
			registry.Text("Value", doc["value"], func(r rule) string { return r.Spec.Taint.Value }),
			registry.Text("Effect", doc["effect"], func(r rule) string { return string(r.Spec.Taint.Effect) }),
			registry.TimedText("TimeAdded", doc["timeAdded"], func(r rule, now time.Time) string {
				if r.Spec.Taint.TimeAdded == nil {
					return ""
				}
				return registry.Age(*r.Spec.Taint.TimeAdded, now)
			}),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(r, body rule) { r.Status = body.Status }, func(e *check.Errors, r, _ rule) {
				at, most := field.NewPath("status", "conditions"), resourcev1.DeviceTaintRuleStatusMaxConditions
				if len(r.Status.Conditions) > most {
					e.Add(field.TooMany(at, len(r.Status.Conditions), most))
				}
				e.Add(metavalidation.ValidateConditions(r.Status.Conditions, at)...)
			}),
		},
	}
}

func checkTaintRule(e *check.Errors, r *resourcev1.DeviceTaintRule, before resourcev1.DeviceTaintEffect) {
	at := field.NewPath("spec", "deviceSelector")
	if s := r.Spec.DeviceSelector; s != nil {
		if s.Driver != nil {
			checkDriver(e, *s.Driver, at.Child("driver"))
		}
		if s.Pool != nil {
			checkPool(e, *s.Pool, at.Child("pool"))
		}
		if s.Device != nil {
			e.Label(at.Child("device"), *s.Device)
		}
	}
	checkTaint(e, &r.Spec.Taint, before, field.NewPath("spec", "taint"))
}

// checkTaint bears an effect that was there before, as a newer server may have made it.
func checkTaint(e *check.Errors, t *resourcev1.DeviceTaint, before resourcev1.DeviceTaintEffect, at *field.Path) {
	e.LabelName(at.Child("key"), t.Key)
	if t.Value != "" {
		e.Each(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))
	}
	if before == "" || before != t.Effect {
		checkEffect(e, t.Effect, at.Child("effect"))
	}
}

func stampTaints(taints []resourcev1.DeviceTaint, now metav1.Time) {
	for i := range taints {
		if taints[i].TimeAdded == nil {
			at := now
			taints[i].TimeAdded = &at
		}
	}
}
