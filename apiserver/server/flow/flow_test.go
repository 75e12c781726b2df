package flow

import (
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/authn"
)

// Requests fall to the schema that they would fall to in Kubernetes, by precedence, subject, verb, resource, scope and path.
func TestClassify(t *testing.T) {
	schemas, levels := Schemas(), Levels()
	for _, s := range schemas {
		s.UID = types.UID(s.Name)
	}
	for _, l := range levels {
		l.UID = types.UID(l.Name)
	}
	table := NewTable(schemas, levels)
	as := func(name string, groups ...string) *authn.Identity {
		return &authn.Identity{Name: name, Groups: append(groups, authn.AllAuthenticated)}
	}
	node := as("system:node:n", authn.Nodes)
	for _, tc := range []struct {
		r             Request
		schema, level types.UID
	}{
		{Request{User: as("root", authn.Masters), Verb: "list", Resource: "pods"}, "exempt", "exempt"},
		{Request{User: as("jane"), Verb: "get", Path: "/readyz"}, "probes", "exempt"},
		{Request{User: as("jane"), Verb: "get", Path: "/version"}, "global-default", "global-default"},
		{Request{User: node, Verb: "patch", Resource: "nodes", Subresource: "status"}, "system-node-high", "node-high"},
		{Request{User: node, Verb: "list", Resource: "pods"}, "system-nodes", "system"},
		{Request{User: as("system:kube-scheduler"), Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system"}, "system-leader-election", "leader-election"},
		{Request{User: as("system:kube-scheduler"), Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "default"}, "kube-scheduler", "workload-high"},
		{Request{User: as("system:serviceaccount:kube-system:x", authn.ServiceAccounts, authn.ServiceAccounts+":kube-system"), Verb: "list", Resource: "pods"},
			"kube-system-service-accounts", "workload-high"},
		{Request{User: as("system:serviceaccount:a:x", authn.ServiceAccounts, authn.ServiceAccounts+":a"), Verb: "list", Resource: "pods", Namespace: "a"}, "service-accounts", "workload-low"},
	} {
		schema, level, ok := table.Classify(&tc.r)
		if !ok || schema != tc.schema || level != tc.level {
			t.Errorf("%+v by %s: %s %s, want %s %s", tc.r, tc.r.User.Name, schema, level, tc.schema, tc.level)
		}
	}
	if _, _, ok := NewTable([]*flowcontrolv1.FlowSchema{schemas[0]}, nil).Classify(&Request{User: as("root", authn.Masters), Verb: "get", Path: "/"}); ok {
		t.Error("a schema without its level matched")
	}
}
