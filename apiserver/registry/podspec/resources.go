package podspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podresource "k8s.io/component-helpers/resource"

	"bareboat.dev/apiserver/registry/check"
)

// ValidateResources checks a container's requests and limits. claims are the names of the pod's resource claims.
func ValidateResources(e *check.Errors, r *corev1.ResourceRequirements, claims sets.Set[string], at *field.Path) {
	validateRequirements(e, r, claims, at, ValidateContainerResourceName)
}

func validateRequirements(e *check.Errors, r *corev1.ResourceRequirements, claims sets.Set[string], at *field.Path,
	nameRule func(*check.Errors, *field.Path, corev1.ResourceName)) {
	limits, requests := at.Child("limits"), at.Child("requests")
	hugePages, compute := false, false
	one := func(name corev1.ResourceName, q resource.Quantity, here *field.Path) {
		nameRule(e, here, name)
		ValidateQuantity(e, here, name, q)
		compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		if isHugePage(name) {
			hugePages = true
			checkHugePageAmount(e, here, name, q)
		}
	}
	for _, name := range sortedNames(r.Limits) {
		one(name, r.Limits[name], limits.Key(string(name)))
	}
	for _, name := range sortedNames(r.Requests) {
		request := r.Requests[name]
		here := requests.Key(string(name))
		nameRule(e, here, name)
		ValidateQuantity(e, here, name, request)
		limit, limited := r.Limits[name]
		switch {
		case limited && !Overcommits(name) && request.Cmp(limit) != 0:
			e.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String()))
		case limited && request.Cmp(limit) > 0:
			e.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
		case !limited && !Overcommits(name):
			e.Required(limits, "Limit must be set for non overcommitable resources")
		}
		compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		if isHugePage(name) {
			hugePages = true
			checkHugePageAmount(e, here, name, request)
		}
	}
	if hugePages && !compute {
		e.Forbidden(at, "HugePages require cpu or memory")
	}
	validateClaimRefs(e, r.Claims, claims, at.Child("claims"))
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	return slices.Sorted(maps.Keys(list))
}

func checkHugePageAmount(e *check.Errors, at *field.Path, name corev1.ResourceName, q resource.Quantity) {
	page, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err != nil || page.Sign() <= 0 || q.Value()%page.Value() != 0 {
		e.Invalid(at, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))
	}
}

// validateClaimRefs checks the claims that a container uses: each whole claim or each request in it once.
func validateClaimRefs(e *check.Errors, refs []corev1.ResourceClaim, claims sets.Set[string], at *field.Path) {
	seen := sets.New[string]()
	for i, ref := range refs {
		here := at.Index(i)
		if !e.Present(here, ref.Name) {
			continue
		}
		key := ref.Name
		if ref.Request != "" {
			e.Label(here.Child("request"), ref.Request)
			key += "/" + ref.Request
		}
		switch {
		case seen.Has(ref.Name):
			e.Duplicate(here, ref.Name)
		case seen.Has(key):
			e.Duplicate(here, key)
		case ref.Request == "" && slices.ContainsFunc(seen.UnsortedList(), func(k string) bool { return strings.HasPrefix(k, ref.Name+"/") }):
			e.Duplicate(here, ref.Name)
		}
		seen.Insert(key)
		if !claims.Has(ref.Name) {
			err := field.NotFound(here, ref.Name)
			err.Detail = "must be one of the names in pod.spec.resourceClaims"
			if len(claims) == 0 {
				err.Detail += " which is empty"
			} else {
				err.Detail += ": " + strings.Join(sets.List(claims), ", ")
			}
			e.Add(err)
		}
	}
}

// ValidateQuantity checks an amount of a resource: not negative, and whole for resources that are counted.
func ValidateQuantity(e *check.Errors, at *field.Path, name corev1.ResourceName, q resource.Quantity) {
	e.NonNegativeQuantity(at, q)
	if IsCounted(name) && q.MilliValue()%1000 != 0 {
		e.Invalid(at, q, "must be an integer")
	}
}

// ValidateResourceName checks the name of any resource.
func ValidateResourceName(e *check.Errors, at *field.Path, name corev1.ResourceName) bool {
	if msgs := validation.IsQualifiedName(string(name)); len(msgs) > 0 {
		e.Each(at, name, msgs)
		return false
	}
	if !strings.Contains(string(name), "/") && !isStandard(name) {
		e.Invalid(at, name, "must be a standard resource type or fully qualified")
		return false
	}
	return true
}

// ValidateContainerResourceName checks the name of a resource that containers may ask for.
func ValidateContainerResourceName(e *check.Errors, at *field.Path, name corev1.ResourceName) {
	ValidateResourceName(e, at, name)
	if !strings.Contains(string(name), "/") {
		if !isContainerResource(name) {
			e.Invalid(at, name, "must be a standard resource for containers")
		}
	} else if !isNative(name) && !IsExtended(name) {
		e.Invalid(at, name, "doesn't follow extended resource name standard")
	}
}

func validatePodResourceName(e *check.Errors, at *field.Path, name corev1.ResourceName) {
	if ValidateResourceName(e, at, name) && !podresource.IsSupportedPodLevelResource(name) {
		e.Add(field.NotSupported(at, name, sets.List(podresource.SupportedPodLevelResources())))
	}
}

func isContainerResource(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return isHugePage(name)
}

func isHugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// isNative: without a prefix, or in kubernetes.io's.
func isNative(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// Overcommits reports whether requests may be below limits: only native resources other than huge pages.
func Overcommits(name corev1.ResourceName) bool { return isNative(name) && !isHugePage(name) }

// IsExtended reports whether a resource is one that a device plugin or an administrator may name: with a prefix that is not
// Kubernetes' own, and short enough to be counted in a quota as "requests.<name>".
func IsExtended(name corev1.ResourceName) bool {
	if isNative(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// IsCounted reports whether amounts of a resource are whole numbers.
func IsCounted(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return IsExtended(name)
}

func isStandard(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
		corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceStorage, corev1.ResourceRequestsStorage,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return isHugePage(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// checkPodResources follows KEP-2837 (resources of the pod as a whole).
func (s *scope) checkPodResources(at *field.Path) {
	r := s.spec.Resources
	if r == nil {
		return
	}
	if r.Claims != nil {
		s.Forbidden(at.Child("claims"), "claims cannot be set for Resources at pod-level")
	}
	validateRequirements(s.Errors, r, s.claims, at, validatePodResourceName)
	pod := &corev1.Pod{Spec: *s.spec}
	total := podresource.AggregateContainerRequests(pod, podresource.PodResourcesOptions{})
	for _, name := range sortedNames(total) {
		sum, own := total[name], r.Requests[name]
		if podresource.IsSupportedPodLevelResource(name) && sum.Cmp(own) > 0 {
			s.Invalid(at.Child("requests").Key(string(name)), own.String(),
				"must be greater than or equal to aggregate container requests of "+sum.String())
		}
	}
	for i, c := range s.spec.Containers {
		for _, name := range sortedNames(c.Resources.Limits) {
			limit := c.Resources.Limits[name]
			if own, set := r.Limits[name]; set && limit.Cmp(own) > 0 {
				s.Invalid(at.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					"must be less than or equal to pod limits of "+own.String())
			}
		}
	}
}

func (s *scope) checkResizePolicy(policies []corev1.ContainerResizePolicy, at *field.Path) {
	seen := sets.New[corev1.ResourceName]()
	for i, p := range policies {
		if seen.Has(p.ResourceName) {
			s.Duplicate(at.Index(i), p.ResourceName)
		}
		seen.Insert(p.ResourceName)
		check.OneOf(s.Errors, at, p.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)
		check.OneOf(s.Errors, at, p.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)
		if s.policy == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			s.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'")
		}
	}
}

func (s *scope) checkResourceClaims(at *field.Path) {
	for _, c := range s.spec.ResourceClaims {
		if c.Name != "" {
			s.claims.Insert(c.Name)
		}
	}
	seen := sets.New[string]()
	for i, c := range s.spec.ResourceClaims {
		here := at.Index(i)
		if seen.Has(c.Name) && c.Name != "" {
			s.Duplicate(here.Child("name"), c.Name)
		} else {
			s.RequiredLabel(here.Child("name"), c.Name)
		}
		seen.Insert(c.Name)
		switch {
		case c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil:
			s.Invalid(here, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
		case c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil:
			s.Invalid(here, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
		}
		if c.ResourceClaimName != nil {
			s.Subdomain(here.Child("resourceClaimName"), *c.ResourceClaimName)
		}
		if c.ResourceClaimTemplateName != nil {
			s.Subdomain(here.Child("resourceClaimTemplateName"), *c.ResourceClaimTemplateName)
		}
	}
}
