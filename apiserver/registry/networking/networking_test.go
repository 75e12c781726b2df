package networking_test

import (
	"reflect"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/networking"
)

const networkPolicy = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec: {podSelector: {matchLabels: {app: a}}}
`

// Policies that kube-apiserver accepts and refuses, and why.
func TestNetworkPolicy(t *testing.T) {
	r := kindtest.Kind(t, networking.Resources(), "NetworkPolicy")
	kindtest.Create(t, r, networkPolicy, []kindtest.Case{
		{Name: "minimal"},
		{Name: "full", Edit: `
spec:
  ingress: [{ports: [{port: 80}, {port: http, protocol: UDP}, {port: 10, endPort: 20}], from: [{podSelector: {}, namespaceSelector: {}}]}]
  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}, {}]
  policyTypes: [Ingress, Egress]`},
		{Name: "ports", Edit: `
spec:
  ingress:
  - ports: [{port: 0}, {port: NOT_OK, protocol: ICMP}, {endPort: 5}, {port: http, endPort: 5}, {port: 20, endPort: 10}, {port: 20, endPort: 65536}]`,
			Want: []string{
				"spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
				`spec.ingress[0].ports[1].port: Invalid value: "NOT_OK": must contain at least one letter (a-z)`,
				`spec.ingress[0].ports[1].port: Invalid value: "NOT_OK": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)`,
				`spec.ingress[0].ports[1].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"`,
				"spec.ingress[0].ports[2].endPort: Invalid value: 5: may not be specified when `port` is not specified",
				"spec.ingress[0].ports[3].endPort: Invalid value: 5: may not be specified when `port` is non-numeric",
				"spec.ingress[0].ports[4].endPort: Invalid value: 20: must be greater than or equal to `port`",
				"spec.ingress[0].ports[5].endPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
			}},
		{Name: "peers", Edit: `
spec:
  egress:
  - to: [{}, {podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: ""}}, {ipBlock: {cidr: ten}}, {ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9, 10.0.0.0/8]}}]`,
			Want: []string{
				"spec.egress[0].to[0]: Required value: must specify a peer",
				"spec.egress[0].to[1]: Forbidden: may not specify both ipBlock and another peer",
				"spec.egress[0].to[2].ipBlock.cidr: Required value",
				`spec.egress[0].to[3].ipBlock.cidr: Invalid value: "ten": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`,
				"spec.egress[0].to[4].ipBlock.except[0]: Invalid value: \"11.0.0.0/9\": must be a strict subset of `cidr`",
				"spec.egress[0].to[4].ipBlock.except[1]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
			}},
		{Name: "type", Edit: "spec: {policyTypes: [Sideways]}", Want: []string{
			`spec.policyTypes[0]: Unsupported value: "Sideways": supported values: "Ingress", "Egress"`}},
		{Name: "types", Edit: "spec: {policyTypes: [Ingress, Egress, Ingress]}", Want: []string{
			`spec.policyTypes: Invalid value: ["Ingress","Egress","Ingress"]: may not specify more than two policyTypes`}},
	})
	kindtest.Update(t, r, networkPolicy, []kindtest.Case{
		{Name: "everything may change", Edit: "spec: {podSelector: {matchLabels: {app: b}}, egress: [{}]}"},
	})
}

// A policy with egress rules is one of both directions, and ports are TCP's unless they say otherwise.
func TestNetworkPolicyDefaults(t *testing.T) {
	r := kindtest.Kind(t, networking.Resources(), "NetworkPolicy")
	obj, errs := kindtest.New(t, r, kindtest.Edit(t, networkPolicy, "spec: {egress: [{ports: [{port: 1}]}]}"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s := obj.(*networkingv1.NetworkPolicy).Spec
	if want := []networkingv1.PolicyType{"Ingress", "Egress"}; !reflect.DeepEqual(s.PolicyTypes, want) {
		t.Errorf("types: got %v, want %v", s.PolicyTypes, want)
	}
	if p := s.Egress[0].Ports[0].Protocol; p == nil || *p != "TCP" {
		t.Errorf("protocol: got %v, want TCP", p)
	}
}
