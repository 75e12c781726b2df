package server_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/server/servertest"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const crontabs = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Missing, type: string, jsonPath: .spec.missing}
    selectableFields: [{jsonPath: .spec.color}]
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [cronSpec]
            x-kubernetes-validations:
            - {rule: "self.replicas <= 10", message: too many}
            properties:
              cronSpec: {type: string, description: when it runs}
              replicas: {type: integer, minimum: 0, default: 1}
              color: {type: string, enum: [red, blue]}
              image: {type: string, x-kubernetes-validations: [{rule: "self == oldSelf", message: image is immutable, reason: FieldValueForbidden}]}
              any: {type: object, x-kubernetes-preserve-unknown-fields: true}
              port: {x-kubernetes-int-or-string: true}
              ports:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, port: {type: integer, default: 80}}}
          status: {type: object, properties: {replicas: {type: integer}, selector: {type: string}}}
`

// restAnswer is what the REST door said.
type restAnswer struct {
	t      testing.TB
	code   int
	header http.Header
	body   map[string]any
}

// ask sends a request with a body in YAML (or JSON) and reads the answer.
func (u *user) ask(t testing.TB, method, path, contentType, body string) restAnswer {
	t.Helper()
	if contentType == "" {
		contentType = "application/yaml"
	}
	req, err := http.NewRequest(method, u.base+path, strings.NewReader(body))
	check(t, err)
	req.Header.Set("Content-Type", contentType)
	if as, rest, ok := strings.Cut(contentType, " accept "); ok {
		req.Header.Set("Content-Type", as)
		req.Header.Set("Accept", rest)
	}
	code, header, text := u.roundTrip(t, req)
	a := restAnswer{t: t, code: code, header: header}
	if err := json.Unmarshal(text, &a.body); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return a
}

// want fails unless the answer has the code.
func (a restAnswer) want(code int) restAnswer {
	a.t.Helper()
	if a.code != code {
		a.t.Fatalf("code %d instead of %d: %v", a.code, code, a.body)
	}
	return a
}

// at returns the value at a path of names, as JSON.
func (a restAnswer) at(path ...string) string {
	var v any = a.body
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	b, err := json.Marshal(v)
	check(a.t, err)
	return string(b)
}

const (
	crds    = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	stable  = "/apis/stable.example.com/v1/namespaces/default/crontabs"
	merge   = "application/merge-patch+json"
	applied = "application/apply-patch+yaml"
)

// define creates a definition and waits, by a watch, until it is established.
func define(t testing.TB, u *user, text string) {
	t.Helper()
	made := u.ask(t, "POST", crds, "", text).want(201)
	await(t, u, crds, made.at("metadata", "name"), func(o map[string]any) bool {
		status, _ := o["status"].(map[string]any)
		list, _ := status["conditions"].([]any)
		for _, c := range list {
			if m := c.(map[string]any); m["type"] == "Established" && m["status"] == "True" {
				return true
			}
		}
		return false
	})
}

// await watches a collection until the named object, quoted, is as wanted; nil wants it to be deleted.
func await(t testing.TB, u *user, path, name string, is func(map[string]any) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	selector := "?fieldSelector=metadata.name=" + strings.Trim(name, `"`)
	now := u.ask(t, "GET", path+selector, "", "").want(200)
	for _, item := range now.body["items"].([]any) {
		if is != nil && is(item.(map[string]any)) {
			return
		}
	}
	if is == nil && len(now.body["items"].([]any)) == 0 {
		return
	}
	req, err := http.NewRequestWithContext(ctx, "GET", u.base+path+selector+"&watch=true&resourceVersion="+strings.Trim(now.at("metadata", "resourceVersion"), `"`), nil)
	check(t, err)
	resp, err := u.http.Do(req)
	check(t, err)
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var e struct {
			Type   string
			Object map[string]any
		}
		check(t, dec.Decode(&e))
		if is == nil && e.Type == "DELETED" || is != nil && e.Type != "DELETED" && is(e.Object) {
			return
		}
	}
}

func cron(name, spec string) string {
	return fmt.Sprintf("{apiVersion: stable.example.com/v1, kind: CronTab, metadata: {name: %s}, spec: %s}", name, spec)
}

// The group of a definition is announced by an APIService as long as there is one, and a definition whose status cannot be written keeps no
// other from being established.
func TestDefinitionsDoNotHinderEachOther(t *testing.T) {
	hook := newHookServer(t, map[string]answer{"/deny": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: r.SubResource != "status", Result: &metav1.Status{Message: "no status"}}
	}})
	h := start(t, engines()["memory"](t))
	u := h.admin()
	rule := "{operations: ['*'], apiGroups: [apiextensions.k8s.io], apiVersions: [v1], resources: ['customresourcedefinitions/*']}"
	out := u.viaREST(t, configuration("ValidatingWebhookConfiguration", "stuck", hook.webhook("/deny", rule, ", objectSelector: {matchLabels: {stuck: 'yes'}}")))
	if out.status.Code != 0 {
		t.Fatal(out.status.Message)
	}
	const header = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
	stuck := strings.NewReplacer("example.com", "stuck.example.com", "{name: limits.", "{labels: {stuck: 'yes'}, name: limits.").Replace(limitsCRD)
	u.ask(t, "POST", crds, "", header+stuck).want(201)
	define(t, u, header+limitsCRD)
	const services = "/apis/apiregistration.k8s.io/v1/apiservices"
	await(t, u, services, `"v1.example.com"`, func(map[string]any) bool { return true })
	u.ask(t, "DELETE", crds+"/limits.example.com", "", "").want(200)
	await(t, u, crds, `"limits.example.com"`, nil)
	await(t, u, services, `"v1.example.com"`, nil)
}

// Clients that would rather have protobuf get custom objects in what else they take: objects, lists, watches and what writes answer. Those who
// take nothing else are refused before anything is done, but for metadata, which has that form.
func TestCustomResourceProtobuf(t *testing.T) {
	h := start(t, engines()["memory"](t))
	u := h.admin()
	define(t, u, "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"+limitsCRD)
	const limits = "/apis/example.com/v1/namespaces/default/limits"
	const either, only, meta = "application/vnd.kubernetes.protobuf,application/json", "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	const object = `{"apiVersion":"example.com/v1","kind":"Limit","metadata":{"name":"one"},"most":3}`
	for _, step := range []struct {
		method, path, body, accept string
		code                       int
		sent                       string
	}{
		{"POST", limits, object, only, 406, only},
		{"GET", limits + "/one", "", either, 404, only}, // what is refused was not done; and why has a form in protobuf
		{"POST", limits, object, either, 201, "application/json"},
		{"GET", limits + "/one", "", either, 200, "application/json"},
		{"GET", limits, "", either, 200, "application/json"},
		{"GET", limits + "/one", "", only, 406, only},
		{"GET", limits, "", only, 406, only},
		{"GET", limits + "?watch=true&timeoutSeconds=1", "", only, 406, only},
		{"GET", limits + "?watch=true&timeoutSeconds=1", "", either, 200, "application/json"},
		{"GET", limits + "/one", "", meta, 200, only},
		{"DELETE", limits + "/one", "", either, 200, "application/json"},
		{"GET", "/api/v1/namespaces", "", either, 200, only},
	} {
		req, err := http.NewRequest(step.method, u.base+step.path, strings.NewReader(step.body))
		check(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", step.accept)
		code, header, body := u.roundTrip(t, req)
		if code != step.code || header.Get("Content-Type") != step.sent {
			t.Errorf("%s %s accepting %s: %d in %s instead of %d in %s: %s", step.method, step.path, step.accept, code, header.Get("Content-Type"), step.code, step.sent, body)
		}
	}
}

// A custom resource is served through REST as soon as its definition is established: defaulted, pruned, validated by schema and
// by rules, patched in every way but one, scaled, printed and selected; and it goes with its definition.
func TestCustomResource(t *testing.T) {
	u := start(t, memory.New()).admin()
	define(t, u, crontabs)

	made := u.ask(t, "POST", stable, "", cron("my", "{cronSpec: '* *', image: a, color: red, any: {x: 1}, port: http, ports: [{name: a}], bogus: 1}")).want(201)
	if got := made.header.Values("Warning"); len(got) != 1 || got[0] != `299 - "unknown field \"spec.bogus\""` {
		t.Errorf("warnings %q", got)
	}
	if got := made.at("spec"); got != `{"any":{"x":1},"color":"red","cronSpec":"* *","image":"a","port":"http","ports":[{"name":"a","port":80}],"replicas":1}` {
		t.Errorf("spec %s", got)
	}
	if got := made.at("metadata", "generation"); got != "1" {
		t.Errorf("generation %s", got)
	}

	for _, c := range []struct{ name, contentType, patch, want string }{
		{"rule", merge, `{"spec":{"replicas":11}}`, "spec: Invalid value: too many"},
		{"transition rule", merge, `{"spec":{"image":"b"}}`, "spec.image: Forbidden: image is immutable"},
		{"schema", merge, `{"spec":{"color":"green"}}`, `spec.color: Unsupported value: "green": supported values: "red", "blue"`},
		{"required", merge, `{"spec":{"cronSpec":null}}`, "spec.cronSpec: Required value"},
		{"list map", merge, `{"spec":{"ports":[{"name":"a"},{"name":"a"}]}}`, `spec.ports[1]: Duplicate value: {"name":"a"}`},
		{"kind", merge, `{"kind":"Other"}`, "kind: Invalid value: \"Other\": must be CronTab"},
	} {
		got := u.ask(t, "PATCH", stable+"/my", c.contentType, c.patch).want(422)
		if message := strings.Trim(got.at("message"), `"`); !strings.Contains(strings.ReplaceAll(message, `\"`, `"`), c.want) {
			t.Errorf("%s: %s", c.name, message)
		}
		if got.at("details", "kind") != `"CronTab"` || got.at("details", "causes") == "null" {
			t.Errorf("%s: details %s", c.name, got.at("details"))
		}
	}
	refused := u.ask(t, "PATCH", stable+"/my", "application/strategic-merge-patch+json", `{}`).want(415)
	if want := `"the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"`; refused.at("message") != want {
		t.Errorf("strategic merge: %s", refused.at("message"))
	}
	u.ask(t, "PATCH", stable+"/my", "application/json-patch+json", `[{"op":"replace","path":"/spec/color","value":"blue"}]`).want(200)

	scaled := u.ask(t, "PATCH", stable+"/my/scale", merge, `{"spec":{"replicas":3}}`).want(200)
	if scaled.at("kind") != `"Scale"` || scaled.at("spec", "replicas") != "3" {
		t.Errorf("scale %v", scaled.body)
	}
	status := u.ask(t, "PATCH", stable+"/my/status", merge, `{"status":{"replicas":2,"selector":"a=b"},"spec":{"replicas":7},"metadata":{"labels":{"a":"b"}}}`).want(200)
	if status.at("spec", "replicas") != "3" || status.at("status", "replicas") != "2" || status.at("metadata", "labels") != "null" || status.at("metadata", "generation") != "3" {
		t.Errorf("after a write of the status: %v", status.body)
	}
	if got := u.ask(t, "GET", stable+"/my/scale", "", "").want(200); got.at("status") != `{"replicas":2,"selector":"a=b"}` {
		t.Errorf("scale's status %s", got.at("status"))
	}

	u.ask(t, "PATCH", stable+"/my?fieldManager=x", applied, cron("my", "{cronSpec: '* *', ports: [{name: b, port: 1}]}")).want(200)
	conflict := u.ask(t, "PATCH", stable+"/my?fieldManager=y", applied, cron("my", "{cronSpec: '1 *'}")).want(409)
	if !strings.Contains(conflict.at("message"), `conflicts with \"x\":\n- .spec.cronSpec`) {
		t.Errorf("conflict: %s", conflict.at("message"))
	}
	both := u.ask(t, "PATCH", stable+"/my?fieldManager=y&force=true", applied, cron("my", "{cronSpec: '1 *', ports: [{name: c}]}")).want(200)
	if got := both.at("spec", "ports"); got != `[{"name":"a","port":80},{"name":"b","port":1},{"name":"c","port":80}]` {
		t.Errorf("merged ports %s", got)
	}
	unknown := u.ask(t, "PATCH", stable+"/my?fieldManager=y", applied, cron("my", "{bogus: 1}")).want(500)
	if !strings.Contains(unknown.at("message"), ".spec.bogus: field not declared in schema") {
		t.Errorf("apply of an unknown field: %s", unknown.at("message"))
	}

	table := u.ask(t, "GET", stable, "application/json accept application/json;as=Table;g=meta.k8s.io;v=v1", "").want(200)
	rows := table.body["rows"].([]any)
	if cells, _ := json.Marshal(rows[0].(map[string]any)["cells"]); string(cells) != `["my","1 *",3,null]` {
		t.Errorf("cells %s", cells)
	}
	for selector, n := range map[string]int{"spec.color=blue": 1, "spec.color=red": 0, "spec.color!=red": 1} {
		if got := u.ask(t, "GET", stable+"?fieldSelector="+selector, "", "").want(200); len(got.body["items"].([]any)) != n {
			t.Errorf("%s selects %d", selector, len(got.body["items"].([]any)))
		}
	}
	list := u.ask(t, "GET", stable, "", "").want(200)
	if list.at("kind") != `"CronTabList"` || list.body["items"].([]any)[0].(map[string]any)["kind"] != "CronTab" {
		t.Errorf("list %s", list.at("kind"))
	}

	u.ask(t, "DELETE", crds+"/crontabs.stable.example.com", "", "").want(200)
	await(t, u, crds, "crontabs.stable.example.com", nil)
	u.ask(t, "GET", stable+"/my", "", "").want(404)
	if again := u.ask(t, "GET", "/apis", "", ""); strings.Contains(again.at("groups"), "stable.example.com") {
		t.Error("the group is still discovered")
	}
	// Nothing is left for the next definition of that name.
	define(t, u, crontabs)
	if got := u.ask(t, "GET", stable, "", "").want(200); len(got.body["items"].([]any)) != 0 {
		t.Errorf("instances of the definition before: %v", got.body)
	}
}

// A rule about a change holds for an update that leaves its field as it is, which other rules do not.
func TestTransitionRules(t *testing.T) {
	u := start(t, memory.New()).admin()
	define(t, u, strings.Replace(crontabs, "any: {type: object,", "turn: {type: string, x-kubernetes-validations: [{rule: \"self != oldSelf\", message: it must turn}]}\n              any: {type: object,", 1))
	u.ask(t, "POST", stable, "", cron("my", "{cronSpec: '* *', turn: a}")).want(201)
	for _, patch := range []string{`{"metadata":{"labels":{"a":"b"}}}`, `{}`} {
		if got := u.ask(t, "PATCH", stable+"/my", merge, patch).want(422); !strings.Contains(got.at("message"), "it must turn") {
			t.Errorf("%s: %s", patch, got.at("message"))
		}
	}
	u.ask(t, "PATCH", stable+"/my", merge, `{"spec":{"turn":"b"}}`).want(200)
}

// An instance with a finalizer holds its definition, which refuses new instances meanwhile, and says why.
func TestCustomResourceTerminating(t *testing.T) {
	u := start(t, memory.New()).admin()
	define(t, u, crontabs)
	held := strings.Replace(cron("held", "{cronSpec: x}"), "name: held", "name: held, finalizers: [example.com/f]", 1)
	u.ask(t, "POST", stable, "", held).want(201)
	u.ask(t, "DELETE", crds+"/crontabs.stable.example.com", "", "").want(200)
	await(t, u, stable, "held", func(o map[string]any) bool {
		return o["metadata"].(map[string]any)["deletionTimestamp"] != nil
	})
	await(t, u, crds, "crontabs.stable.example.com", func(o map[string]any) bool {
		text, _ := json.Marshal(o["status"])
		return strings.Contains(string(text), "InstanceDeletionInProgress")
	})
	refused := u.ask(t, "POST", stable, "", cron("new", "{cronSpec: x}")).want(403)
	if !strings.Contains(refused.at("message"), "create not allowed while custom resource definition is terminating") {
		t.Errorf("refused: %s", refused.at("message"))
	}
	u.ask(t, "PATCH", stable+"/held", merge, `{"metadata":{"finalizers":null}}`).want(200)
	await(t, u, crds, "crontabs.stable.example.com", nil)
}

// Both doors serve the same: the gRPC door sends and takes the object as JSON in a runtime.Unknown.
func TestCustomResourceDoors(t *testing.T) {
	u := start(t, memory.New()).admin()
	define(t, u, crontabs)
	ctx := context.Background()
	body, err := yaml.YAMLToJSON([]byte(cron("my", "{cronSpec: x}")))
	check(t, err)
	made, err := u.Create(ctx, &apiv1.CreateRequest{Ref: ref("stable.example.com", "crontabs", "default", ""), Object: asJSON(t, "application/json", string(body))})
	check(t, err)
	var sent runtime.Unknown
	check(t, sent.Unmarshal(made.GetObject().GetValue()))
	rest := u.ask(t, "GET", stable+"/my", "", "").want(200)
	var grpc map[string]any
	check(t, json.Unmarshal(sent.Raw, &grpc))
	if a, b := fmt.Sprint(grpc), fmt.Sprint(rest.body); a != b || sent.ContentType != "application/json" {
		t.Errorf("gRPC %s\nREST %s", a, b)
	}
	_, err = u.Create(ctx, &apiv1.CreateRequest{Ref: ref("stable.example.com", "crontabs", "default", ""), Object: asJSON(t, "application/json", `{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"bad"},"spec":{}}`)})
	status := apiStatus(t, err)
	if status.Reason != metav1.StatusReasonInvalid || status.Details.Causes[0].Field != "spec.cronSpec" {
		t.Errorf("status %+v", status)
	}
	discovery, err := apiv1.NewDiscoveryServiceClient(u.conn).ListResources(ctx, &apiv1.ListResourcesRequest{})
	check(t, err)
	found := false
	for _, r := range discovery.GetResources() {
		found = found || r.GetKind() == "CronTab" && r.GetSelectableFields()[0] == "spec.color"
	}
	if !found {
		t.Error("the gRPC door does not discover the kind")
	}
}

// A server that starts on a store with definitions serves them from its first answer on, and two servers on one store agree.
func TestCustomResourceReplicas(t *testing.T) {
	engine := memory.New()
	first := start(t, engine)
	a := first.admin()
	define(t, a, crontabs)
	a.ask(t, "POST", stable, "", cron("my", "{cronSpec: x}")).want(201)
	b := start(t, shared{engine}).admin()
	b.ask(t, "GET", stable+"/my", "", "").want(200)
	define(t, b, strings.NewReplacer("crontabs", "others", "crontab", "other", "CronTab", "Other", "[ct]", "[]").Replace(crontabs))
	// What one server says is established, the other serves too.
	others := strings.Replace(stable, "crontabs", "others", 1)
	a.ask(t, "GET", others, "", "").want(200)
	b.ask(t, "POST", others, "", strings.Replace(cron("x", "{cronSpec: x}"), "CronTab", "Other", 1)).want(201)
	a.ask(t, "GET", others+"/x", "", "").want(200)
}

// shared is an engine that outlives the server that would close it.
type shared struct{ *memory.Engine }

func (shared) Close() error { return nil }

// The fields of a kind are in the documents of both versions the moment it is served.
func TestCustomResourceOpenAPI(t *testing.T) {
	u := start(t, memory.New()).admin()
	u.ask(t, "GET", "/openapi/v3", "", "").want(200)
	define(t, u, crontabs)
	index := u.ask(t, "GET", "/openapi/v3", "", "").want(200)
	if !strings.Contains(index.at("paths"), "apis/stable.example.com/v1") {
		t.Fatalf("index %v", index.body)
	}
	doc := u.ask(t, "GET", "/openapi/v3/apis/stable.example.com/v1", "", "").want(200)
	schemas := doc.body["components"].(map[string]any)["schemas"].(map[string]any)
	own, _ := json.Marshal(schemas["com.example.stable.v1.CronTab"])
	for _, part := range []string{`"cronSpec":{"description":"when it runs","type":"string"}`, `"required":["cronSpec"]`, `"x-kubernetes-selectable-fields":[{"fieldPath":"spec.color"}]`, `"x-kubernetes-list-type":"map"`} {
		if !strings.Contains(string(own), part) {
			t.Errorf("no %s in %s", part, own)
		}
	}
	if schemas["com.example.stable.v1.CronTabList"] == nil || schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"] == nil {
		t.Error("the document lacks what it refers to")
	}
	v2 := u.ask(t, "GET", "/openapi/v2", "", "").want(200)
	if text := v2.at("definitions", "com.example.stable.v1.CronTab"); !strings.Contains(text, `"when it runs"`) || strings.Contains(text, "anyOf") {
		t.Errorf("version 2: %s", text)
	}
}

const versions = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: things, kind: Thing}
  CONVERSION
  versions:
  - name: v1
    served: true
    storage: STOREV1
    selectableFields: [{jsonPath: .host}]
    schema: {openAPIV3Schema: {type: object, properties: {host: {type: string}, old: {type: string}, count: {type: integer, default: 1}}}}
  - name: v2
    served: true
    storage: STOREV2
    deprecated: true
    selectableFields: [{jsonPath: .address}]
    schema: {openAPIV3Schema: {type: object, properties: {host: {type: string}, address: {type: string}, size: {type: integer, default: 2}}}}
`

func thing(conversion string, storeV2 bool) string {
	return strings.NewReplacer("CONVERSION", conversion, "STOREV1", fmt.Sprint(!storeV2), "STOREV2", fmt.Sprint(storeV2)).Replace(versions)
}

// With the strategy None another version is another name for the same fields, each version has its own defaults, and writing an
// object again moves it into a new storage version.
func TestCustomResourceVersions(t *testing.T) {
	engine := memory.New()
	u := start(t, engine).admin()
	define(t, u, thing("", false))
	u.ask(t, "POST", "/apis/example.com/v1/things", "", "{apiVersion: example.com/v1, kind: Thing, metadata: {name: a}, host: h, old: x}").want(201)
	second := u.ask(t, "GET", "/apis/example.com/v2/things/a", "", "").want(200)
	if second.at("apiVersion") != `"example.com/v2"` || second.at("host") != `"h"` || second.at("old") != "null" || second.at("size") != "null" {
		t.Errorf("in v2: %v", second.body)
	}
	if got := second.header.Values("Warning"); len(got) != 1 || !strings.Contains(got[0], "example.com/v2 Thing is deprecated") {
		t.Errorf("warnings %q", got)
	}
	if got := u.ask(t, "GET", "/apis/example.com/v2/things", "", "").want(200).header.Values("Warning"); len(got) != 1 {
		t.Errorf("warnings of a list %q", got)
	}
	crd := u.ask(t, "GET", crds+"/things.example.com", "", "").want(200)
	changed := thing("", true)
	changed = strings.Replace(changed, "{name: things.example.com}", "{name: things.example.com, resourceVersion: "+crd.at("metadata", "resourceVersion")+"}", 1)
	if got := u.ask(t, "PUT", crds+"/things.example.com", "", changed).want(200); got.at("status", "storedVersions") != `["v1","v2"]` {
		t.Errorf("stored versions %s", got.at("status", "storedVersions"))
	}
	stored := func() string {
		t.Helper()
		list, err := engine.List(context.Background(), "/registry/example.com/things/", storage.ListOptions{})
		check(t, err)
		return string(list.Entries[0].Value)
	}
	if !strings.Contains(stored(), `"example.com/v1"`) {
		t.Fatalf("stored %s", stored())
	}
	v1 := u.ask(t, "GET", "/apis/example.com/v1/things/a", "", "").want(200)
	text, _ := json.Marshal(v1.body)
	u.ask(t, "PUT", "/apis/example.com/v1/things/a", "application/json", string(text)).want(200)
	if !strings.Contains(stored(), `"example.com/v2"`) {
		t.Errorf("after an update that changes nothing: %s", stored())
	}
	if got := u.ask(t, "GET", "/apis/example.com/v1/things/a", "", "").want(200); got.at("host") != `"h"` || got.at("count") != "null" {
		t.Errorf("in v1: %v", got.body)
	}
}

// With the strategy Webhook objects are converted by a webhook, which cannot change more of their metadata than labels and
// annotations, and whose failure is said.
func TestCustomResourceWebhook(t *testing.T) {
	p := servertest.NewPKI(t)
	fail := false
	var calls atomic.Int32
	hook := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			APIVersion, Kind string
			Request          struct {
				UID               string
				DesiredAPIVersion string
				Objects           []map[string]any
			}
		}
		calls.Add(1)
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		result := map[string]any{"status": "Success"}
		for _, o := range review.Request.Objects {
			if o["apiVersion"] = review.Request.DesiredAPIVersion; review.Request.DesiredAPIVersion == "example.com/v2" {
				o["address"] = o["host"]
				delete(o, "host")
			} else if o["address"] != nil {
				o["host"] = o["address"]
				delete(o, "address")
			}
			o["metadata"].(map[string]any)["labels"] = map[string]any{"by": "hook"}
			o["metadata"].(map[string]any)["generation"] = 99
		}
		if fail {
			result = map[string]any{"status": "Failure", "message": "not today"}
		}
		check(t, json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": review.APIVersion, "kind": review.Kind,
			"response": map[string]any{"uid": review.Request.UID, "result": result, "convertedObjects": review.Request.Objects},
		}))
	}))
	hook.TLS = &tls.Config{Certificates: []tls.Certificate{p.Issue(t, "hook")}}
	hook.StartTLS()
	t.Cleanup(hook.Close)
	u := start(t, memory.New()).admin()
	client, err := json.Marshal(map[string]any{"url": hook.URL, "caBundle": p.CA()})
	check(t, err)
	define(t, u, thing("conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: "+string(client)+"}}", false))
	u.ask(t, "POST", "/apis/example.com/v1/things", "", "{apiVersion: example.com/v1, kind: Thing, metadata: {name: a}, host: h}").want(201)
	v2 := u.ask(t, "GET", "/apis/example.com/v2/things/a", "", "").want(200)
	if v2.at("address") != `"h"` || v2.at("metadata", "generation") != "1" || v2.at("metadata", "labels") != `{"by":"hook"}` {
		t.Errorf("in v2: %v", v2.body)
	}
	u.ask(t, "PATCH", "/apis/example.com/v2/things/a", merge, `{"address":"other"}`).want(200)
	if got := u.ask(t, "GET", "/apis/example.com/v1/things/a", "", "").want(200); got.at("host") != `"other"` {
		t.Errorf("in v1: %v", got.body)
	}
	asked := calls.Load()
	u.ask(t, "GET", "/apis/example.com/v2/things/a", "", "").want(200)
	u.ask(t, "GET", "/apis/example.com/v2/things/a", "", "").want(200)
	if n := calls.Load() - asked; n > 1 {
		t.Errorf("the webhook was asked %d times for one object", n)
	}
	if got := u.ask(t, "GET", "/apis/example.com/v2/things", "", "").want(200); got.body["items"].([]any)[0].(map[string]any)["address"] != "other" {
		t.Errorf("list in v2: %v", got.body)
	}
	// Objects that are listed together are converted together, a page at a time.
	for i := range 6 {
		u.ask(t, "POST", "/apis/example.com/v1/things", "", fmt.Sprintf("{apiVersion: example.com/v1, kind: Thing, metadata: {name: many%d}, host: h%d}", i, i)).want(201)
	}
	for _, query := range []string{"v2/things", "v2/things?limit=4"} {
		got := u.ask(t, "GET", "/apis/example.com/"+query, "", "").want(200)
		for i, item := range got.body["items"].([]any)[1:] {
			if item.(map[string]any)["address"] != fmt.Sprint("h", i) {
				t.Errorf("%s: item %d is %v", query, i, item)
			}
		}
	}
	// Objects are selected by what they are in the version that is asked for.
	for query, want := range map[string]int{"v1/things?fieldSelector=host=other": 1, "v2/things?fieldSelector=address=other": 1, "v1/things?fieldSelector=host=h": 0, "v2/things?fieldSelector=address=h": 0} {
		if got := u.ask(t, "GET", "/apis/example.com/"+query, "", "").want(200); len(got.body["items"].([]any)) != want {
			t.Errorf("%s: %v", query, got.body["items"])
		}
	}
	fail = true
	failed := u.ask(t, "PATCH", "/apis/example.com/v2/things/a", merge, `{"address":"third"}`)
	if failed.code != 500 || !strings.Contains(failed.at("message"), "conversion webhook for example.com/v2, Kind=Thing failed: not today") {
		t.Errorf("a failing webhook: %d %s", failed.code, failed.at("message"))
	}
}
