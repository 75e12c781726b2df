package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// mistakes are requests that go wrong with nearly every kind.
func mistakes(r *registry.Resource) []step {
	ref := func(name string, sub ...string) *apiv1.ResourceRef {
		a := at(r.Kind.Group, r.Kind.Version, r.Plural, name, sub...)
		if !r.Namespaced {
			a.Namespace = ""
		}
		return a
	}
	apiVersion, kind := r.Kind.ToAPIVersionAndKind()
	object := func(more string) string {
		return `{"apiVersion":"` + apiVersion + `","kind":"` + kind + `"` + more + `}`
	}
	steps := []step{
		{name: "get", verb: "get", at: ref("none")},
		{name: "delete", verb: "delete", at: ref("none")},
		{name: "update", verb: "update", at: ref("none"), media: jsonType, body: object(`,"metadata":{"name":"none","resourceVersion":"1"}`)},
		{name: "update another", verb: "update", at: ref("none"), media: jsonType, body: object(`,"metadata":{"name":"other"}`)},
		{name: "merge patch", verb: "patch", at: ref("none"), patch: apiv1.PatchRequest_TYPE_MERGE, body: `{}`},
		{name: "JSON patch", verb: "patch", at: ref("none"), patch: apiv1.PatchRequest_TYPE_JSON, body: `{}`},
		{name: "apply of another kind", verb: "patch", at: ref("none"), patch: apiv1.PatchRequest_TYPE_APPLY, body: `{"apiVersion":"v1","kind":"Other","metadata":{"name":"none"}}`},
		{name: "no name", verb: "create", at: ref(""), media: jsonType, body: object("")},
		{name: "empty", verb: "create", at: ref(""), media: jsonType, body: object(`,"metadata":{"name":"empty"},"spec":{}`), dryRun: true},
		{name: "upper case", verb: "create", at: ref(""), media: jsonType, body: object(`,"metadata":{"name":"UPPER_CASE"}`), dryRun: true},
		{name: "bad labels", verb: "create", at: ref(""), media: jsonType, body: object(`,"metadata":{"name":"a","labels":{"-":"/"},"annotations":{"/":""}}`), dryRun: true},
		{name: "another namespace", verb: "create", at: ref(""), media: jsonType, body: object(`,"metadata":{"name":"a","namespace":"other"}`), dryRun: true},
		{name: "unknown field", verb: "create", at: ref(""), media: jsonType, strict: true, body: object(`,"metadata":{"name":"a"},"nope":1,"nope":2`), dryRun: true},
		{name: "wrong type", verb: "create", at: ref(""), media: jsonType, body: object(`,"metadata":{"name":5}`)},
		{name: "another kind", verb: "create", at: ref(""), media: jsonType, body: `{"apiVersion":"v1","kind":"Other","metadata":{"name":"a"}}`},
		{name: "another version", verb: "create", at: ref(""), media: jsonType, body: `{"apiVersion":"example.com/v7","kind":"` + kind + `","metadata":{"name":"a"}}`},
		{name: "no object", verb: "create", at: ref(""), media: jsonType, body: `[]`},
		{name: "nothing", verb: "create", at: ref(""), media: jsonType, body: ``},
		{name: "cut off", verb: "create", at: ref(""), media: yamlType, body: "a: [b"},
		{name: "another media type", verb: "create", at: ref(""), media: "text/plain", body: `{}`},
	}
	for name := range r.Subresources {
		if name == "exec" || name == "attach" || name == "portforward" || name == "log" || name == "proxy" {
			continue // streams, which other tests are about
		}
		steps = append(steps, step{name: "get of " + name, verb: "get", at: ref("none", name)},
			step{name: "update of " + name, verb: "update", at: ref("none", name), media: jsonType, body: object(`,"metadata":{"name":"none"}`)})
	}
	return steps
}

// Every kind answers every mistake alike through both doors: the same code, reason, message and causes.
func TestDoorsAgreeOnMistakes(t *testing.T) {
	a, b := start(t, engines()["memory"](t)), start(t, engines()["memory"](t))
	viaGRPC, viaREST := a.admin(), b.admin()
	compared := 0
	for _, r := range a.server.Pipeline().Set().All() {
		for _, s := range mistakes(r) {
			got, want := viaGRPC.grpcMistake(t, &s), viaREST.restMistake(t, &s)
			if got != want {
				t.Errorf("%s, %s:\ngRPC %s\nREST %s", r.Kind, s.name, got, want)
			}
			compared++
		}
	}
	t.Logf("%d requests compared", compared)
}

func (u *user) grpcMistake(t *testing.T, s *step) string {
	t.Helper()
	options := &apiv1.WriteOptions{DryRun: s.dryRun, FieldManager: "test"}
	if s.strict {
		options.FieldValidation = apiv1.FieldValidation_FIELD_VALIDATION_STRICT
	}
	var err error
	switch s.verb {
	case "create":
		_, err = u.Create(t.Context(), &apiv1.CreateRequest{Ref: s.at, Object: asJSON(t, s.media, s.body), Options: options})
	case "update":
		_, err = u.Update(t.Context(), &apiv1.UpdateRequest{Ref: s.at, Object: asJSON(t, s.media, s.body), Options: options})
	case "patch":
		_, err = u.Patch(t.Context(), &apiv1.PatchRequest{Ref: s.at, Type: s.patch, Patch: []byte(s.body), Options: options})
	case "delete":
		_, err = u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: s.at})
	case "get":
		_, err = u.Get(t.Context(), &apiv1.GetRequest{Ref: s.at})
	}
	if err == nil {
		return "no error"
	}
	status := apiStatus(t, err)
	return encodeStatus(t, &status)
}

func (u *user) restMistake(t *testing.T, s *step) string {
	t.Helper()
	query := "?fieldManager=test"
	if s.dryRun {
		query += "&dryRun=All"
	}
	if s.strict {
		query += "&fieldValidation=Strict"
	}
	method := map[string]string{"create": http.MethodPost, "update": http.MethodPut, "patch": http.MethodPatch, "delete": http.MethodDelete, "get": http.MethodGet}[s.verb]
	media := s.media
	switch s.patch {
	case apiv1.PatchRequest_TYPE_JSON:
		media = "application/json-patch+json"
	case apiv1.PatchRequest_TYPE_MERGE:
		media = "application/merge-patch+json"
	case apiv1.PatchRequest_TYPE_APPLY:
		media = "application/apply-patch+yaml"
	}
	path := restPath(s.at)
	if s.at.GetNamespace() == "" {
		path = strings.Replace(path, "/namespaces//", "/", 1)
	}
	code, _, body := u.rest(t, method, path+query, media, s.body)
	if code < http.StatusBadRequest {
		return "no error"
	}
	var status metav1.Status
	check(t, json.Unmarshal(body, &status))
	return encodeStatus(t, &status)
}
