package rbac_test

import (
	"testing"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/rbac"
)

// Roles that kube-apiserver accepts and refuses, and why.
func TestRoles(t *testing.T) {
	kindtest.Create(t, kindtest.Kind(t, rbac.Resources(), "Role"), `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: 'system:x'}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
`, []kindtest.Case{
		{Name: "minimal"},
		{Name: "no rules", Edit: "rules: null"},
		{Name: "name", Edit: "metadata: {name: a/b}", Want: []string{`metadata.name: Invalid value: "a/b": may not contain '/'`}},
		{Name: "empty rule", Edit: "rules: [{}]", Want: []string{
			"rules[0].verbs: Required value: verbs must contain at least one value",
			"rules[0].apiGroups: Required value: resource rules must supply at least one api group",
			"rules[0].resources: Required value: resource rules must supply at least one resource"}},
		{Name: "URLs", Edit: "rules: [{verbs: [get], nonResourceURLs: [/x], resources: [pods]}]", Want: []string{
			`rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs`,
			`rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs`}},
	})
	kindtest.Create(t, kindtest.Kind(t, rbac.Resources(), "ClusterRole"), `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: x}
`, []kindtest.Case{
		{Name: "URLs", Edit: "rules: [{verbs: [get], nonResourceURLs: [/x]}]"},
		{Name: "aggregation", Edit: "aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}"},
		{Name: "aggregation of nothing", Edit: "aggregationRule: {}", Want: []string{
			"aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"}},
	})
}

// Bindings that kube-apiserver accepts and refuses, and why; what a binding refers to never changes.
func TestBindings(t *testing.T) {
	r := kindtest.Kind(t, rbac.Resources(), "RoleBinding")
	const base = `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: x}
roleRef: {kind: ClusterRole, name: view}
subjects: [{kind: User, name: jane}]
`
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "service account", Edit: "subjects: [{kind: ServiceAccount, name: sa, namespace: other}]"},
		{Name: "ref", Edit: "roleRef: {kind: Pod, name: '', apiGroup: apps}", Want: []string{
			`roleRef.apiGroup: Unsupported value: "apps": supported values: "rbac.authorization.k8s.io"`,
			`roleRef.kind: Unsupported value: "Pod": supported values: "Role", "ClusterRole"`,
			"roleRef.name: Required value"}},
		{Name: "subjects", Edit: "subjects: [{kind: ServiceAccount, name: SA, apiGroup: x}, {kind: Group, name: g, apiGroup: y1}, {kind: Robot, name: r}, {kind: User}]", Want: []string{
			"subjects[0].name: Invalid value: \"SA\": …",
			`subjects[0].apiGroup: Unsupported value: "x": supported values: ""`,
			`subjects[1].apiGroup: Unsupported value: "y1": supported values: "rbac.authorization.k8s.io"`,
			`subjects[2].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"`,
			"subjects[3].name: Required value"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "subjects", Edit: "subjects: null"},
		{Name: "ref", Edit: "roleRef: {name: edit}", Want: []string{
			`roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"edit"}: cannot change roleRef`}},
	})
	kindtest.Create(t, kindtest.Kind(t, rbac.Resources(), "ClusterRoleBinding"), `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: x}
roleRef: {kind: ClusterRole, name: view}
`, []kindtest.Case{
		{Name: "minimal"},
		{Name: "role", Edit: "roleRef: {kind: Role}", Want: []string{`roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"`}},
		{Name: "account of no namespace", Edit: "subjects: [{kind: ServiceAccount, name: sa}]", Want: []string{"subjects[0].namespace: Required value"}},
	})
}
