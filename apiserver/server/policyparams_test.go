package server_test

import (
	"net/http"
	"strings"
	"testing"
)

// Only those name parameters of a policy who may read them: a policy's messages would tell them what is in them.
func TestPolicyParametersAreReadable(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin, dev := h.admin(), h.as("dev")
	check(t, admin.createRBAC(t, "clusterroles", "", `{"metadata":{"name":"policies"},"rules":[{"apiGroups":["admissionregistration.k8s.io"],"resources":["*"],"verbs":["*"]},{"apiGroups":[""],"resources":["configmaps"],"verbs":["get"]}]}`))
	const to = `"subjects":[{"kind":"User","name":"dev","apiGroup":"rbac.authorization.k8s.io"}],"roleRef":{"kind":"ClusterRole","apiGroup":"rbac.authorization.k8s.io"`
	check(t, admin.createRBAC(t, "clusterrolebindings", "", `{"metadata":{"name":"dev"},`+to+`,"name":"policies"}}`))
	eventually(t, "the binding", func() bool {
		return dev.ask(t, "GET", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", "", "").code == http.StatusOK
	})
	for _, kind := range []string{"Validating", "Mutating"} {
		at := "/apis/admissionregistration.k8s.io/v1/" + strings.ToLower(kind) + "admissionpolicies"
		bindings := "/apis/admissionregistration.k8s.io/v1/" + strings.ToLower(kind) + "admissionpolicybindings"
		policy := func(name, params string) string {
			text := "apiVersion: admissionregistration.k8s.io/v1\nkind: " + kind + "AdmissionPolicy\nmetadata: {name: " + name + "}\nspec:\n  paramKind: {apiVersion: v1, kind: " + params + "}\n" +
				"  matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]}\n"
			if kind == "Mutating" {
				return text + "  reinvocationPolicy: Never\n  mutations: [{patchType: JSONPatch, jsonPatch: {expression: \"[JSONPatch{op: 'remove', path: '/x'}]\"}}]\n"
			}
			return text + "  validations: [{expression: 'false', messageExpression: 'string(params.data.key)'}]\n"
		}
		bind := func(name, policy, ref string) string {
			text := "apiVersion: admissionregistration.k8s.io/v1\nkind: " + kind + "AdmissionPolicyBinding\nmetadata: {name: " + name + "}\nspec: {policyName: " + policy + ", paramRef: {parameterNotFoundAction: Deny, " + ref + "}"
			if kind == "Validating" {
				text += ", validationActions: [Deny]"
			}
			return text + "}\n"
		}
		refused := func(what string, a restAnswer, detail string) {
			t.Helper()
			if a.code != http.StatusUnprocessableEntity || !strings.Contains(a.at("message"), detail) {
				t.Errorf("%s: %s: %d %v", kind, what, a.code, a.body)
			}
		}
		refused("a policy of what one may not read", dev.ask(t, "POST", at, "", policy("mine", "Secret")), `must have \"get\" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)`)
		dev.ask(t, "POST", at, "", policy("maps", "ConfigMap")).want(201)
		admin.ask(t, "POST", at, "", policy("secrets", "Secret")).want(201)
		dev.ask(t, "PATCH", at+"/secrets", merge, `{"metadata":{"labels":{"a":"b"}}}`).want(200)
		refused("another kind", dev.ask(t, "PATCH", at+"/maps", merge, `{"spec":{"paramKind":{"kind":"Secret"}}}`), "must have")
		refused("binding what one may not read", dev.ask(t, "POST", bindings, "", bind("b", "secrets", "name: s, namespace: default")), `does not have \"get\" permission on the object referenced by paramRef`)
		refused("binding a policy that is not there", dev.ask(t, "POST", bindings, "", bind("b", "later", "name: s")), "unable to get policy later")
		refused("binding all", dev.ask(t, "POST", bindings, "", bind("b", "maps", "selector: {}")), `does not have \"list\" permission`)
		dev.ask(t, "POST", bindings, "", bind("b", "maps", "name: m, namespace: default")).want(201)
		refused("another policy", dev.ask(t, "PATCH", bindings+"/b", merge, `{"spec":{"policyName":"secrets"}}`), `does not have \"get\" permission`)
		dev.ask(t, "DELETE", bindings+"/b", "", "").want(200)
	}
}
