package authz

import (
	"context"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"bareboat.dev/apiserver/authn"
)

// Rules is where RBAC objects come from. What it returns is shared and never modified.
type Rules interface {
	ClusterRole(name string) (*rbacv1.ClusterRole, bool)
	Role(namespace, name string) (*rbacv1.Role, bool)
	ClusterRoleBindings() []*rbacv1.ClusterRoleBinding
	// RoleBindings returns those of one namespace.
	RoleBindings(namespace string) []*rbacv1.RoleBinding
}

// RBAC allows what a rule bound to the user allows.
type RBAC struct{ Rules Rules }

// Authorize implements Authorizer.
func (r *RBAC) Authorize(_ context.Context, a *Attributes) (Decision, string, error) {
	var missing []string
	allowed := false
	r.visit(a.User, a.Namespace, func(rules []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			missing = append(missing, err.Error())
		}
		for i := range rules {
			if RuleAllows(&rules[i], a) {
				allowed = true
				return false
			}
		}
		return true
	})
	if allowed {
		return Allow, "", nil
	}
	if len(missing) > 0 {
		return NoOpinion, "RBAC: [" + strings.Join(missing, ", ") + "]", nil
	}
	return NoOpinion, "", nil
}

// RulesFor returns every rule that applies to the user in the namespace (SelfSubjectRulesReview, escalation checks).
func (r *RBAC) RulesFor(user *authn.Identity, namespace string) []rbacv1.PolicyRule {
	var all []rbacv1.PolicyRule
	r.visit(user, namespace, func(rules []rbacv1.PolicyRule, _ error) bool {
		all = append(all, rules...)
		return true
	})
	return all
}

// visit calls f with the rules of each binding that names the user, until it returns false.
func (r *RBAC) visit(user *authn.Identity, namespace string, f func([]rbacv1.PolicyRule, error) bool) {
	for _, b := range r.Rules.ClusterRoleBindings() {
		if !applies(b.Subjects, user, "") {
			continue
		}
		if rules, err := r.resolve(b.RoleRef, ""); !f(rules, err) {
			return
		}
	}
	if namespace == "" {
		return
	}
	for _, b := range r.Rules.RoleBindings(namespace) {
		if !applies(b.Subjects, user, namespace) {
			continue
		}
		if rules, err := r.resolve(b.RoleRef, namespace); !f(rules, err) {
			return
		}
	}
}

func (r *RBAC) resolve(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "ClusterRole":
		if role, ok := r.Rules.ClusterRole(ref.Name); ok {
			return role.Rules, nil
		}
		return nil, fmt.Errorf("clusterrole.rbac.authorization.k8s.io %q not found", ref.Name)
	case "Role":
		if role, ok := r.Rules.Role(namespace, ref.Name); ok {
			return role.Rules, nil
		}
		return nil, fmt.Errorf("role.rbac.authorization.k8s.io %q not found", ref.Name)
	}
	return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
}

// applies reports whether one of the subjects is the user.
func applies(subjects []rbacv1.Subject, user *authn.Identity, namespace string) bool {
	for i := range subjects {
		s := &subjects[i]
		switch s.Kind {
		case rbacv1.UserKind:
			if s.Name == user.Name {
				return true
			}
		case rbacv1.GroupKind:
			if user.In(s.Name) {
				return true
			}
		case rbacv1.ServiceAccountKind:
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			if ns != "" && user.Name == authn.ServiceAccountPrefix+ns+":"+s.Name {
				return true
			}
		}
	}
	return false
}

// RuleAllows reports whether one rule covers the request.
func RuleAllows(rule *rbacv1.PolicyRule, a *Attributes) bool {
	if !has(rule.Verbs, a.Verb) {
		return false
	}
	if a.Resource == "" {
		return pathMatches(rule.NonResourceURLs, a.Path)
	}
	return has(rule.APIGroups, a.Group) && resourceMatches(rule.Resources, a.Resource, a.Subresource) &&
		(len(rule.ResourceNames) == 0 || contains(rule.ResourceNames, a.Name))
}

func has(list []string, s string) bool { return contains(list, "*") || contains(list, s) }

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

func resourceMatches(rules []string, resource, sub string) bool {
	for _, r := range rules {
		if r == "*" {
			return true
		}
		if sub == "" {
			if r == resource {
				return true
			}
			continue
		}
		// "pods/log", or "*/scale" for a subresource of everything.
		if rest, ok := strings.CutSuffix(r, "/"+sub); ok && (rest == resource || rest == "*") {
			return true
		}
	}
	return false
}

func pathMatches(rules []string, path string) bool {
	for _, r := range rules {
		if r == "*" || r == path {
			return true
		}
		if prefix, ok := strings.CutSuffix(r, "*"); ok && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}
