package core

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func resourceQuotas() *registry.Resource {
	type quota = *corev1.ResourceQuota
	return &registry.Resource{
		Kind: kind("ResourceQuota"), Plural: "resourcequotas", Singular: "resourcequota",
		ShortNames: []string{"quota"},
		Namespaced: true, KeyPrefix: "/registry/resourcequotas/",
		New:     func() registry.Object { return &corev1.ResourceQuota{} },
		NewList: func() runtime.Object { return &corev1.ResourceQuotaList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(q quota) {
				podspec.DefaultResources(q.Spec.Hard)
				podspec.DefaultResources(q.Status.Hard)
				podspec.DefaultResources(q.Status.Used)
			}),
			PrepareCreate: registry.On(func(q quota) { q.Status = corev1.ResourceQuotaStatus{} }),
			PrepareUpdate: registry.OnChange(func(q, old quota) { q.Status = old.Status }),
			Validate:      registry.Checks(checkQuota),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, q, old quota) {
				checkQuota(e, q)
				if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
					e.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, "field is immutable")
				}
			}),
			ValidateName: dnsSubdomain,

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Request", "Request represents a minimum amount of cpu/memory that a container may consume.",
				func(q quota) string { return quotaText(q, false) }),
			registry.Text("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
				func(q quota) string { return quotaText(q, true) }),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(
				func(q, body quota) { q.Status = body.Status },
				func(e *check.Errors, q, _ quota) {
					checkAmounts(e, q.Status.Hard, field.NewPath("status", "hard"))
					checkAmounts(e, q.Status.Used, field.NewPath("status", "used"))
				}),
		},
	}
}

// quotaText lists used and allowed amounts, either of the limits or of everything else.
func quotaText(q *corev1.ResourceQuota, limits bool) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		if strings.HasPrefix(string(name), "limits.") != limits {
			continue
		}
		used, hard := q.Status.Used[name], q.Status.Hard[name]
		parts = append(parts, string(name)+": "+used.String()+"/"+hard.String())
	}
	return strings.Join(parts, ", ")
}

// What quotas can limit without a domain: compute resources of pods, storage, and numbers of objects.
var (
	quotaCompute = sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory)
	quotaClaims = sets.New(corev1.ResourcePersistentVolumeClaims, corev1.ResourceRequestsStorage)
	quotaKnown  = quotaCompute.Union(quotaClaims).Insert(corev1.ResourcePods,
		corev1.ResourceEphemeralStorage, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceLimitsEphemeralStorage,
		corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceSecrets,
		corev1.ResourceConfigMaps, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers)
)

func standardQuota(name corev1.ResourceName) bool {
	return quotaKnown.Has(name) || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) ||
		strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// scopeFits reports whether a scope's objects have the resource; unknown is whether the scope is none.
func scopeFits(scope corev1.ResourceQuotaScope, name corev1.ResourceName) (fits, unknown bool) {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods, false
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeNotBestEffort,
		corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return name == corev1.ResourcePods || quotaCompute.Has(name), false
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return quotaClaims.Has(name), false
	}
	return true, true
}

func checkQuota(e *check.Errors, q *corev1.ResourceQuota) {
	s, at := &q.Spec, field.NewPath("spec")
	checkAmounts(e, s.Hard, at.Child("hard"))
	names := slices.Sorted(maps.Keys(s.Hard))

	scopes := at.Child("scopes")
	for _, scope := range s.Scopes {
		if _, unknown := scopeFits(scope, ""); unknown {
			e.Invalid(scopes, s.Scopes, "unsupported scope")
		}
		for _, name := range names {
			if fits, _ := scopeFits(scope, name); standardQuota(name) && !fits {
				e.Invalid(scopes, s.Scopes, "unsupported scope applied to resource")
			}
		}
	}
	checkConflicts(e, s.Scopes, s.Scopes, scopes)
	if s.ScopeSelector == nil {
		return
	}

	expressions := at.Child("scopeSelector", "matchExpressions")
	var selected []corev1.ResourceQuotaScope
	for _, r := range s.ScopeSelector.MatchExpressions {
		if _, unknown := scopeFits(r.ScopeName, ""); unknown {
			e.Invalid(expressions.Child("scopeName"), r.ScopeName, "unsupported scope")
		}
		for _, name := range names {
			if fits, _ := scopeFits(r.ScopeName, name); standardQuota(name) && !fits {
				e.Invalid(expressions, s.ScopeSelector, "unsupported scope applied to resource")
			}
		}
		checkScopeRequirement(e, r, expressions)
		selected = append(selected, r.ScopeName)
	}
	checkConflicts(e, selected, s.Scopes, expressions)
}

// checkConflicts refuses pairs of scopes that no pod is in. value is what the message shows.
func checkConflicts(e *check.Errors, scopes, value []corev1.ResourceQuotaScope, at *field.Path) {
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if slices.Contains(scopes, pair[0]) && slices.Contains(scopes, pair[1]) {
			e.Invalid(at, value, "conflicting scopes")
		}
	}
}

func checkScopeRequirement(e *check.Errors, r corev1.ScopedResourceSelectorRequirement, at *field.Path) {
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
		corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if r.Operator != corev1.ScopeSelectorOpExists {
			e.Invalid(at.Child("operator"), r.Operator, "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "+
				"ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity")
		}
	}
	switch r.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(r.Values) == 0 {
			e.Required(at.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			e.Invalid(at.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector")
		}
	default:
		e.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator")
	}
}

func checkAmounts(e *check.Errors, list corev1.ResourceList, at *field.Path) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		here := at.Key(string(name))
		podspec.ValidateResourceName(e, here, name)
		if !strings.Contains(string(name), "/") && !standardQuota(name) {
			e.Invalid(here, string(name), "must be a standard resource for quota")
		}
		podspec.ValidateQuantity(e, here, name, list[name])
	}
}
