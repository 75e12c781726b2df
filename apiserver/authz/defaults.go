package authz

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/authn"
)

// Defaults returns the roles and bindings that Kubernetes creates in every cluster
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings), and Bareboat's own for
// its DNS daemon. The controllers share one identity here, so each system:controller:* role is bound both to its
// upstream ServiceAccount and to system:kube-controller-manager.
func Defaults() *Policy {
	p := &Policy{}
	p.everybody()
	p.users()
	p.components()
	p.controllers()
	return p
}

func (p *Policy) everybody() {
	p.role("cluster-admin", rule(verbs("*"), "*", "*"), rbacv1.PolicyRule{Verbs: verbs("*"), NonResourceURLs: []string{"*"}})
	p.bind("cluster-admin", group(authn.Masters))
	p.role("system:public-info-viewer", paths("/healthz", "/livez", "/readyz", "/version", "/version/"))
	p.bind("system:public-info-viewer", group(authn.AllAuthenticated), group(authn.Unauthenticated))
	p.role("system:discovery", paths("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"))
	p.bind("system:discovery", group(authn.AllAuthenticated))
	p.role("system:basic-user",
		rule(verbs("create"), "authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
		rule(verbs("create"), "authentication.k8s.io", "selfsubjectreviews"))
	p.bind("system:basic-user", group(authn.AllAuthenticated))
	p.role("system:monitoring", paths("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"))
	p.bind("system:monitoring", group("system:monitoring"))
	p.extensions()
	p.role("system:service-account-issuer-discovery", paths("/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/"))
	p.bind("system:service-account-issuer-discovery", group(authn.ServiceAccounts))
}

// extensions lets aggregated API servers read whom to believe.
func (p *Policy) extensions() {
	const name = "extension-apiserver-authentication-reader"
	meta := bootstrapMeta(name)
	meta.Namespace = metav1.NamespaceSystem
	p.RoleList = append(p.RoleList, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{named(rule(read, "", "configmaps"), "extension-apiserver-authentication")}})
	bound := bootstrapMeta("system::" + name)
	bound.Namespace = metav1.NamespaceSystem
	p.RoleBindingList = append(p.RoleBindingList, &rbacv1.RoleBinding{
		ObjectMeta: bound, Subjects: []rbacv1.Subject{user(controllerManagerUser), user(schedulerUser)},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
	})
}

// users makes admin, edit and view, each from its aggregated part.
func (p *Policy) users() {
	view := p.aggregate("view", viewRules())
	edit := p.aggregate("edit", editRules())
	admin := p.aggregate("admin", []rbacv1.PolicyRule{
		rule(verbs("create"), "authorization.k8s.io", "localsubjectaccessreviews"),
		rule(readWrite, "rbac.authorization.k8s.io", "rolebindings", "roles"),
	})
	join := func(parts ...[]rbacv1.PolicyRule) (all []rbacv1.PolicyRule) {
		for _, part := range parts {
			all = append(all, part...)
		}
		return all
	}
	p.aggregated("view", "", join(view))
	p.aggregated("edit", "admin", join(edit, view))
	p.aggregated("admin", "", join(admin, edit, view))
}

// aggregate makes the role system:aggregate-to-<to>, which is labelled to be part of role <to>.
func (p *Policy) aggregate(to string, rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	r := p.role("system:aggregate-to-"+to, rules...)
	r.Labels[aggregateLabel(to)] = "true"
	return rules
}

// aggregated makes a role that is the union of all roles labelled for it. Role `view` is itself part of `edit`, and
// `edit` of `admin`, by label.
func (p *Policy) aggregated(name, partOf string, rules []rbacv1.PolicyRule) {
	r := p.role(name, rules...)
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{aggregateLabel(name): "true"}}}}
	if name == "view" {
		partOf = "edit"
	}
	if partOf != "" {
		r.Labels[aggregateLabel(partOf)] = "true"
	}
}

func aggregateLabel(to string) string { return "rbac.authorization.k8s.io/aggregate-to-" + to }

func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(read, "", "configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods",
			"replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services", "services/status"),
		rule(read, "", "bindings", "events", "limitranges", "namespaces/status", "pods/log", "pods/status",
			"replicationcontrollers/status", "resourcequotas", "resourcequotas/status"),
		rule(read, "", "namespaces"),
		rule(read, "discovery.k8s.io", "endpointslices"),
		rule(read, "apps", "controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status",
			"replicasets", "replicasets/scale", "replicasets/status", "statefulsets", "statefulsets/scale", "statefulsets/status"),
		rule(read, "autoscaling", "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
		rule(read, "batch", "cronjobs", "cronjobs/status", "jobs", "jobs/status"),
		rule(read, "policy", "poddisruptionbudgets", "poddisruptionbudgets/status"),
		rule(read, "networking.k8s.io", "ingresses", "ingresses/status", "networkpolicies"),
		rule(read, "events.k8s.io", "events"),
		rule(read, "resource.k8s.io", "resourceclaims", "resourceclaims/status", "resourceclaimtemplates"),
	}
}

func editRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(read, "", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"),
		rule(verbs("impersonate"), "", "serviceaccounts"),
		rule(write, "", "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"),
		rule(verbs("create"), "", "pods/eviction"),
		rule(write, "", "configmaps", "events", "persistentvolumeclaims", "replicationcontrollers", "replicationcontrollers/scale",
			"secrets", "serviceaccounts", "services", "services/proxy"),
		rule(verbs("create"), "", "serviceaccounts/token"),
		rule(write, "apps", "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale",
			"statefulsets", "statefulsets/scale"),
		rule(write, "autoscaling", "horizontalpodautoscalers"),
		rule(write, "batch", "cronjobs", "jobs"),
		rule(write, "policy", "poddisruptionbudgets"),
		rule(write, "networking.k8s.io", "ingresses", "networkpolicies"),
		rule(readWrite, "coordination.k8s.io", "leases"),
		rule(write, "resource.k8s.io", "resourceclaims", "resourceclaimtemplates"),
	}
}
