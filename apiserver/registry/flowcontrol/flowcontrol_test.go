package flowcontrol_test

import (
	"testing"
	"time"

	"bareboat.dev/apiserver/registry/flowcontrol"
	"bareboat.dev/apiserver/registry/kindtest"
)

// Schemas that kube-apiserver accepts and refuses, and why.
func TestFlowSchema(t *testing.T) {
	r := kindtest.Kind(t, flowcontrol.Resources(), "FlowSchema")
	const base = `
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: f}
spec:
  priorityLevelConfiguration: {name: l}
  rules:
  - subjects: [{kind: User, user: {name: u}}]
    resourceRules: [{verbs: [get], apiGroups: ['*'], resources: [pods], namespaces: [default]}]
`
	rule := func(s string) string { return "spec: {rules: [" + s + "]}" }
	const subjects = "subjects: [{kind: Group, group: {name: g}}]"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "paths", Edit: rule("{" + subjects + ", nonResourceRules: [{verbs: ['*'], nonResourceURLs: [/, /healthz/*]}]}")},
		{Name: "precedence", Edit: "spec: {matchingPrecedence: 10001}", Want: []string{"spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"}},
		{Name: "first", Edit: "spec: {matchingPrecedence: 1}", Want: []string{
			"spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"}},
		{Name: "negative", Edit: "spec: {matchingPrecedence: -1}", Want: []string{"spec.matchingPrecedence: Invalid value: -1: must be a positive value"}},
		{Name: "level", Edit: "spec: {priorityLevelConfiguration: {name: ''}, distinguisherMethod: {type: Odd}}", Want: []string{
			"spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
			`spec.distinguisherMethod.type: Unsupported value: "Odd": supported values: "ByNamespace", "ByUser"`}},
		{Name: "empty rule", Edit: rule("{subjects: []}"), Want: []string{
			"spec.rules[0].subjects: Required value: subjects must contain at least one value",
			"spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty"}},
		{Name: "subjects", Edit: rule(`{subjects: [{kind: Odd}, {kind: User, group: {name: g}}, {kind: ServiceAccount, serviceAccount: {name: '*', namespace: ''}}],
nonResourceRules: [{verbs: [get], nonResourceURLs: ['*']}]}`), Want: []string{
			`spec.rules[0].subjects[0].kind: Unsupported value: "Odd": supported values: "Group", "ServiceAccount", "User"`,
			"spec.rules[0].subjects[1].user: Required value: user is required when subject kind is 'User'",
			"spec.rules[0].subjects[1].group: Forbidden: group is forbidden when subject kind is not 'Group'",
			"spec.rules[0].subjects[2].serviceAccount.namespace: Required value: must specify namespace for service account"}},
		{Name: "resources", Edit: rule("{" + subjects + ", resourceRules: [{verbs: [odd], apiGroups: ['*', a], resources: [], namespaces: ['A']}, {verbs: [], apiGroups: [a], resources: [a], namespaces: []}]}"), Want: []string{
			`spec.rules[0].resourceRules[0].verbs: Unsupported value: ["odd"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"`,
			`spec.rules[0].resourceRules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other api groups`,
			"spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource",
			`spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DNS-1123 label; …`,
			"spec.rules[0].resourceRules[1].verbs: Required value: verbs must contain at least one value",
			"spec.rules[0].resourceRules[1].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace"}},
		{Name: "paths", Edit: rule("{" + subjects + ", nonResourceRules: [{verbs: [get], nonResourceURLs: ['', a, '/a b', //, /a*]}]}"), Want: []string{
			`spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "": must not be empty`,
			`spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "a": must start with slash`,
			`spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/a b": must not contain white-space`,
			`spec.rules[0].nonResourceRules[0].nonResourceURLs[3]: Invalid value: "//": must not contain double slash`,
			`spec.rules[0].nonResourceRules[0].nonResourceURLs[4]: Invalid value: "/a*": wildcard can only do suffix matching`}},
		{Name: "mandatory", Edit: "metadata: {name: catch-all}", Want: []string{"spec: Invalid value: {…"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "anything", Edit: "spec: {matchingPrecedence: 5}"}})
	obj, _ := kindtest.New(t, r, base)
	for i, want := range map[int]string{1: "l", 2: "1000", 3: "<none>", 5: "?"} {
		if got := r.Columns[i].Cell(obj, time.Time{}); got != want {
			t.Errorf("column %s: got %q, want %q", r.Columns[i].Name, got, want)
		}
	}
	if got := r.Columns[2].JSONCell("1000"); got != int64(1000) {
		t.Errorf("the precedence is sent as %T", got)
	}
}

// Levels that kube-apiserver accepts and refuses, and why.
func TestPriorityLevel(t *testing.T) {
	r := kindtest.Kind(t, flowcontrol.Resources(), "PriorityLevelConfiguration")
	const base = `
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: l}
spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}
`
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "reject", Edit: "spec: {limited: {nominalConcurrencyShares: 0, limitResponse: {type: Reject, queuing: null}}}"},
		{Name: "exempt", Edit: "{metadata: {name: exempt}, spec: {type: Exempt, limited: null, exempt: {lendablePercent: 50}}}"},
		{Name: "exempt by another name", Edit: "spec: {type: Exempt}", Want: []string{
			`spec.type: Invalid value: "Exempt": type must be 'Exempt' if and only if name is 'exempt'`,
			"spec.limited: Forbidden: must be nil if the type is not Limited"}},
		{Name: "unlimited", Edit: "spec: {limited: null, exempt: {}}", Want: []string{
			"spec.exempt: Forbidden: must be nil if the type is Limited", "spec.limited: Required value: must not be empty when type is Limited"}},
		{Name: "type", Edit: "spec: {type: Odd}", Want: []string{`spec.type: Unsupported value: "Odd": supported values: "Exempt", "Limited"`}},
		{Name: "numbers", Edit: "spec: {limited: {nominalConcurrencyShares: -1, lendablePercent: 101, borrowingLimitPercent: -1, limitResponse: {queuing: {queues: 10000001, handSize: -1, queueLengthLimit: -1}}}}", Want: []string{
			"spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
			"spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
			"spec.limited.borrowingLimitPercent: Invalid value: -1: must be a non-negative integer",
			"spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive",
			"spec.limited.limitResponse.queuing.queues: Invalid value: 10000001: must not be greater than 10000000",
			"spec.limited.limitResponse.queuing.handSize: Invalid value: -1: must be positive"}},
		{Name: "hand", Edit: "spec: {limited: {limitResponse: {queuing: {queues: 512, handSize: 8}}}}", Want: []string{
			"spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 512 and handSize 8 should not be greater than 60"}},
		{Name: "mandatory", Edit: "metadata: {name: catch-all}", Want: []string{"spec: Invalid value: {…"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "anything", Edit: "spec: {limited: {nominalConcurrencyShares: 5}}"}})
}
