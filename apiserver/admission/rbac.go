package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	rbacvalidation "k8s.io/component-helpers/auth/rbac/validation"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/registry"
)

// Escalation keeps users from granting what they do not have: a role's rules must be covered by the rules that its writer
// has, or the writer may "escalate" the role; a binding's role must be covered likewise, or the writer may "bind" it. A ClusterRole
// that aggregates others may come to have any rule there is, so that its writer must have all.
// A role that does not exist may come to have any rule as well, and is bound only by those who may "bind" it. What only helps the garbage
// collector grants nothing.
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping)
func Escalation(rbac *authz.RBAC, reader Reader, authorizer authz.Authorizer) Plugin {
	e := escalation{rbac, reader, authorizer}
	return Plugin{Name: "RBACEscalation", Validate: func(ctx context.Context, a *Attributes) error {
		if a.Operation == Delete || a.Resource.Kind.Group != rbacv1.GroupName || a.User.In(authn.Masters) || onlyCollected(a) {
			return nil
		}
		switch obj := a.Object.(type) {
		case *rbacv1.Role:
			return e.role(ctx, a, obj.Namespace, obj.Rules)
		case *rbacv1.ClusterRole:
			rules := obj.Rules
			if old, _ := a.Old.(*rbacv1.ClusterRole); obj.AggregationRule != nil || old != nil && old.AggregationRule != nil {
				rules = append(slices.Clone(rules), everything()...)
			}
			return e.role(ctx, a, "", rules)
		case *rbacv1.RoleBinding:
			return e.binding(ctx, a, obj.Namespace, obj.RoleRef)
		case *rbacv1.ClusterRoleBinding:
			return e.binding(ctx, a, "", obj.RoleRef)
		}
		return nil
	}}
}

// onlyCollected reports whether a write changes nothing but what the garbage collector has to.
func onlyCollected(a *Attributes) bool {
	if a.Old == nil || a.Object == nil {
		return false
	}
	was, now := a.Old.DeepCopyObject().(registry.Object), a.Object.DeepCopyObject().(registry.Object)
	for _, o := range []registry.Object{was, now} {
		o.SetOwnerReferences(nil)
		o.SetFinalizers(nil)
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
		o.GetObjectKind().SetGroupVersionKind(a.Resource.Kind)
	}
	return equality.Semantic.DeepEqual(was, now)
}

// everything are the rules that cover all others.
func everything() []rbacv1.PolicyRule {
	all := []string{"*"}
	return []rbacv1.PolicyRule{{Verbs: all, APIGroups: all, Resources: all}, {Verbs: all, NonResourceURLs: all}}
}

type escalation struct {
	rbac *authz.RBAC
	// reader finds the roles: those that the rules are made of may be a moment old.
	reader     Reader
	authorizer authz.Authorizer
}

func (e escalation) role(ctx context.Context, a *Attributes, namespace string, rules []rbacv1.PolicyRule) error {
	return e.check(ctx, a, namespace, rules, authz.Attributes{
		User: a.User, Verb: "escalate", Group: rbacv1.GroupName, Version: "v1", Resource: a.Resource.Plural, Namespace: namespace, Name: a.Name,
	})
}

func (e escalation) binding(ctx context.Context, a *Attributes, namespace string, ref rbacv1.RoleRef) error {
	plural, in := "clusterroles", ""
	if ref.Kind == "Role" {
		plural, in = "roles", namespace
	}
	exception := authz.Attributes{User: a.User, Verb: "bind", Group: rbacv1.GroupName, Version: "v1", Resource: plural, Namespace: namespace, Name: ref.Name}
	obj, ok, err := e.reader.Object(ctx, rbacv1.GroupName, plural, in, ref.Name, true)
	if err != nil {
		return err
	}
	if !ok {
		if d, _, err := e.authorizer.Authorize(ctx, &exception); err != nil || d == authz.Allow {
			return err
		}
		return apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: plural}, ref.Name)
	}
	var rules []rbacv1.PolicyRule
	switch role := obj.(type) {
	case *rbacv1.Role:
		rules = role.Rules
	case *rbacv1.ClusterRole:
		rules = role.Rules
	}
	return e.check(ctx, a, namespace, rules, exception)
}

// check allows what the writer has, and what the exception allows.
func (e escalation) check(ctx context.Context, a *Attributes, namespace string, rules []rbacv1.PolicyRule, exception authz.Attributes) error {
	ok, missing := rbacvalidation.Covers(e.rbac.RulesFor(a.User, namespace), rules)
	if ok {
		return nil
	}
	if d, _, err := e.authorizer.Authorize(ctx, &exception); err != nil || d == authz.Allow {
		return err
	}
	var lines strings.Builder
	for i := range missing {
		fmt.Fprintf(&lines, "\n%s", describeRule(&missing[i]))
	}
	return apierrors.NewForbidden(resource(a), a.Name, fmt.Errorf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:%s",
		a.User.Name, a.User.Groups, lines.String()))
}

// describeRule prints a rule in one line, as Kubernetes does.
func describeRule(r *rbacv1.PolicyRule) string {
	var parts []string
	add := func(name string, list []string) {
		if len(list) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", name, list))
		}
	}
	add("APIGroups", r.APIGroups)
	add("Resources", r.Resources)
	add("ResourceNames", r.ResourceNames)
	add("NonResourceURLs", r.NonResourceURLs)
	add("Verbs", r.Verbs)
	return "{" + strings.Join(parts, ", ") + "}"
}
