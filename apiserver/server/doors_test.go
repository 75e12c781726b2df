package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	yamlType = "application/yaml"
	jsonType = "application/json"
)

// step is one request that both doors must answer alike.
type step struct {
	name string
	verb string // create, update, patch, delete, get
	// group/version/resource/namespace/name/subresource
	at      *apiv1.ResourceRef
	media   string
	body    string
	patch   apiv1.PatchRequest_Type
	dryRun  bool
	strict  bool
	force   bool
	failure string // part of the message that is expected; empty means success
	reason  metav1.StatusReason
}

func at(group, version, resource, name string, sub ...string) *apiv1.ResourceRef {
	r := &apiv1.ResourceRef{Group: group, Version: version, Resource: resource, Namespace: "default", Name: name}
	if len(sub) > 0 {
		r.Subresource = sub[0]
	}
	return r
}

const webYAML = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: nginx}
`

// steps are requests in the order in which they are made; the bad ones store nothing.
func steps() []step {
	deployment, pods, maps := at("apps", "v1", "deployments", "web"), at("", "v1", "pods", ""), at("", "v1", "configmaps", "")
	bomb := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n  a: &a [x,x,x,x,x,x,x,x,x]\n"
	for i, last := 'b', "a"; i <= 'i'; i++ {
		bomb += "  " + string(i) + ": &" + string(i) + " [" + strings.TrimSuffix(strings.Repeat("*"+last+",", 9), ",") + "]\n"
		last = string(i)
	}
	return []step{
		{name: "create from YAML", verb: "create", at: at("apps", "v1", "deployments", ""), media: yamlType, body: webYAML},
		{name: "create it again", verb: "create", at: at("apps", "v1", "deployments", ""), media: yamlType, body: webYAML, failure: `deployments.apps "web" already exists`, reason: metav1.StatusReasonAlreadyExists},
		{name: "read it", verb: "get", at: deployment},
		{name: "read nothing", verb: "get", at: at("apps", "v1", "deployments", "none"), failure: `deployments.apps "none" not found`, reason: metav1.StatusReasonNotFound},
		{name: "no such resource", verb: "get", at: at("apps", "v1", "gadgets", "x"), failure: "the server could not find the requested resource", reason: metav1.StatusReasonNotFound},
		{name: "unknown field, strict", verb: "create", at: pods, media: yamlType, strict: true, body: "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i, colour: red}]}\n",
			failure: `Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].colour"`, reason: metav1.StatusReasonBadRequest},
		{name: "duplicate key, strict", verb: "create", at: maps, media: yamlType, strict: true, body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: x, a: z}\n",
			failure: `already set in map`, reason: metav1.StatusReasonBadRequest},
		{name: "wrong type", verb: "create", at: pods, media: jsonType, body: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":"none"}}`,
			failure: `Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container`, reason: metav1.StatusReasonBadRequest},
		{name: "wrong kind", verb: "create", at: pods, media: jsonType, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"p"}}`, failure: "ConfigMap", reason: metav1.StatusReasonBadRequest},
		{name: "missing selector", verb: "create", at: at("apps", "v1", "deployments", ""), media: yamlType,
			body:    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n",
			failure: "spec.selector: Required value", reason: metav1.StatusReasonInvalid},
		{name: "selector that does not match", verb: "create", at: at("apps", "v1", "deployments", ""), media: yamlType,
			body:    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {selector: {matchLabels: {a: c}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n",
			failure: "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`", reason: metav1.StatusReasonInvalid},
		{name: "name in upper case", verb: "create", at: maps, media: jsonType, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"UPPER"}}`,
			failure: `ConfigMap "UPPER" is invalid: metadata.name: Invalid value: "UPPER": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters`, reason: metav1.StatusReasonInvalid},
		{name: "no name", verb: "create", at: maps, media: jsonType, body: `{"apiVersion":"v1","kind":"ConfigMap"}`, failure: "metadata.name: Required value: name or generateName is required", reason: metav1.StatusReasonInvalid},
		{name: "another namespace", verb: "create", at: maps, media: jsonType, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","namespace":"other"}}`,
			failure: "the namespace of the provided object does not match the namespace sent on the request", reason: metav1.StatusReasonBadRequest},
		{name: "alias bomb", verb: "create", at: maps, media: yamlType, body: bomb, failure: "excessive aliasing", reason: metav1.StatusReasonBadRequest},
		{name: "3 MiB and one", verb: "create", at: maps, media: jsonType, body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`,
			failure: "limit is 3145728", reason: metav1.StatusReasonRequestEntityTooLarge},
		{name: "not JSON", verb: "create", at: maps, media: jsonType, body: `{"apiVersion":`, failure: "", reason: metav1.StatusReasonBadRequest},
		{name: "merge patch", verb: "patch", at: deployment, patch: apiv1.PatchRequest_TYPE_MERGE, body: `{"metadata":{"labels":{"x":"y"}}}`},
		{name: "strategic merge patch", verb: "patch", at: deployment, patch: apiv1.PatchRequest_TYPE_STRATEGIC_MERGE, body: `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"nginx:2"}]}}}}`},
		{name: "JSON patch", verb: "patch", at: deployment, patch: apiv1.PatchRequest_TYPE_JSON, body: `[{"op":"replace","path":"/spec/replicas","value":3}]`},
		{name: "JSON patch that does not fit", verb: "patch", at: deployment, patch: apiv1.PatchRequest_TYPE_JSON, body: `[{"op":"test","path":"/spec/replicas","value":9}]`, failure: "the server rejected our request due to an error in our request", reason: metav1.StatusReasonInvalid},
		{name: "patch of nothing", verb: "patch", at: at("apps", "v1", "deployments", "none"), patch: apiv1.PatchRequest_TYPE_MERGE, body: `{}`, failure: `deployments.apps "none" not found`, reason: metav1.StatusReasonNotFound},
		{name: "scale", verb: "patch", at: at("apps", "v1", "deployments", "web", "scale"), patch: apiv1.PatchRequest_TYPE_MERGE, body: `{"spec":{"replicas":4}}`},
		{name: "apply a new object", verb: "patch", at: at("", "v1", "configmaps", "applied"), patch: apiv1.PatchRequest_TYPE_APPLY, body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: b}\n"},
		{name: "apply over another manager", verb: "patch", at: deployment, patch: apiv1.PatchRequest_TYPE_APPLY, body: webYAML, failure: "conflict", reason: metav1.StatusReasonConflict},
		{name: "apply by force", verb: "patch", at: deployment, patch: apiv1.PatchRequest_TYPE_APPLY, force: true, body: webYAML},
		{name: "immutable selector", verb: "patch", at: deployment, patch: apiv1.PatchRequest_TYPE_MERGE, body: `{"spec":{"selector":{"matchLabels":{"app":"other"}},"template":{"metadata":{"labels":{"app":"other"}}}}}`, failure: "field is immutable", reason: metav1.StatusReasonInvalid},
		{name: "stale update", verb: "update", at: deployment, media: yamlType, body: strings.Replace(webYAML, "{name: web}", `{name: web, resourceVersion: "1"}`, 1), failure: "the object has been modified", reason: metav1.StatusReasonConflict},
		{name: "update", verb: "update", at: deployment, media: yamlType, body: webYAML},
		{name: "dry-run update", verb: "update", at: deployment, media: yamlType, dryRun: true, body: strings.Replace(webYAML, "replicas: 2", "replicas: 9", 1)},
		{name: "update of another name", verb: "update", at: at("apps", "v1", "deployments", "other"), media: yamlType, body: webYAML, failure: "the name of the object (web) does not match the name on the URL (other)", reason: metav1.StatusReasonBadRequest},
		{name: "delete", verb: "delete", at: deployment},
		{name: "delete it again", verb: "delete", at: deployment, failure: `deployments.apps "web" not found`, reason: metav1.StatusReasonNotFound},
	}
}

// The same requests, in the same order, give the same stored objects and the same errors through either door.
func TestDoorsAgree(t *testing.T) {
	a, b := start(t, engines()["memory"](t)), start(t, engines()["memory"](t))
	viaGRPC, viaREST := a.admin(), b.admin()
	for _, s := range steps() {
		t.Run(s.name, func(t *testing.T) {
			got := viaGRPC.grpcStep(t, a, &s)
			want := viaREST.restStep(t, &s)
			if got != want {
				t.Errorf("doors differ\ngRPC %s\nREST %s", got, want)
			}
			var status metav1.Status
			if json.Unmarshal([]byte(got), &status); s.reason != "" || status.Status == metav1.StatusFailure {
				if status.Reason != s.reason || !strings.Contains(status.Message, s.failure) {
					t.Errorf("%s", got)
				}
			}
		})
	}
}

// grpcStep returns the answer of the gRPC door: the stored object or the error, without what differs between two runs.
func (u *user) grpcStep(t *testing.T, h *harness, s *step) string {
	t.Helper()
	ctx := t.Context()
	options := &apiv1.WriteOptions{DryRun: s.dryRun, FieldManager: "test"}
	if s.strict {
		options.FieldValidation = apiv1.FieldValidation_FIELD_VALIDATION_STRICT
	}
	r := s.at
	var err error
	switch s.verb {
	case "create":
		_, err = u.Create(ctx, &apiv1.CreateRequest{Ref: r, Object: asJSON(t, s.media, s.body), Options: options})
	case "update":
		_, err = u.Update(ctx, &apiv1.UpdateRequest{Ref: r, Object: asJSON(t, s.media, s.body), Options: options})
	case "patch":
		_, err = u.Patch(ctx, &apiv1.PatchRequest{Ref: r, Type: s.patch, Patch: []byte(s.body), Options: options, Force: s.force})
	case "delete":
		_, err = u.Delete(ctx, &apiv1.DeleteRequest{Ref: r})
	case "get":
		_, err = u.Get(ctx, &apiv1.GetRequest{Ref: r})
	}
	if err != nil {
		status := apiStatus(t, err)
		return encodeStatus(t, &status)
	}
	return u.stored(t, s)
}

func encodeStatus(t *testing.T, s *metav1.Status) string {
	t.Helper()
	s.TypeMeta = metav1.TypeMeta{}
	if s.Details != nil { // conflicts come in no order
		slices.SortFunc(s.Details.Causes, func(a, b metav1.StatusCause) int { return strings.Compare(a.Field, b.Field) })
	}
	b, err := json.Marshal(s)
	check(t, err)
	return string(b)
}

// restStep is grpcStep through REST.
func (u *user) restStep(t *testing.T, s *step) string {
	t.Helper()
	query := "?fieldManager=test"
	if s.dryRun {
		query += "&dryRun=All"
	}
	if s.strict {
		query += "&fieldValidation=Strict"
	}
	if s.force {
		query += "&force=true"
	}
	method, media := map[string]string{"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "get": "GET"}[s.verb], s.media
	switch s.patch {
	case apiv1.PatchRequest_TYPE_JSON:
		media = "application/json-patch+json"
	case apiv1.PatchRequest_TYPE_MERGE:
		media = "application/merge-patch+json"
	case apiv1.PatchRequest_TYPE_STRATEGIC_MERGE:
		media = "application/strategic-merge-patch+json"
	case apiv1.PatchRequest_TYPE_APPLY:
		media = "application/apply-patch+yaml"
	}
	code, _, body := u.rest(t, method, restPath(s.at)+query, media, s.body)
	if code >= http.StatusBadRequest {
		var status metav1.Status
		check(t, json.Unmarshal(body, &status))
		return encodeStatus(t, &status)
	}
	return u.stored(t, s)
}

func restPath(r *apiv1.ResourceRef) string {
	path := "/apis/" + r.GetGroup() + "/" + r.GetVersion()
	if r.GetGroup() == "" {
		path = "/api/" + r.GetVersion()
	}
	path += "/namespaces/" + r.GetNamespace() + "/" + r.GetResource()
	if r.GetName() != "" {
		path += "/" + r.GetName()
	}
	if r.GetSubresource() != "" {
		path += "/" + r.GetSubresource()
	}
	return path
}

// stored reads everything in the namespace of the step's resource back, without what no two runs share.
func (u *user) stored(t *testing.T, s *step) string {
	t.Helper()
	r := &apiv1.ResourceRef{Group: s.at.GetGroup(), Version: s.at.GetVersion(), Resource: s.at.GetResource(), Namespace: "default"}
	var list unstructured.UnstructuredList
	check(t, list.UnmarshalJSON(u.get(t, restPath(r), "application/json")))
	var out []string
	for i := range list.Items {
		item := &list.Items[i]
		item.SetUID("")
		item.SetResourceVersion("")
		unstructured.RemoveNestedField(item.Object, "metadata", "creationTimestamp")
		fields := item.GetManagedFields()
		for k := range fields {
			fields[k].Time = nil
		}
		item.SetManagedFields(fields)
		b, err := json.Marshal(item)
		check(t, err)
		out = append(out, string(b))
	}
	return strings.Join(out, "\n")
}
