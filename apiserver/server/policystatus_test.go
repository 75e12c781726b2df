package server_test

import (
	"strings"
	"testing"
)

// warningsOf returns the warnings in a policy's status once it has been checked in the generation that it has.
func (u *user) warningsOf(t *testing.T, name string, checked func(warnings []any) bool) []any {
	t.Helper()
	var warnings []any
	await(t, u, "/apis/"+policyAPI+"validatingadmissionpolicies", `"`+name+`"`, func(o map[string]any) bool {
		status, _ := o["status"].(map[string]any)
		checking, ok := status["typeChecking"].(map[string]any)
		warnings, _ = checking["expressionWarnings"].([]any)
		return ok && status["observedGeneration"] == o["metadata"].(map[string]any)["generation"] && (checked == nil || checked(warnings))
	})
	return warnings
}

// A validating policy's status says what its expressions get wrong of the kinds that it names, built in or custom, and keeps saying it
// when definitions come that say otherwise.
func TestPolicyStatus(t *testing.T) {
	h := start(t, engines()["memory"](t))
	u := h.admin()
	const all = "/apis/" + policyAPI + "validatingadmissionpolicies"
	about := func(name, group, resource, rest string) string {
		return "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: " + name + "}\nspec:\n" +
			"  matchConstraints: {resourceRules: [{operations: ['*'], apiGroups: ['" + group + "'], apiVersions: [v1], resources: [" + resource + "]}]}\n" + rest
	}
	u.ask(t, "POST", all, "", about("right", "apps", "deployments", "  validations: [{expression: 'object.spec.replicas > 1'}]\n")).want(201)
	if w := u.warningsOf(t, "right", nil); len(w) != 0 {
		t.Errorf("warnings of what is right: %v", w)
	}
	u.ask(t, "POST", all, "", about("wrong", "apps", "deployments", "  validations: [{expression: \"object.spec.replicas > '1'\", messageExpression: \"'wants more, got ' + object.spec.replicas\"}]\n")).want(201)
	w := u.warningsOf(t, "wrong", nil)
	if len(w) != 2 || w[0].(map[string]any)["fieldRef"] != "spec.validations[0].expression" || w[1].(map[string]any)["fieldRef"] != "spec.validations[0].messageExpression" ||
		!strings.Contains(w[0].(map[string]any)["warning"].(string), "found no matching overload for '_>_' applied to '(int, string)'") {
		t.Errorf("warnings of what is wrong: %v", w)
	}
	u.ask(t, "PATCH", all+"/wrong", merge, `{"spec":{"validations":[{"expression":"object.spec.replicas > 1"}]}}`).want(200)
	if w := u.warningsOf(t, "wrong", nil); len(w) != 0 {
		t.Errorf("warnings of what has been mended: %v", w)
	}
	// Nothing is known of what is not defined yet.
	u.ask(t, "POST", all, "", about("custom", "example.com", "limits", "  validations: [{expression: 'object.most < 10 && object.least > 3'}]\n")).want(201)
	if w := u.warningsOf(t, "custom", nil); len(w) != 0 {
		t.Errorf("warnings of what is not defined: %v", w)
	}
	define(t, u, "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"+limitsCRD)
	w = u.warningsOf(t, "custom", func(w []any) bool { return len(w) > 0 })
	if len(w) != 1 || !strings.Contains(w[0].(map[string]any)["warning"].(string), "undefined field 'least'") {
		t.Errorf("warnings of what has been defined: %v", w)
	}
}
