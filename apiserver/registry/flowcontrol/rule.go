package flowcontrol

import (
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

func checkRule(e *check.Errors, r *flowcontrolv1.PolicyRulesWithSubjects, at *field.Path) {
	if len(r.Subjects) == 0 {
		e.Required(at.Child("subjects"), "subjects must contain at least one value")
	}
	for i := range r.Subjects {
		checkSubject(e, &r.Subjects[i], at.Child("subjects").Index(i))
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		e.Required(at, "at least one of resourceRules and nonResourceRules has to be non-empty")
	}
	for i := range r.ResourceRules {
		checkResources(e, &r.ResourceRules[i], at.Child("resourceRules").Index(i))
	}
	for i := range r.NonResourceRules {
		checkPaths(e, &r.NonResourceRules[i], at.Child("nonResourceRules").Index(i))
	}
}

// checkSubject: the member that the kind names, and no other.
func checkSubject(e *check.Errors, s *flowcontrolv1.Subject, at *field.Path) {
	members := []struct {
		kind flowcontrolv1.SubjectKind
		name string
		set  bool
	}{
		{flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil},
		{flowcontrolv1.SubjectKindUser, "user", s.User != nil},
		{flowcontrolv1.SubjectKindGroup, "group", s.Group != nil},
	}
	switch s.Kind {
	case flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser, flowcontrolv1.SubjectKindGroup:
	default:
		check.Supported(e, at.Child("kind"), s.Kind, flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser)
		return
	}
	for _, m := range members {
		switch {
		case m.kind == s.Kind && !m.set:
			e.Required(at.Child(m.name), m.name+" is required when subject kind is '"+string(m.kind)+"'")
		case m.kind != s.Kind && m.set:
			e.Forbidden(at.Child(m.name), m.name+" is forbidden when subject kind is not '"+string(m.kind)+"'")
		}
	}
	switch {
	case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
		e.Present(at.Child("user", "name"), s.User.Name)
	case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
		e.Present(at.Child("group", "name"), s.Group.Name)
	case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		checkAccount(e, s.ServiceAccount, at.Child("serviceAccount"))
	}
}

func checkAccount(e *check.Errors, s *flowcontrolv1.ServiceAccountSubject, at *field.Path) {
	if e.Present(at.Child("name"), s.Name) && s.Name != flowcontrolv1.NameAll {
		e.Name(at.Child("name"), s.Name, apivalidation.ValidateServiceAccountName)
	}
	if s.Namespace == "" {
		e.Required(at.Child("namespace"), "must specify namespace for service account")
	} else {
		e.Name(at.Child("namespace"), s.Namespace, apivalidation.ValidateNamespaceName)
	}
}

const all = "*"

// checkAlone refuses "*" among others.
func checkAlone(e *check.Errors, list []string, others string, at *field.Path) {
	if len(list) > 1 && slices.Contains(list, all) {
		e.Invalid(at, list, "if '*' is present, must not specify other "+others)
	}
}

func checkVerbs(e *check.Errors, verbs []string, at *field.Path) {
	known := []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}
	if len(verbs) == 0 {
		e.Required(at, "verbs must contain at least one value")
		return
	}
	checkAlone(e, verbs, "verbs", at)
	if !slices.Contains(verbs, all) && slices.ContainsFunc(verbs, func(v string) bool { return !slices.Contains(known, v) }) {
		e.Add(field.NotSupported(at, verbs, known))
	}
}

func checkResources(e *check.Errors, r *flowcontrolv1.ResourcePolicyRule, at *field.Path) {
	checkVerbs(e, r.Verbs, at.Child("verbs"))
	if len(r.APIGroups) == 0 {
		e.Required(at.Child("apiGroups"), "resource rules must supply at least one api group")
	}
	checkAlone(e, r.APIGroups, "api groups", at.Child("apiGroups"))
	if len(r.Resources) == 0 {
		e.Required(at.Child("resources"), "resource rules must supply at least one resource")
	}
	checkAlone(e, r.Resources, "resources", at.Child("resources"))
	namespaces := at.Child("namespaces")
	if len(r.Namespaces) == 0 && !r.ClusterScope {
		e.Required(namespaces, "resource rules that are not cluster scoped must supply at least one namespace")
	}
	checkAlone(e, r.Namespaces, "namespaces", namespaces)
	if slices.Contains(r.Namespaces, all) {
		return
	}
	for i, ns := range r.Namespaces {
		for _, wrong := range apivalidation.ValidateNamespaceName(ns, false) {
			e.Invalid(namespaces.Index(i), ns, "each member of this list must be '*' or a DNS-1123 label; "+wrong)
		}
	}
}

func checkPaths(e *check.Errors, r *flowcontrolv1.NonResourcePolicyRule, at *field.Path) {
	checkVerbs(e, r.Verbs, at.Child("verbs"))
	at = at.Child("nonResourceURLs")
	if len(r.NonResourceURLs) == 0 {
		e.Required(at, "nonResourceURLs must contain at least one value")
	}
	checkAlone(e, r.NonResourceURLs, "non-resource URLs", at)
	if slices.Contains(r.NonResourceURLs, all) {
		return
	}
	for i, p := range r.NonResourceURLs {
		if wrong := wrongPath(p); wrong != "" {
			e.Invalid(at.Index(i), p, wrong)
		}
	}
}

// wrongPath says what is wrong with a path, or a prefix of paths that ends in "/*".
func wrongPath(p string) string {
	stars := strings.Count(p, "*")
	switch {
	case p == "":
		return "must not be empty"
	case p == "/":
		return ""
	case !strings.HasPrefix(p, "/"):
		return "must start with slash"
	case strings.Contains(p, " "):
		return "must not contain white-space"
	case strings.Contains(p, "//"):
		return "must not contain double slash"
	case stars > 1 || stars == 1 && !strings.HasSuffix(p, "/*"):
		return "wildcard can only do suffix matching"
	}
	return ""
}
