package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// mutating is a policy and its binding, for operations on one resource of a group.
func mutating(name, operations, group, resource, mutation string) []write {
	return []write{
		{name: "policy " + name, at: policyAPI + "mutatingadmissionpolicies", body: "metadata: {name: " + name + "}\nspec:\n  reinvocationPolicy: IfNeeded\n" +
			"  matchConstraints: {resourceRules: [{operations: [" + operations + "], apiGroups: ['" + group + "'], apiVersions: [v1], resources: [" + resource + "]}]}\n" +
			"  mutations: [" + mutation + "]\n"},
		{name: "binding " + name, at: policyAPI + "mutatingadmissionpolicybindings", body: "metadata: {name: " + name + "}\nspec: {policyName: " + name + "}\n"},
	}
}

func merging(text string) string {
	return "{patchType: ApplyConfiguration, applyConfiguration: {expression: \"" + text + "\"}}"
}

func patched(text string) string {
	return "{patchType: JSONPatch, jsonPatch: {expression: \"[JSONPatch{" + text + "}]\"}}"
}

// Mutating policies change what is sent to subresources, be it of the object's kind or of one of its own. Either door says the same.
func TestPoliciesChangeSubresources(t *testing.T) {
	const pod = "metadata: {name: p}\nspec: {terminationGracePeriodSeconds: 30, containers: [{name: c, image: i}]}\n"
	writes := []write{{name: "web", at: "apps/v1/deployments@default", body: webYAML}, {name: "pod", at: "v1/pods@default", body: pod}}
	for _, list := range [][]write{
		mutating("scale", "UPDATE", "apps", "deployments/scale", merging("Object{spec: Object.spec{replicas: object.spec.replicas + 1}}")),
		mutating("bind", "CREATE", "", "pods/binding", patched("op: 'replace', path: '/target/name', value: 'chosen'")),
		mutating("evict", "CREATE", "", "pods/eviction", patched("op: 'add', path: '/deleteOptions', value: {'gracePeriodSeconds': 0}")),
		mutating("status", "UPDATE", "apps", "deployments/status", patched("op: 'add', path: '/status/replicas', value: 3")),
		mutating("kind", "UPDATE", "apps", "replicasets/scale", patched("op: 'replace', path: '/kind', value: 'Pod'")),
	} {
		writes = append(writes, list...)
	}
	agree(t, append(writes,
		write{name: "scaled", verb: "patch", at: "apps/v1/deployments@default:web:scale", body: `{"spec":{"replicas":5}}`, has: []string{`"replicas":6`}},
		write{name: "reported", verb: "patch", at: "apps/v1/deployments@default:web:status", body: `{"status":{"observedGeneration":1}}`, has: []string{`"observedGeneration":1,"replicas":3`}},
		write{name: "bound", at: "v1/pods@default:p:binding", body: "metadata: {name: p}\ntarget: {kind: Node, name: asked}\n"},
		write{name: "elsewhere", verb: "patch", at: "v1/pods@default:p", body: `{"metadata":{"labels":{"x":"y"}}}`, has: []string{`"nodeName":"chosen"`}},
		write{name: "evicted at once", at: "v1/pods@default:p:eviction", body: "apiVersion: policy/v1\nkind: Eviction\nmetadata: {name: p}\n"},
		write{name: "again", at: "v1/pods@default", body: pod},
		write{name: "set", at: "apps/v1/replicasets@default", body: "metadata: {name: r}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n"},
		write{name: "another kind", verb: "patch", at: "apps/v1/replicasets@default:r:scale", body: `{"spec":{"replicas":2}}`, code: 403,
			refused: "policy 'kind' with binding 'kind' denied request: the patch makes autoscaling/v1, Kind=Pod of autoscaling/v1, Kind=Scale"},
	))
}

// Policies and webhooks change the options of what is connected to: the command, the container, and the path that is passed on.
func TestConnectIsChanged(t *testing.T) {
	hook := newHookServer(t, map[string]answer{"/path": patching(`[{"op":"add","path":"/path","value":"/hooked%2Fin"}]`)})
	h, plain, _ := withBackends(t)
	u := h.admin()
	const rule = "{operations: [CONNECT], apiGroups: [''], apiVersions: [v1], resources: [services/proxy]}"
	list := []write{*configuration("MutatingWebhookConfiguration", "m", hook.webhook("/path", rule, ""))}
	list = append(list, mutating("exec", "CONNECT", "", "pods/exec", patched("op: 'add', path: '/container', value: 'none'"))...)
	list = append(list, mutating("proxy", "CONNECT", "", "pods/proxy", merging("Object{path: '/led' + object.path}"))...)
	for _, w := range list {
		if out := u.viaREST(t, &w); out.status.Code != 0 {
			t.Fatal(out.status.Message)
		}
	}
	ask := func(path string) (int, string) {
		t.Helper()
		code, _, body := u.rest(t, http.MethodGet, "/api/v1/namespaces/default/"+path, "", "")
		return code, string(body)
	}
	if code, body := ask("pods/p:" + plain + "/proxy/open?a=b"); code != 200 || !strings.HasPrefix(body, "GET /led/open?a=b") {
		t.Errorf("a pod's proxy: %d %s", code, body)
	}
	if code, body := ask("services/web:80/proxy/open"); code != 200 || !strings.HasPrefix(body, "GET /hooked%252Fin ") {
		t.Errorf("a Service's proxy: %d %s", code, body)
	}
	if code, body := ask("pods/p/exec?command=true&stdout=true"); code != 400 || !strings.Contains(body, "container none is not valid for pod p") {
		t.Errorf("exec: %d %s", code, body)
	}
	s, err := nodev1.NewNodeServiceClient(u.conn).Exec(t.Context())
	check(t, err)
	check(t, s.Send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Start_{Start: &nodev1.ExecRequest_Start{Ref: &nodev1.ContainerRef{Namespace: "default", Pod: "p"}, Command: []string{"true"}}}}))
	if _, err := s.Recv(); err == io.EOF || !strings.Contains(err.Error(), `container "none" not found`) {
		t.Errorf("exec by gRPC: %v", err)
	}
}
