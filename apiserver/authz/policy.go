package authz

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Policy is a fixed set of RBAC objects. It is a Rules and is read only.
type Policy struct {
	ClusterRoleList        []*rbacv1.ClusterRole
	ClusterRoleBindingList []*rbacv1.ClusterRoleBinding
	RoleList               []*rbacv1.Role
	RoleBindingList        []*rbacv1.RoleBinding
}

// ClusterRole implements Rules.
func (p *Policy) ClusterRole(name string) (*rbacv1.ClusterRole, bool) {
	for _, r := range p.ClusterRoleList {
		if r.Name == name {
			return r, true
		}
	}
	return nil, false
}

// Role implements Rules.
func (p *Policy) Role(namespace, name string) (*rbacv1.Role, bool) {
	for _, r := range p.RoleList {
		if r.Namespace == namespace && r.Name == name {
			return r, true
		}
	}
	return nil, false
}

// ClusterRoleBindings implements Rules.
func (p *Policy) ClusterRoleBindings() []*rbacv1.ClusterRoleBinding { return p.ClusterRoleBindingList }

// RoleBindings implements Rules.
func (p *Policy) RoleBindings(namespace string) []*rbacv1.RoleBinding {
	var out []*rbacv1.RoleBinding
	for _, b := range p.RoleBindingList {
		if b.Namespace == namespace {
			out = append(out, b)
		}
	}
	return out
}

var (
	read      = []string{"get", "list", "watch"}
	write     = []string{"create", "delete", "deletecollection", "patch", "update"}
	readWrite = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
)

// rule reads as a sentence: rule(verbs, group, resources…).
func rule(verbs []string, group string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: resources}
}

func verbs(v ...string) []string { return v }

func paths(v ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: v}
}

// events is what every component may do to report.
func events() rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs("create", "patch", "update"), APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}}
}

// named narrows a rule to some objects.
func named(r rbacv1.PolicyRule, names ...string) rbacv1.PolicyRule {
	r.ResourceNames = names
	return r
}

func (p *Policy) role(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: bootstrapMeta(name), Rules: rules}
	p.ClusterRoleList = append(p.ClusterRoleList, r)
	return r
}

func (p *Policy) bind(name string, subjects ...rbacv1.Subject) {
	p.ClusterRoleBindingList = append(p.ClusterRoleBindingList, &rbacv1.ClusterRoleBinding{
		ObjectMeta: bootstrapMeta(name), Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	})
}

func bootstrapMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:        name,
		Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func serviceAccount(namespace, name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}
}
