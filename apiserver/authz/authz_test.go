package authz

import (
	"context"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"bareboat.dev/apiserver/authn"
)

// graph is a Graph of fixed "node resource namespace/name" relations.
type graph map[string]bool

func (g graph) NodeUses(_ context.Context, node, resource, namespace, name string) (bool, error) {
	return g[node+" "+resource+" "+namespace+"/"+name], nil
}

func chain() Chain {
	return Chain{Masters{}, &Node{Graph: graph{"n1 secrets ns/s": true, "n1 pods ns/p": true, "n1 serviceaccounts ns/robot": true, "n1 resourceclaims ns/c": true, "n1 resourceslices /s": true}}, &RBAC{Rules: Defaults()}}
}

func id(name string, groups ...string) *authn.Identity {
	return &authn.Identity{Name: name, Groups: append(groups, authn.AllAuthenticated)}
}

// The default policy lets each component do its work and denies what is not its business.
func TestDefaultDecisions(t *testing.T) {
	node := id("system:node:n1", authn.Nodes)
	anonymous := &authn.Identity{Name: authn.Anonymous, Groups: []string{authn.Unauthenticated}}
	scheduler, manager := id("system:kube-scheduler"), id("system:kube-controller-manager")
	own := map[string]string{"spec.nodeName": "n1"}
	for _, tc := range []struct {
		name  string
		a     Attributes
		allow bool
	}{
		{"admin may all", Attributes{User: id("a", authn.Masters), Verb: "delete", Resource: "nodes", Name: "x"}, true},
		{"anonymous sees health", Attributes{User: anonymous, Verb: "get", Path: "/healthz"}, true},
		{"anonymous sees the version", Attributes{User: anonymous, Verb: "get", Path: "/version"}, true},
		{"anonymous sees no metrics", Attributes{User: anonymous, Verb: "get", Path: "/metrics"}, false},
		{"anonymous lists nothing", Attributes{User: anonymous, Verb: "list", Resource: "pods"}, false},
		{"authenticated sees discovery", Attributes{User: id("x"), Verb: "get", Path: "/apis/apps/v1"}, true},
		{"authenticated lists nothing", Attributes{User: id("x"), Verb: "list", Resource: "pods"}, false},
		{"scheduler binds", Attributes{User: scheduler, Verb: "create", Resource: "pods", Subresource: "binding", Namespace: "ns", Name: "p"}, true},
		{"scheduler reads no secrets", Attributes{User: scheduler, Verb: "get", Resource: "secrets", Namespace: "ns", Name: "s"}, false},
		{"scheduler renews its lease", Attributes{User: scheduler, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system", Name: "kube-scheduler"}, true},
		{"scheduler renews no other's lease", Attributes{User: scheduler, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system", Name: "kube-controller-manager"}, false},
		{"controllers create pods", Attributes{User: manager, Verb: "create", Resource: "pods", Namespace: "ns"}, true},
		{"controllers write status", Attributes{User: manager, Verb: "update", Group: "apps", Resource: "deployments", Subresource: "status", Namespace: "ns", Name: "d"}, true},
		{"garbage collector deletes anything", Attributes{User: manager, Verb: "delete", Group: "example.com", Resource: "widgets", Namespace: "ns", Name: "w"}, true},
		{"proxy watches slices", Attributes{User: id("system:kube-proxy"), Verb: "watch", Group: "discovery.k8s.io", Resource: "endpointslices"}, true},
		{"proxy writes no services", Attributes{User: id("system:kube-proxy"), Verb: "update", Resource: "services", Namespace: "ns", Name: "s"}, false},
		{"node lists its pods", Attributes{User: node, Verb: "list", Resource: "pods", Fields: own}, true},
		{"node lists not all pods", Attributes{User: node, Verb: "list", Resource: "pods"}, false},
		{"node gets its pod", Attributes{User: node, Verb: "get", Resource: "pods", Namespace: "ns", Name: "p"}, true},
		{"node gets no other's pod", Attributes{User: node, Verb: "get", Resource: "pods", Namespace: "ns", Name: "q"}, false},
		{"node reads its pods' secret", Attributes{User: node, Verb: "get", Resource: "secrets", Namespace: "ns", Name: "s"}, true},
		{"node watches its pods' secret", Attributes{User: node, Verb: "watch", Resource: "secrets", Namespace: "ns", Fields: map[string]string{"metadata.name": "s"}}, true},
		{"node asks for its pods' certificates", Attributes{User: node, Verb: "create", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Namespace: "ns"}, true},
		{"node watches its pods' requests", Attributes{User: node, Verb: "watch", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Namespace: "ns", Fields: own}, true},
		{"node lists no other's requests", Attributes{User: node, Verb: "list", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Namespace: "ns"}, false},
		{"node answers no requests", Attributes{User: node, Verb: "update", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Subresource: "status", Namespace: "ns", Name: "r"}, false},
		{"node deletes no requests", Attributes{User: node, Verb: "delete", Group: "certificates.k8s.io", Resource: "podcertificaterequests", Namespace: "ns", Name: "r"}, false},
		{"node watches trust bundles", Attributes{User: node, Verb: "watch", Group: "certificates.k8s.io", Resource: "clustertrustbundles"}, true},
		{"node writes no trust bundles", Attributes{User: node, Verb: "update", Group: "certificates.k8s.io", Resource: "clustertrustbundles", Name: "b"}, false},
		{"node gets its pods' account", Attributes{User: node, Verb: "get", Resource: "serviceaccounts", Namespace: "ns", Name: "robot"}, true},
		{"node gets no other account", Attributes{User: node, Verb: "get", Resource: "serviceaccounts", Namespace: "ns", Name: "other"}, false},
		{"node lists no secrets", Attributes{User: node, Verb: "list", Resource: "secrets", Namespace: "ns"}, false},
		{"node reads no other secret", Attributes{User: node, Verb: "get", Resource: "secrets", Namespace: "ns", Name: "t"}, false},
		{"node writes no secret", Attributes{User: node, Verb: "update", Resource: "secrets", Namespace: "ns", Name: "s"}, false},
		{"node writes its status", Attributes{User: node, Verb: "patch", Resource: "nodes", Subresource: "status", Name: "n1"}, true},
		{"node writes no other's status", Attributes{User: node, Verb: "patch", Resource: "nodes", Subresource: "status", Name: "n2"}, false},
		{"node watches its disk's volumes", Attributes{User: node, Verb: "watch", Resource: "persistentvolumes", Labels: map[string]string{VolumeNodeLabel: "n1"}}, true},
		{"node watches no other's volumes", Attributes{User: node, Verb: "watch", Resource: "persistentvolumes", Labels: map[string]string{VolumeNodeLabel: "n2"}}, false},
		{"node lists not all volumes", Attributes{User: node, Verb: "list", Resource: "persistentvolumes"}, false},
		{"node deletes no volumes", Attributes{User: node, Verb: "delete", Resource: "persistentvolumes", Name: "v"}, false},
		{"node gets its pods' claim", Attributes{User: node, Verb: "get", Group: "resource.k8s.io", Resource: "resourceclaims", Namespace: "ns", Name: "c"}, true},
		{"node gets no other claim", Attributes{User: node, Verb: "get", Group: "resource.k8s.io", Resource: "resourceclaims", Namespace: "ns", Name: "d"}, false},
		{"node lists no claims", Attributes{User: node, Verb: "list", Group: "resource.k8s.io", Resource: "resourceclaims", Namespace: "ns"}, false},
		{"node writes no claim", Attributes{User: node, Verb: "update", Group: "resource.k8s.io", Resource: "resourceclaims", Subresource: "status", Namespace: "ns", Name: "c"}, false},
		{"node removes its slices", Attributes{User: node, Verb: "deletecollection", Group: "resource.k8s.io", Resource: "resourceslices", Fields: own}, true},
		{"node removes not all slices", Attributes{User: node, Verb: "deletecollection", Group: "resource.k8s.io", Resource: "resourceslices"}, false},
		{"node deletes its slice", Attributes{User: node, Verb: "delete", Group: "resource.k8s.io", Resource: "resourceslices", Name: "s"}, true},
		{"node deletes no other's slice", Attributes{User: node, Verb: "delete", Group: "resource.k8s.io", Resource: "resourceslices", Name: "t"}, false},
		{"controllers make claims", Attributes{User: manager, Verb: "create", Group: "resource.k8s.io", Resource: "resourceclaims", Namespace: "ns"}, true},
		{"scheduler allocates", Attributes{User: scheduler, Verb: "update", Group: "resource.k8s.io", Resource: "resourceclaims", Subresource: "status", Namespace: "ns", Name: "c"}, true},
		{"node renews its lease", Attributes{User: node, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n1"}, true},
		{"node renews no other's lease", Attributes{User: node, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n2"}, false},
	} {
		d, reason, err := chain().Authorize(t.Context(), &tc.a)
		if err != nil || (d == Allow) != tc.allow {
			t.Errorf("%s: decision %v %q %v", tc.name, d, reason, err)
		}
	}
}

// Rules match groups, resources, subresources, names and paths as RBAC documents it.
func TestRuleAllows(t *testing.T) {
	a := Attributes{Verb: "get", Group: "apps", Resource: "deployments", Subresource: "scale", Name: "d"}
	for _, tc := range []struct {
		name  string
		rule  rbacv1.PolicyRule
		allow bool
	}{
		{"exact", rule(verbs("get"), "apps", "deployments/scale"), true},
		{"any resource's scale", rule(verbs("get"), "apps", "*/scale"), true},
		{"star covers subresources", rule(verbs("*"), "*", "*"), true},
		{"the resource is not its subresource", rule(verbs("get"), "apps", "deployments"), false},
		{"another group", rule(verbs("get"), "batch", "deployments/scale"), false},
		{"named", named(rule(verbs("get"), "apps", "deployments/scale"), "d"), true},
		{"another name", named(rule(verbs("get"), "apps", "deployments/scale"), "e"), false},
	} {
		if got := RuleAllows(&tc.rule, &a); got != tc.allow {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// A RoleBinding's ClusterRole counts in its own namespace only.
func TestRoleBindingScope(t *testing.T) {
	p := Defaults()
	p.RoleBindingList = []*rbacv1.RoleBinding{{
		Subjects: []rbacv1.Subject{serviceAccount("", "bot")}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "edit"},
	}}
	p.RoleBindingList[0].Namespace = "a"
	z := &RBAC{Rules: p}
	bot := id("system:serviceaccount:a:bot")
	for ns, want := range map[string]Decision{"a": Allow, "b": NoOpinion, "": NoOpinion} {
		if d, _, _ := z.Authorize(t.Context(), &Attributes{User: bot, Verb: "create", Resource: "pods", Namespace: ns}); d != want {
			t.Errorf("namespace %q: %v", ns, d)
		}
	}
}

// Denials read as Kubernetes words them.
func TestMessage(t *testing.T) {
	a := Attributes{User: id("x"), Verb: "list", Resource: "pods", Namespace: "y"}
	if got, want := a.Message(""), `User "x" cannot list resource "pods" in API group "" in the namespace "y"`; got != want {
		t.Errorf("%s", got)
	}
	a = Attributes{User: id("x"), Verb: "get", Path: "/metrics"}
	if got, want := a.Message(""), `User "x" cannot get path "/metrics"`; got != want {
		t.Errorf("%s", got)
	}
}
