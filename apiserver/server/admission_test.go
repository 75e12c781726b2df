package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/server"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// write is one write, and what it is to be answered.
type write struct {
	name string
	// verb is create (the default), update, patch (a merge patch) or delete.
	verb string
	// at is "group/version/resource" or "version/resource", followed for namespaced objects by "@namespace", and by ":name" and
	// ":name:subresource".
	at     string
	body   string
	dryRun bool
	// refused is part of the error's message; empty means success.
	refused string
	code    int32
	// warned are the warnings, in order.
	warned []string
	// has are parts of the answer's JSON.
	has []string
}

// ref understands at.
func (w *write) ref() *apiv1.ResourceRef {
	r := &apiv1.ResourceRef{}
	at, sub, _ := strings.Cut(w.at, ":")
	r.Name, r.Subresource, _ = strings.Cut(sub, ":")
	at, r.Namespace, _ = strings.Cut(at, "@")
	parts := strings.Split(at, "/")
	if len(parts) == 3 {
		r.Group, parts = parts[0], parts[1:]
	}
	r.Version, r.Resource = parts[0], parts[1]
	return r
}

// outcome is an answer, whatever the door.
type outcome struct {
	status   metav1.Status
	warnings []string
	object   string
}

func (u *user) viaREST(t *testing.T, w *write) outcome {
	t.Helper()
	r := w.ref()
	path := "/apis/" + r.GetGroup() + "/" + r.GetVersion()
	if r.GetGroup() == "" {
		path = "/api/" + r.GetVersion()
	}
	if r.GetNamespace() != "" {
		path += "/namespaces/" + r.GetNamespace()
	}
	path += "/" + r.GetResource()
	for _, part := range []string{r.GetName(), r.GetSubresource()} {
		if part != "" {
			path += "/" + part
		}
	}
	if w.dryRun {
		path += "?dryRun=All"
	}
	method, media := map[string]string{"": "POST", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}[w.verb], yamlType
	if w.verb == "patch" {
		media = "application/merge-patch+json"
	}
	code, header, body := u.rest(t, method, path, media, w.body)
	out := outcome{}
	for _, h := range header.Values("Warning") {
		text := strings.TrimPrefix(h, "299 - ")
		if err := json.Unmarshal([]byte(text), &text); err != nil {
			t.Errorf("warning %q: %v", h, err)
		}
		out.warnings = append(out.warnings, text)
	}
	if code >= http.StatusBadRequest {
		check(t, json.Unmarshal(body, &out.status))
	} else {
		var sorted any
		check(t, json.Unmarshal(body, &sorted))
		body, err := json.Marshal(sorted)
		check(t, err)
		out.object = string(body)
	}
	return out
}

func (u *user) viaGRPC(t *testing.T, w *write) outcome {
	t.Helper()
	r, options := w.ref(), &apiv1.WriteOptions{DryRun: w.dryRun}
	var out outcome
	var err error
	object := func() *anypb.Any { return asJSON(t, yamlType, w.body) }
	switch w.verb {
	case "", "create":
		var resp *apiv1.CreateResponse
		resp, err = u.Create(t.Context(), &apiv1.CreateRequest{Ref: r, Object: object(), Options: options})
		out.warnings = resp.GetWarnings()
	case "update":
		var resp *apiv1.UpdateResponse
		resp, err = u.Update(t.Context(), &apiv1.UpdateRequest{Ref: r, Object: object(), Options: options})
		out.warnings = resp.GetWarnings()
	case "patch":
		var resp *apiv1.PatchResponse
		resp, err = u.Patch(t.Context(), &apiv1.PatchRequest{Ref: r, Type: apiv1.PatchRequest_TYPE_MERGE, Patch: []byte(w.body), Options: options})
		out.warnings = resp.GetWarnings()
	case "delete":
		var resp *apiv1.DeleteResponse
		resp, err = u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: r})
		out.warnings = resp.GetWarnings()
	}
	if err != nil {
		out.status = apiStatus(t, err)
		for _, d := range status.Convert(err).Details() {
			if w, ok := d.(*apiv1.Warnings); ok {
				out.warnings = w.GetWarnings()
			}
		}
	}
	return out
}

// agree makes the writes through either door of a server of its own, and checks that both answer as they should. Change adjusts the
// servers' configuration.
func agree(t *testing.T, writes []write, change ...func(*server.Config)) {
	t.Helper()
	doors := map[string]func(*user, *testing.T, *write) outcome{"REST": (*user).viaREST, "gRPC": (*user).viaGRPC}
	for door, send := range doors {
		t.Run(door, func(t *testing.T) {
			h := start(t, engines()["memory"](t), change...)
			u := h.admin()
			h.defaultAccount(u)
			for i := range writes {
				w := &writes[i]
				got := send(u, t, w)
				w.judge(t, door, &got)
			}
		})
	}
}

func (w *write) judge(t *testing.T, door string, got *outcome) {
	t.Helper()
	switch failed := got.status.Status == metav1.StatusFailure; {
	case failed != (w.refused != ""), failed && !strings.Contains(got.status.Message, w.refused):
		t.Errorf("%s: got %q, want %q", w.name, got.status.Message, w.refused)
	case w.code != 0 && got.status.Code != w.code:
		t.Errorf("%s: code %d, want %d", w.name, got.status.Code, w.code)
	}
	if !slices.Equal(got.warnings, w.warned) {
		t.Errorf("%s: warned\n%q, want\n%q", w.name, got.warnings, w.warned)
	}
	if door != "REST" {
		return // Answers are protobuf there; that both doors store the same is for TestDoorsAgree.
	}
	for _, part := range w.has {
		if !strings.Contains(got.object, part) {
			t.Errorf("%s: %s is not in %s", w.name, part, got.object)
		}
	}
}

// asYAML writes an object down.
func asYAML(t testing.TB, obj any) string {
	t.Helper()
	b, err := yaml.Marshal(obj)
	check(t, err)
	return string(b)
}
