// Package rbac is rbac.authorization.k8s.io/v1.
package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	return []*registry.Resource{clusterRoles(), clusterRoleBindings(), roles(), roleBindings()}
}

func kind(name string) schema.GroupVersionKind { return rbacv1.SchemeGroupVersion.WithKind(name) }

// segmentName: whatever can stand between two slashes of a URL; role names may hold colons.
func segmentName(name string, prefix bool) []string {
	return path.ValidatePathSegmentName(name, prefix)
}

func roles() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Role"), Plural: "roles", Singular: "role",
		Namespaced: true, KeyPrefix: "/registry/roles/",
		New:     func() registry.Object { return &rbacv1.Role{} },
		NewList: func() runtime.Object { return &rbacv1.RoleList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(func(e *check.Errors, r *rbacv1.Role) { checkRules(e, r.Rules, true) }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, r, _ *rbacv1.Role) {
				checkRules(e, r.Rules, true)
			}),
			ValidateName: segmentName,

			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{registry.NameColumn(), registry.CreatedColumn()},
	}
}

func clusterRoles() *registry.Resource {
	return &registry.Resource{
		Kind: kind("ClusterRole"), Plural: "clusterroles", Singular: "clusterrole",
		KeyPrefix: "/registry/clusterroles/",
		New:       func() registry.Object { return &rbacv1.ClusterRole{} },
		NewList:   func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		Strategy: registry.Strategy{
			Validate:       registry.Checks(checkClusterRole),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, r, _ *rbacv1.ClusterRole) { checkClusterRole(e, r) }),
			ValidateName:   segmentName,

			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{registry.NameColumn(), registry.CreatedColumn()},
	}
}

func checkClusterRole(e *check.Errors, r *rbacv1.ClusterRole) {
	checkRules(e, r.Rules, false)
	if r.AggregationRule == nil {
		return
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		e.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil")
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		s := &r.AggregationRule.ClusterRoleSelectors[i]
		e.Selector(at.Index(i), s)
		if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
			e.Invalid(at.Index(i), s, "invalid label selector.")
		}
	}
}

func checkRules(e *check.Errors, rules []rbacv1.PolicyRule, namespaced bool) {
	for i, r := range rules {
		at := field.NewPath("rules").Index(i)
		if len(r.Verbs) == 0 {
			e.Required(at.Child("verbs"), "verbs must contain at least one value")
		}
		if len(r.NonResourceURLs) > 0 {
			urls := at.Child("nonResourceURLs")
			if namespaced {
				e.Invalid(urls, r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs")
			}
			if len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) > 0 {
				e.Invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs")
			}
			continue
		}
		if len(r.APIGroups) == 0 {
			e.Required(at.Child("apiGroups"), "resource rules must supply at least one api group")
		}
		if len(r.Resources) == 0 {
			e.Required(at.Child("resources"), "resource rules must supply at least one resource")
		}
	}
}

func roleBindings() *registry.Resource {
	return &registry.Resource{
		Kind: kind("RoleBinding"), Plural: "rolebindings", Singular: "rolebinding",
		Namespaced: true, KeyPrefix: "/registry/rolebindings/",
		New:     func() registry.Object { return &rbacv1.RoleBinding{} },
		NewList: func() runtime.Object { return &rbacv1.RoleBindingList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
			Validate: registry.Checks(func(e *check.Errors, b *rbacv1.RoleBinding) {
				checkBinding(e, b.RoleRef, b.Subjects, true)
			}),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, b, old *rbacv1.RoleBinding) {
				checkBinding(e, b.RoleRef, b.Subjects, true)
				checkRoleRefKept(e, b.RoleRef, old.RoleRef)
			}),
			ValidateName: segmentName,

			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
		},
		Columns: bindingColumns("roleBinding", rbacv1beta1.RoleBinding{}.SwaggerDoc()["roleRef"],
			func(b *rbacv1.RoleBinding) rbacv1.RoleRef { return b.RoleRef },
			func(b *rbacv1.RoleBinding) []rbacv1.Subject { return b.Subjects }),
	}
}

func clusterRoleBindings() *registry.Resource {
	return &registry.Resource{
		Kind: kind("ClusterRoleBinding"), Plural: "clusterrolebindings", Singular: "clusterrolebinding",
		KeyPrefix: "/registry/clusterrolebindings/",
		New:       func() registry.Object { return &rbacv1.ClusterRoleBinding{} },
		NewList:   func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
			Validate: registry.Checks(func(e *check.Errors, b *rbacv1.ClusterRoleBinding) {
				checkBinding(e, b.RoleRef, b.Subjects, false)
			}),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, b, old *rbacv1.ClusterRoleBinding) {
				checkBinding(e, b.RoleRef, b.Subjects, false)
				checkRoleRefKept(e, b.RoleRef, old.RoleRef)
			}),
			ValidateName: segmentName,

			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
		},
		Columns: bindingColumns("clusterRoleBinding", rbacv1beta1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"],
			func(b *rbacv1.ClusterRoleBinding) rbacv1.RoleRef { return b.RoleRef },
			func(b *rbacv1.ClusterRoleBinding) []rbacv1.Subject { return b.Subjects }),
	}
}

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		if s := &subjects[i]; s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

func checkBinding(e *check.Errors, ref rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool) {
	at := field.NewPath("roleRef")
	check.Supported(e, at.Child("apiGroup"), ref.APIGroup, rbacv1.GroupName)
	if namespaced {
		check.Supported(e, at.Child("kind"), ref.Kind, "Role", "ClusterRole")
	} else {
		check.Supported(e, at.Child("kind"), ref.Kind, "ClusterRole")
	}
	if e.Present(at.Child("name"), ref.Name) {
		e.Name(at.Child("name"), ref.Name, segmentName)
	}
	for i, s := range subjects {
		checkSubject(e, s, namespaced, field.NewPath("subjects").Index(i))
	}
}

func checkSubject(e *check.Errors, s rbacv1.Subject, namespaced bool, at *field.Path) {
	e.Present(at.Child("name"), s.Name)
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			e.Name(at.Child("name"), s.Name, apivalidation.ValidateServiceAccountName)
		}
		check.Supported(e, at.Child("apiGroup"), s.APIGroup, "")
		if !namespaced {
			e.Present(at.Child("namespace"), s.Namespace)
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		check.Supported(e, at.Child("apiGroup"), s.APIGroup, rbacv1.GroupName)
	default:
		check.Supported(e, at.Child("kind"), s.Kind, rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind)
	}
}

func checkRoleRefKept(e *check.Errors, ref, old rbacv1.RoleRef) {
	if ref != old {
		e.Invalid(field.NewPath("roleRef"), ref, "cannot change roleRef")
	}
}

func bindingColumns[T registry.Object](what, refDoc string, ref func(T) rbacv1.RoleRef, subjects func(T) []rbacv1.Subject) []registry.Column {
	of := func(kind string) func(T) string {
		return func(b T) string {
			var names []string
			for _, s := range subjects(b) {
				switch {
				case s.Kind != kind:
				case kind == rbacv1.ServiceAccountKind && s.Namespace != "":
					names = append(names, s.Namespace+"/"+s.Name)
				default:
					names = append(names, s.Name)
				}
			}
			return strings.Join(names, ", ")
		}
	}
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("Role", refDoc, func(b T) string { return ref(b).Kind + "/" + ref(b).Name }),
		registry.AgeColumn(),
		registry.Text("Users", "Users in the "+what, of(rbacv1.UserKind)).Wide(),
		registry.Text("Groups", "Groups in the "+what, of(rbacv1.GroupKind)).Wide(),
		registry.Text("ServiceAccounts", "ServiceAccounts in the "+what, of(rbacv1.ServiceAccountKind)).Wide(),
	}
}
