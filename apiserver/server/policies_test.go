package server_test

import (
	"strings"
	"testing"
)

const policyAPI = "admissionregistration.k8s.io/v1/"

func policy(name, rest string) write {
	return write{name: "policy " + name, at: policyAPI + "validatingadmissionpolicies", body: "metadata: {name: " + name + "}\nspec:\n" +
		"  matchConstraints: {resourceRules: [{operations: [CREATE, UPDATE], apiGroups: [''], apiVersions: [v1], resources: [configmaps]}]}\n" + rest}
}

func bind(name, rest string) write {
	return write{name: "binding " + name, at: policyAPI + "validatingadmissionpolicybindings", body: "metadata: {name: " + name + "}\nspec: {policyName: " + name + ", validationActions: [Deny]" + rest + "}\n"}
}

func unbind(name string) write {
	return write{name: "no binding " + name, verb: "delete", at: policyAPI + "validatingadmissionpolicybindings:" + name}
}

// Validating policies refuse, warn and note what their bindings select, with parameters, variables and messages, through either door.
func TestValidatingAdmissionPolicies(t *testing.T) {
	const maps = "v1/configmaps@default"
	data := func(name, value string) string {
		return "metadata: {name: " + name + "}\ndata: {size: '" + value + "'}\n"
	}
	warn := bind("small", "")
	warn.body = strings.Replace(warn.body, "[Deny]", "[Warn, Audit]", 1)
	agree(t, []write{
		policy("small", "  validations: [{expression: \"int(object.data.size) < 5\", messageExpression: \"'size is ' + object.data.size\"}]\n"),
		{name: "not bound", at: maps, body: data("unbound", "9")},
		bind("small", ""),
		{name: "too big", at: maps, body: data("big", "7"), code: 422,
			refused: `configmaps "big" is forbidden: ValidatingAdmissionPolicy 'small' with binding 'small' denied request: size is 7`},
		{name: "small enough", at: maps, body: data("tiny", "3")},
		{name: "grown", verb: "patch", at: maps + ":tiny", body: `{"data":{"size":"8"}}`, code: 422, refused: "size is 8"},
		{name: "an error", at: maps, body: "metadata: {name: none}\n", code: 422, refused: `denied request: expression 'int(object.data.size) < 5' resulted in error: no such key: data`},
		unbind("small"), warn,
		{name: "warned", at: maps, body: data("warned", "7"), warned: []string{"Validation failed for ValidatingAdmissionPolicy 'small' with binding 'small': size is 7"}},
		unbind("small"),

		{name: "policy careful", at: policyAPI + "validatingadmissionpolicies", body: "metadata: {name: careful}\nspec:\n" +
			"  matchConstraints: {resourceRules: [{operations: [DELETE, UPDATE], apiGroups: [''], apiVersions: [v1], resources: [configmaps]}]}\n" +
			"  validations: [{expression: \"oldObject.metadata.name != 'warned'\", message: think twice}]\n"},
		{name: "binding careful", at: policyAPI + "validatingadmissionpolicybindings", body: "metadata: {name: careful}\nspec: {policyName: careful, validationActions: [Warn]}\n"},
		policy("strict", "  validations: [{expression: 'object.data.size != string(13)', message: not this one}]\n"), bind("strict", ""),
		{name: "refused and warned", verb: "patch", at: maps + ":warned", body: `{"data":{"size":"13"}}`, code: 422, refused: "not this one",
			warned: []string{"Validation failed for ValidatingAdmissionPolicy 'careful' with binding 'careful': think twice"}},
		{name: "deleted and warned", verb: "delete", at: maps + ":warned",
			warned: []string{"Validation failed for ValidatingAdmissionPolicy 'careful' with binding 'careful': think twice"}},
		unbind("strict"), unbind("careful"),

		policy("limited", "  paramKind: {apiVersion: v1, kind: ConfigMap}\n  variables: [{name: most, expression: \"int(params.data.most)\"}]\n"+
			"  matchConditions: [{name: sized, expression: \"has(object.data) && 'size' in object.data\"}]\n"+
			"  validations: [{expression: \"int(object.data.size) <= variables.most\", message: too much, reason: Forbidden}]\n"),
		bind("limited", ", paramRef: {name: limits, parameterNotFoundAction: Deny}"),
		{name: "no parameters", at: maps, body: data("early", "1"), code: 422, refused: "ValidatingAdmissionPolicy 'limited' with binding 'limited' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"},
		unbind("limited"),
		{name: "parameters", at: maps, body: "metadata: {name: limits}\ndata: {most: '2'}\n"},
		bind("limited", ", paramRef: {name: limits, parameterNotFoundAction: Deny}"),
		{name: "within", at: maps, body: data("within", "2")},
		{name: "beyond", at: maps, body: data("beyond", "3"), code: 403, refused: "ValidatingAdmissionPolicy 'limited' with binding 'limited' denied request: too much"},
		{name: "not sized", at: maps, body: "metadata: {name: plain}\n"},
		unbind("limited"),

		policy("who", "  validations: [{expression: \"authorizer.group('').resource('secrets').namespace(namespaceObject.metadata.name).check('list').allowed() && request.userInfo.username == 'nobody'\"}]\n"),
		bind("who", ", matchResources: {objectSelector: {matchLabels: {watched: 'yes'}}}"),
		{name: "not selected", at: maps, body: "metadata: {name: free}\n"},
		{name: "selected", at: maps, body: "metadata: {name: seen, labels: {watched: 'yes'}}\n", code: 422, refused: "denied request: failed expression: authorizer.group('')"},
	})
}

func mutatingPolicy(name, rest string) []write {
	return []write{
		{name: "policy " + name, at: policyAPI + "mutatingadmissionpolicies", body: "metadata: {name: " + name + "}\nspec:\n  reinvocationPolicy: IfNeeded\n" +
			"  matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: ['', apps], apiVersions: [v1], resources: [configmaps, deployments]}]}\n" + rest},
		{name: "binding " + name, at: policyAPI + "mutatingadmissionpolicybindings", body: "metadata: {name: " + name + "}\nspec: {policyName: " + name + "}\n"},
	}
}

func unbindMutating(name string) write {
	return write{name: "no binding " + name, verb: "delete", at: policyAPI + "mutatingadmissionpolicybindings:" + name}
}

// Mutating policies patch and merge, see what others changed, and refuse what they cannot change, through either door.
func TestMutatingAdmissionPolicies(t *testing.T) {
	const maps = "v1/configmaps@default"
	var writes []write
	writes = append(writes, mutatingPolicy("patch", "  mutations: [{patchType: JSONPatch, jsonPatch: {expression: \"[JSONPatch{op: 'add', path: '/data', value: {'late': has(object.metadata.labels) ? 'labeled' : 'plain'}}]\"}}]\n")...)
	writes = append(writes, write{name: "patched", at: maps, body: "metadata: {name: a}\n", has: []string{`"data":{"late":"plain"}`}})
	writes = append(writes, mutatingPolicy("zlabel", "  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: \"Object{metadata: Object.metadata{labels: {'a.b/c': request.namespace}}}\"}}]\n")...)
	writes = append(writes,
		write{name: "merged, and asked again", at: maps, body: "metadata: {name: b, labels: {own: x}}\n", has: []string{`"a.b/c":"default"`, `"own":"x"`, `"data":{"late":"labeled"}`}},
		write{name: "asked again since another changed it", at: maps, body: "metadata: {name: c}\n", has: []string{`"a.b/c":"default"`, `"data":{"late":"labeled"}`}},
		unbindMutating("patch"),
		write{name: "a list by its keys", at: "apps/v1/deployments@default", body: webYAML, has: []string{`"a.b/c":"default"`}},
		unbindMutating("zlabel"),
	)
	writes = append(writes, mutatingPolicy("broken", "  mutations: [{patchType: JSONPatch, jsonPatch: {expression: \"[JSONPatch{op: 'remove', path: '/data/none'}]\"}}]\n")...)
	writes = append(writes, write{name: "refused", at: maps, body: "metadata: {name: d}\n", refused: `policy 'broken' with binding 'broken' denied request: JSON Patch: `})
	writes = append(writes, unbindMutating("broken"))
	writes = append(writes, mutatingPolicy("whole", "  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: \"Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{tolerations: [Object.spec.template.spec.tolerations{key: 'a'}]}}}}\"}}]\n")...)
	writes = append(writes, write{name: "a list that is one value", at: "apps/v1/deployments@default", body: strings.Replace(webYAML, "{name: web}", "{name: other}", 1), code: 403,
		refused: "policy 'whole' with binding 'whole' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.tolerations"})
	agree(t, writes)
}

const limitsCRD = `metadata: {name: limits.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: limits, singular: limit, kind: Limit, listKind: LimitList}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {most: {type: integer}, note: {type: string}}}}}
`

// Policies and webhooks hold custom objects to rules and change them, and take custom objects as parameters.
func TestPoliciesOnCustomResources(t *testing.T) {
	hook := newHookServer(t, map[string]answer{"/note": patching(`[{"op":"add","path":"/note","value":"seen"}]`)})
	h := start(t, engines()["memory"](t))
	u := h.admin()
	do := func(w write) outcome {
		t.Helper()
		out := u.viaREST(t, &w)
		w.judge(t, "REST", &out)
		return out
	}
	const limits = "example.com/v1/limits@default"
	limit := func(name, most string) string {
		return "apiVersion: example.com/v1\nkind: Limit\nmetadata: {name: " + name + "}\nmost: " + most + "\n"
	}
	do(write{name: "definition", at: "apiextensions.k8s.io/v1/customresourcedefinitions", body: limitsCRD})
	eventually(t, "custom resources are served", func() bool {
		return u.viaREST(t, &write{at: limits, dryRun: true, body: limit("try", "1")}).status.Code == 0
	})
	rule := "{operations: ['*'], apiGroups: [example.com], apiVersions: ['*'], resources: [limits]}"
	do(*configuration("MutatingWebhookConfiguration", "m", hook.webhook("/note", rule, "")))
	do(write{name: "policy", at: policyAPI + "validatingadmissionpolicies", body: "metadata: {name: few}\nspec:\n  matchConstraints: {resourceRules: [" + rule + "]}\n  validations: [{expression: 'object.most < 10', messageExpression: \"string(object.most) + ' is too many'\"}]\n"})
	do(bind("few", ""))
	do(write{name: "changed by a webhook", at: limits, body: limit("five", "5"), has: []string{`"note":"seen"`, `"most":5`}})
	do(write{name: "refused by a policy", at: limits, body: limit("many", "50"), code: 422, refused: `limits.example.com "many" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few' denied request: 50 is too many`})
	for _, w := range mutatingPolicy("custom", "") {
		w.body = strings.ReplaceAll(w.body, "{operations: [CREATE], apiGroups: ['', apps], apiVersions: [v1], resources: [configmaps, deployments]}", rule)
		if strings.Contains(w.body, "reinvocationPolicy") {
			w.body += "  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: \"Object{metadata: Object.metadata{labels: {'by': 'policy'}}}\"}}]\n"
		}
		do(w)
	}
	do(write{name: "merged by a policy", at: limits, body: limit("six", "6"), has: []string{`"by":"policy"`, `"note":"seen"`}})
	do(policy("bound", "  paramKind: {apiVersion: example.com/v1, kind: Limit}\n  validations: [{expression: 'size(object.data) <= params.most'}]\n"))
	do(bind("bound", ", paramRef: {name: five, parameterNotFoundAction: Deny}"))
	do(write{name: "within", at: "v1/configmaps@default", body: "metadata: {name: a}\ndata: {a: '1'}\n"})
	do(write{name: "beyond", at: "v1/configmaps@default", body: "metadata: {name: b}\ndata: {a: '1', b: '2', c: '3', d: '4', e: '5', f: '6'}\n", code: 422, refused: "failed expression: size(object.data) <= params.most"})
}
