package admissionregistration

import (
	"testing"

	"bareboat.dev/apiserver/registry/kindtest"
)

const webhookYAML = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: w}
webhooks:
- name: a.example.com
  sideEffects: None
  admissionReviewVersions: [v1]
  clientConfig: {service: {namespace: ns, name: s}}
  rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]
`

// Webhook configurations are accepted and refused as upstream does, word for word.
func TestWebhooks(t *testing.T) {
	edit := func(fields string) string {
		return "webhooks: [{name: a.example.com, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {service: {namespace: ns, name: s}}, " + fields + "}]"
	}
	rule := func(fields string) string {
		return edit("rules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], " + fields + "}]")
	}
	r := kindtest.Kind(t, Resources(), "ValidatingWebhookConfiguration")
	kindtest.Create(t, r, webhookYAML, []kindtest.Case{
		{Name: "good"},
		{Name: "none", Edit: "webhooks: []"},
		{Name: "short name", Edit: "webhooks: [{name: a, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://x'}}]",
			Want: []string{"webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots"}},
		{Name: "twice", Edit: "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://x'}}, {name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://x'}}]",
			Want: []string{"webhooks[1].name: Duplicate value: \"a.b.c\""}},
		{Name: "nothing said", Edit: "webhooks: [{name: a.b.c, clientConfig: {}}]", Want: []string{
			"webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1", "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
			"webhooks[0].clientConfig: Required value: exactly one of url or service is required"}},
		{Name: "a bundle of nothing", Edit: "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://x', caBundle: eA==}}]"},
		{Name: "side effects", Edit: edit("sideEffects: Some"), Want: []string{`webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"`}},
		{Name: "timeout", Edit: edit("timeoutSeconds: 31"), Want: []string{"webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"}},
		{Name: "versions", Edit: "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v2, v2], clientConfig: {url: 'https://x'}}]", Want: []string{
			`webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version`, `webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1`}},
		{Name: "plain", Edit: "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'http://x?y'}}]", Want: []string{
			`webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]`,
			`webhooks[0].clientConfig.url: Invalid value: "y": query parameters are not permitted in the URL`}},
		{Name: "path", Edit: "webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {service: {namespace: ns, name: s, path: 'a//b'}}}]", Want: []string{
			`webhooks[0].clientConfig.service.path: Invalid value: "a//b": must start with a '/'`, `webhooks[0].clientConfig.service.path: Invalid value: "a//b": segment[0] may not be empty`, `webhooks[0].clientConfig.service.path: Invalid value: "a//b": segment[1] may not be empty`}},
		{Name: "wildcards", Edit: rule("resources: ['*', pods]"), Want: []string{`webhooks[0].rules[0].resources: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources without subresources`}},
		{Name: "all and some", Edit: rule("resources: ['pods/*', pods/status]"), Want: []string{`webhooks[0].rules[0].resources[1]: Invalid value: "pods/status": if 'pods/*' is present, must not specify pods/status`}},
		{Name: "operations", Edit: edit("rules: [{operations: ['*', PATCH], apiGroups: ['*', x], apiVersions: [], resources: [pods]}]"), Want: []string{
			`webhooks[0].rules[0].operations: Invalid value: ["*","PATCH"]: if '*' is present, must not specify other operations`,
			`webhooks[0].rules[0].operations[1]: Unsupported value: "PATCH": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"`,
			`webhooks[0].rules[0].apiGroups: Invalid value: ["*","x"]: if '*' is present, must not specify other API groups`, "webhooks[0].rules[0].apiVersions: Required value"}},
		{Name: "conditions", Edit: edit("matchConditions: [{name: a, expression: 'object.x == 1'}, {name: a, expression: '1'}, {name: b, expression: 'params.x'}]"), Want: []string{
			`webhooks[0].matchConditions[1].name: Duplicate value: "a"`, `webhooks[0].matchConditions[1].expression: Invalid value: "1": must evaluate to bool but got int`,
			`webhooks[0].matchConditions[2].expression: Invalid value: "params.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'…`}},
	})
}

const policyYAML = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p}
spec:
  matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]}
  validations: [{expression: "object.metadata.name != 'x'"}]
`

// Policies are accepted and refused as upstream does, word for word.
func TestPolicies(t *testing.T) {
	r := kindtest.Kind(t, Resources(), "ValidatingAdmissionPolicy")
	kindtest.Create(t, r, policyYAML, []kindtest.Case{
		{Name: "good"},
		{Name: "variables", Edit: "spec: {variables: [{name: a, expression: '1'}, {name: b, expression: 'variables.a + 1'}], validations: [{expression: 'variables.b == 2', messageExpression: 'string(variables.b)'}]}"},
		{Name: "params", Edit: "spec: {paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: 'params.data.x == object.metadata.name'}]}"},
		{Name: "nothing", Edit: "spec: {matchConstraints: null, validations: []}", Want: []string{"spec.matchConstraints: Required value",
			"spec.validations: Required value: validations or auditAnnotations must contain at least one item", "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item"}},
		{Name: "no rules", Edit: "spec: {matchConstraints: {resourceRules: []}}", Want: []string{"spec.matchConstraints.resourceRules: Required value"}},
		{Name: "no bool", Edit: "spec: {validations: [{expression: '1'}]}", Want: []string{`spec.validations[0].expression: Invalid value: "1": must evaluate to bool but got int`}},
		{Name: "no params", Edit: "spec: {validations: [{expression: 'params.x'}]}", Want: []string{`spec.validations[0].expression: Invalid value: "params.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'…`}},
		{Name: "message", Edit: "spec: {validations: [{expression: 'true', message: ' ', messageExpression: '1', reason: Gone}]}", Want: []string{
			`spec.validations[0].message: Invalid value: " ": must be non-empty if specified`, `spec.validations[0].messageExpression: Invalid value: "1": must evaluate to string but got int`,
			`spec.validations[0].reason: Unsupported value: "Gone": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"`}},
		{Name: "message of an authorizer", Edit: "spec: {validations: [{expression: \"authorizer.group('').resource('pods').check('get').allowed()\", messageExpression: 'string(authorizer.path(\"/\").check(\"get\").allowed())'}]}", Want: []string{
			`spec.validations[0].messageExpression: Invalid value: "string(authorizer.path(\"/\").check(\"get\").allowed())": compilation failed: ERROR: <input>:1:8: undeclared reference to 'authorizer'…`}},
		{Name: "message of what an authorizer says", Edit: "spec: {variables: [{name: a, expression: \"string(authorizer.path('/').check('get').allowed())\"}], validations: [{expression: 'true', messageExpression: 'variables.a + \"authorizer\"'}]}"},
		{Name: "variable names", Edit: "spec: {variables: [{name: 'a-b', expression: '1'}, {name: in, expression: '1'}]}", Want: []string{
			`spec.variables[0].name: Invalid value: "a-b": must be a valid CEL identifier`, `spec.variables[1].name: Invalid value: "in": must be a valid CEL identifier`}},
		{Name: "annotations", Edit: "spec: {auditAnnotations: [{key: k, valueExpression: '1'}, {key: k, valueExpression: \"'x'\"}]}", Want: []string{
			`spec.auditAnnotations[1].key: Duplicate value: "k"`, `spec.auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of [string null_type] but got int`}},
		{Name: "a variable twice", Edit: "spec: {variables: [{name: a, expression: '1'}, {name: a, expression: '2'}]}"},
		{Name: "annotation of no name", Edit: "spec: {auditAnnotations: [{key: '', valueExpression: ' '}]}", Want: []string{
			`spec.auditAnnotations[0].key: Invalid value: "p/": name part must be non-empty`, `spec.auditAnnotations[0].key: Invalid value: "p/": name part must consist of alphanumeric characters…`,
			"spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified"}},
		{Name: "lines", Edit: `spec: {validations: [{expression: "true\n"}]}`},
		{Name: "names", Edit: "spec: {matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods], resourceNames: ['a/b', c, c]}]}}", Want: []string{
			`spec.matchConstraints.resourceRules[0].resourceNames[0]: Invalid value: "a/b": may not contain '/'`, `spec.matchConstraints.resourceRules[0].resourceNames[2]: Duplicate value: "c"`}},
		{Name: "param kind", Edit: "spec: {paramKind: {apiVersion: a/b/c, kind: '1'}}", Want: []string{
			`spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c`, `spec.paramKind.kind: Invalid value: "1": may have mixed case, but should otherwise match: a DNS-1035 label…`}},
	})
}

// Bindings are accepted and refused as upstream does, word for word.
func TestBindings(t *testing.T) {
	const base = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: b}\nspec: {policyName: p, validationActions: [Deny]}\n"
	r := kindtest.Kind(t, Resources(), "ValidatingAdmissionPolicyBinding")
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "good"},
		{Name: "nothing", Edit: "spec: {policyName: '', validationActions: []}", Want: []string{"spec.policyName: Required value", "spec.validationActions: Required value"}},
		{Name: "both", Edit: "spec: {validationActions: [Deny, Warn]}", Want: []string{`spec.validationActions: Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)`}},
		{Name: "no action", Edit: "spec: {validationActions: [Stop, Audit, Audit]}", Want: []string{`spec.validationActions[0]: Unsupported value: "Stop": supported values: "Audit", "Deny", "Warn"`, `spec.validationActions[2]: Duplicate value: "Audit"`}},
		{Name: "params", Edit: "spec: {paramRef: {}}", Want: []string{"spec.paramRef: Required value: one of name or selector must be specified", "spec.paramRef.parameterNotFoundAction: Required value"}},
		{Name: "any name", Edit: "spec: {paramRef: {name: 'A:b', parameterNotFoundAction: Deny}}"},
		{Name: "a name and a selector", Edit: "spec: {paramRef: {name: 'a/b', selector: {matchLabels: {'a b': c}}, parameterNotFoundAction: ''}}", Want: []string{
			`spec.paramRef.name: Invalid value: "a/b": may not contain '/'`, "spec.paramRef.selector.matchLabels: Invalid value: \"a b\": name part…",
			"spec.paramRef.name: Forbidden: name and selector are mutually exclusive", "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive", "spec.paramRef.parameterNotFoundAction: Required value"}},
	})
}

// Mutating policies are held to their types.
func TestMutatingPolicies(t *testing.T) {
	const base = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: p}
spec:
  reinvocationPolicy: Never
  matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]}
  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{metadata: Object.metadata{labels: {'a': 'b'}}}"}}]
`
	r := kindtest.Kind(t, Resources(), "MutatingAdmissionPolicy")
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "good"},
		{Name: "JSON patch", Edit: `spec: {mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]"}}]}`},
		{Name: "another type", Edit: `spec: {mutations: [{patchType: JSONPatch, jsonPatch: {expression: "'x'"}}]}`, Want: []string{`spec.mutations[0].jsonPatch.expression: Invalid value: "'x'": must evaluate to list(JSONPatch) but got string`}},
		{Name: "both types", Edit: `spec: {mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[]"}, applyConfiguration: {expression: "x"}}]}`, Want: []string{
			`spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch`, "…"}},
		{Name: "deletions", Edit: "spec: {matchConstraints: {resourceRules: [{operations: [DELETE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]}}", Want: []string{
			`spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"`}},
		{Name: "nothing", Edit: "spec: {reinvocationPolicy: null, mutations: []}", Want: []string{"spec.mutations: Required value: mutations must contain at least one item", "spec.reinvocationPolicy: Required value"}},
	})
}
