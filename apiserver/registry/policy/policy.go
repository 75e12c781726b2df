// Package policy is policy/v1.
package policy

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// Resources returns the group's resources. Eviction, the group's other kind, is a subresource of pods.
func Resources() []*registry.Resource { return []*registry.Resource{podDisruptionBudgets()} }

func podDisruptionBudgets() *registry.Resource {
	return &registry.Resource{
		Kind:   policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		Plural: "poddisruptionbudgets", Singular: "poddisruptionbudget",
		ShortNames: []string{"pdb"},
		Namespaced: true, KeyPrefix: "/registry/poddisruptionbudgets/",
		New:     func() registry.Object { return &policyv1.PodDisruptionBudget{} },
		NewList: func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
		Strategy: registry.Strategy{
			AnyFinalizer: true,
			PrepareCreate: registry.On(func(b *policyv1.PodDisruptionBudget) {
				b.Status = policyv1.PodDisruptionBudgetStatus{}
			}),
			PrepareUpdate: registry.OnChange(func(b, old *policyv1.PodDisruptionBudget) { b.Status = old.Status }),
			Validate:      registry.Checks(checkBudget),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, b, _ *policyv1.PodDisruptionBudget) {
				checkBudget(e, b)
			}),
			// Kubernetes asks no more of a budget's name than that it can stand in a URL.
			ValidateName: func(name string, prefix bool) []string { return path.ValidatePathSegmentName(name, prefix) },
			SpecChanged: registry.Differs(func(b, old *policyv1.PodDisruptionBudget) bool {
				return !equality.Semantic.DeepEqual(b.Spec, old.Spec)
			}),
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Min Available", "The minimum number of pods that must be available.",
				func(b *policyv1.PodDisruptionBudget) string { return orNotApplicable(b.Spec.MinAvailable) }),
			registry.Text("Max Unavailable", "The maximum number of pods that may be unavailable.",
				func(b *policyv1.PodDisruptionBudget) string { return orNotApplicable(b.Spec.MaxUnavailable) }),
			registry.Number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time.",
				func(b *policyv1.PodDisruptionBudget) int64 { return int64(b.Status.DisruptionsAllowed) }),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(
				func(b, body *policyv1.PodDisruptionBudget) { b.Status = body.Status },
				func(e *check.Errors, b, _ *policyv1.PodDisruptionBudget) {
					checkBudgetStatus(e, &b.Status, field.NewPath("status"))
				}),
		},
	}
}

func orNotApplicable(n *intstr.IntOrString) string {
	if n == nil {
		return "N/A"
	}
	return n.String()
}

func checkBudget(e *check.Errors, b *policyv1.PodDisruptionBudget) {
	s, at := &b.Spec, field.NewPath("spec")
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		e.Invalid(at, *s, "minAvailable and maxUnavailable cannot be both set")
	}
	checkAmount(e, s.MinAvailable, at.Child("minAvailable"))
	checkAmount(e, s.MaxUnavailable, at.Child("maxUnavailable"))
	e.Selector(at.Child("selector"), s.Selector)
	if p := s.UnhealthyPodEvictionPolicy; p != nil {
		check.Supported(e, at.Child("unhealthyPodEvictionPolicy"), *p, policyv1.AlwaysAllow, policyv1.IfHealthyBudget)
	}
}

func checkAmount(e *check.Errors, n *intstr.IntOrString, at *field.Path) {
	if n != nil {
		e.NonNegativeIntOrPercent(at, *n)
		e.AtMostAllPercent(at, *n)
	}
}

func checkBudgetStatus(e *check.Errors, s *policyv1.PodDisruptionBudgetStatus, at *field.Path) {
	e.Add(metav1validation.ValidateConditions(s.Conditions, at.Child("conditions"))...)
	e.NonNegative(at.Child("disruptionsAllowed"), int64(s.DisruptionsAllowed))
	e.NonNegative(at.Child("currentHealthy"), int64(s.CurrentHealthy))
	e.NonNegative(at.Child("desiredHealthy"), int64(s.DesiredHealthy))
	e.NonNegative(at.Child("expectedPods"), int64(s.ExpectedPods))
}
