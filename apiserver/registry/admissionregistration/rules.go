package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// checkRule checks which writes a rule selects.
func checkRule(e *check.Errors, at *field.Path, r *admissionregistrationv1.RuleWithOperations) {
	operations := at.Child("operations")
	if len(r.Operations) == 0 {
		e.Required(operations, "")
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionregistrationv1.OperationAll) {
		e.Invalid(operations, r.Operations, "if '*' is present, must not specify other operations")
	}
	for i, op := range r.Operations {
		check.Supported(e, operations.Index(i), op, admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create,
			admissionregistrationv1.Delete, admissionregistrationv1.Update)
	}
	if len(r.APIGroups) == 0 {
		e.Required(at.Child("apiGroups"), "")
	}
	if len(r.APIGroups) > 1 && slices.Contains(r.APIGroups, "*") {
		e.Invalid(at.Child("apiGroups"), r.APIGroups, "if '*' is present, must not specify other API groups")
	}
	if len(r.APIVersions) == 0 {
		e.Required(at.Child("apiVersions"), "")
	}
	if len(r.APIVersions) > 1 && slices.Contains(r.APIVersions, "*") {
		e.Invalid(at.Child("apiVersions"), r.APIVersions, "if '*' is present, must not specify other API versions")
	}
	for i, v := range r.APIVersions {
		if v == "" {
			e.Required(at.Child("apiVersions").Index(i), "")
		}
	}
	checkResources(e, at.Child("resources"), r.Resources)
	if r.Scope != nil {
		check.Supported(e, at.Child("scope"), *r.Scope, admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)
	}
}

// checkResources refuses lists in which one entry selects what another does.
func checkResources(e *check.Errors, at *field.Path, resources []string) {
	if len(resources) == 0 {
		e.Required(at, "")
	}
	if len(resources) > 1 && slices.Contains(resources, "*/*") {
		e.Invalid(at, resources, "if '*/*' is present, must not specify other resources")
	}
	allOf, allIn := sets.New[string](), sets.New[string]()
	for _, r := range resources {
		resource, sub, has := strings.Cut(r, "/")
		if has && sub == "*" {
			allOf.Insert(resource)
		}
		if has && resource == "*" {
			allIn.Insert(sub)
		}
	}
	for i, r := range resources {
		if r == "" {
			e.Required(at.Index(i), "")
			continue
		}
		if r == "*/*" {
			continue
		}
		resource, sub, has := strings.Cut(r, "/")
		switch {
		case has && sub != "*" && allOf.Has(resource):
			e.Invalid(at.Index(i), r, fmt.Sprintf("if '%s/*' is present, must not specify %s", resource, r))
		case has && resource != "*" && allIn.Has(sub):
			e.Invalid(at.Index(i), r, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, r))
		case !has && r != "*" && slices.Contains(resources, "*"):
			e.Invalid(at, resources, "if '*' is present, must not specify other resources without subresources")
		}
	}
}

// checkMatch checks what a policy or a binding is for.
func checkMatch(e *check.Errors, at *field.Path, m *admissionregistrationv1.MatchResources) {
	for name, s := range map[string]*metav1.LabelSelector{"namespaceSelector": m.NamespaceSelector, "objectSelector": m.ObjectSelector} {
		if s == nil {
			e.Required(at.Child(name), "")
		} else {
			e.Selector(at.Child(name), s)
		}
	}
	for name, list := range map[string][]admissionregistrationv1.NamedRuleWithOperations{"resourceRules": m.ResourceRules, "excludeResourceRules": m.ExcludeResourceRules} {
		for i := range list {
			here := at.Child(name).Index(i)
			checkRule(e, here, &list[i].RuleWithOperations)
			seen := sets.New[string]()
			for k, n := range list[i].ResourceNames {
				e.Each(here.Child("resourceNames").Index(k), n, content.IsPathSegmentName(n))
				if seen.Has(n) {
					e.Duplicate(here.Child("resourceNames").Index(k), n)
				}
				seen.Insert(n)
			}
		}
	}
	if m.MatchPolicy == nil {
		e.Required(at.Child("matchPolicy"), "")
	} else {
		check.Supported(e, at.Child("matchPolicy"), *m.MatchPolicy, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)
	}
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	set(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	set(&m.NamespaceSelector, metav1.LabelSelector{})
	set(&m.ObjectSelector, metav1.LabelSelector{})
	for _, list := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range list {
			set(&list[i].Scope, admissionregistrationv1.AllScopes)
		}
	}
}
