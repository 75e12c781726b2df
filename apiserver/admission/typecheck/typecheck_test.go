package typecheck_test

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/typecheck"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
	"bareboat.dev/apiserver/server/openapi"
)

func served(t *testing.T) *registry.Set {
	t.Helper()
	set, err := registry.NewSet(groups.All(core.Config{})...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func rule(group, version string, resources ...string) admissionregistrationv1.NamedRuleWithOperations {
	var r admissionregistrationv1.NamedRuleWithOperations
	r.Rule = admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: resources}
	return r
}

func policy(rules []admissionregistrationv1.NamedRuleWithOperations, expressions ...string) *admissionregistrationv1.ValidatingAdmissionPolicySpec {
	s := &admissionregistrationv1.ValidatingAdmissionPolicySpec{MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: rules}}
	for _, e := range expressions {
		s.Validations = append(s.Validations, admissionregistrationv1.Validation{Expression: e})
	}
	return s
}

// Expressions that the named kinds' fields do not allow for are warned of, once for each kind, with the compiler's words; others are not.
func TestCheck(t *testing.T) {
	set := served(t)
	checker := typecheck.Checker{Compiler: expression.NewCompiler(), Schema: openapi.Inline}
	deployments := []admissionregistrationv1.NamedRuleWithOperations{rule("apps", "v1", "deployments")}
	workloads := []admissionregistrationv1.NamedRuleWithOperations{rule("apps", "v1", "deployments", "daemonsets")}
	pods := []admissionregistrationv1.NamedRuleWithOperations{rule("", "v1", "pods")}
	for _, test := range []struct {
		name string
		spec *admissionregistrationv1.ValidatingAdmissionPolicySpec
		want map[string][]string // parts of the warnings by field
	}{
		{"right", policy(deployments, "object.spec.replicas > 1 && object.metadata.labels['app'] != '' && !has(oldObject.status)"), nil},
		{"an int is no string", policy(deployments, "object.spec.replicas > '1'"), map[string][]string{
			"spec.validations[0].expression": {"apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"}}},
		{"no such field", policy(deployments, "true", "object.spec.replica > 1"), map[string][]string{"spec.validations[1].expression": {"undefined field 'replica'"}}},
		{"of one kind", policy(workloads, "object.spec.replicas > 1"), map[string][]string{"spec.validations[0].expression": {"apps/v1, Kind=DaemonSet: ERROR: <input>:1:12: undefined field 'replicas'"}}},
		{"of every kind", policy(workloads, "object.spec.x > 1"), map[string][]string{"spec.validations[0].expression": {"Kind=DaemonSet: ERROR", "\n\napps/v1, Kind=Deployment: ERROR"}}},
		{"quantities are text, ports are anything", policy(pods,
			"object.spec.containers.all(c, quantity(c.resources.limits['cpu']).isGreaterThan(quantity('1')) && c.livenessProbe.httpGet.port == 80 && c.livenessProbe.httpGet.port != 'http')"), nil},
		{"times are times", policy(pods, "object.metadata.creationTimestamp < timestamp('2026-01-01T00:00:00Z')"), nil},
		{"any group says nothing", policy([]admissionregistrationv1.NamedRuleWithOperations{rule("*", "v1", "deployments")}, "object.spec.x"), nil},
		{"subresources are of other kinds", policy([]admissionregistrationv1.NamedRuleWithOperations{rule("apps", "v1", "deployments/scale", "*")}, "object.spec.x"), nil},
		{"not served", policy([]admissionregistrationv1.NamedRuleWithOperations{rule("example.com", "v1", "things")}, "object.spec.x"), nil},
	} {
		found := map[string]string{}
		for _, w := range checker.Check(test.spec, typecheck.KindsOf(test.spec, set)) {
			found[w.FieldRef] = w.Warning
		}
		if len(found) != len(test.want) {
			t.Errorf("%s: warnings %v", test.name, found)
		}
		for at, parts := range test.want {
			for _, part := range parts {
				if !strings.Contains(found[at], part) {
					t.Errorf("%s: %s: %q has no %q", test.name, at, found[at], part)
				}
			}
		}
	}
}

// Parameters and variables have types too, and messages are checked like rules.
func TestCheckScope(t *testing.T) {
	s := policy([]admissionregistrationv1.NamedRuleWithOperations{rule("apps", "v1", "deployments")}, "variables.count > params.data.most", "variables.count > 3 && authorizer.group('').resource('pods').check('list').allowed()")
	s.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
	s.Variables = []admissionregistrationv1.Variable{{Name: "count", Expression: "object.spec.replicas"}}
	s.Validations[1].MessageExpression = "'wants more than ' + variables.count"
	checker := typecheck.Checker{Compiler: expression.NewCompiler(), Schema: openapi.Inline}
	warnings := checker.Check(s, typecheck.KindsOf(s, served(t)))
	if len(warnings) != 2 || warnings[0].FieldRef != "spec.validations[0].expression" || !strings.Contains(warnings[0].Warning, "'_>_' applied to '(int, string)'") ||
		warnings[1].FieldRef != "spec.validations[1].messageExpression" || !strings.Contains(warnings[1].Warning, "'_+_' applied to '(string, int)'") {
		t.Errorf("warnings: %+v", warnings)
	}
}

// A policy of many kinds is compared with a bounded number of them.
func TestKindsBounded(t *testing.T) {
	set := served(t)
	var rules []admissionregistrationv1.NamedRuleWithOperations
	for _, r := range set.All() {
		rules = append(rules, rule(r.Kind.Group, r.Kind.Version, r.Plural))
	}
	if n := len(typecheck.KindsOf(policy(rules), set).Objects); n != 10 {
		t.Errorf("%d kinds", n)
	}
}

// Every kind that is built in can be checked.
func TestEveryKind(t *testing.T) {
	set := served(t)
	checker := typecheck.Checker{Compiler: expression.NewCompiler(), Schema: openapi.Inline}
	for _, r := range set.All() {
		if _, err := openapi.Inline(r); err != nil {
			t.Error(err)
		}
		s := policy([]admissionregistrationv1.NamedRuleWithOperations{rule(r.Kind.Group, r.Kind.Version, r.Plural)}, "object.kind == 'x' && object.metadata.name != ''", "object.nothing")
		if w := checker.Check(s, typecheck.KindsOf(s, set)); len(w) != 1 || !strings.Contains(w[0].Warning, "undefined field 'nothing'") {
			t.Errorf("%s: %v", r.Kind, w)
		}
	}
}
