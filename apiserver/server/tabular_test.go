package server_test

import (
	"net/http"
	"strings"
	"testing"
)

// What can only be created has no table: a client that takes nothing else is refused before anything is done, and one that takes the object,
// too, gets that.
func TestNoTableOfReviews(t *testing.T) {
	h := start(t, engines()["memory"](t))
	u := h.admin()
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io"
	for accept, want := range map[string]struct {
		code int
		kind string
	}{
		table:                       {http.StatusNotAcceptable, `"reason":"NotAcceptable"`},
		table + ",application/json": {http.StatusCreated, `"kind":"SelfSubjectAccessReview"`},
	} {
		body := `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}`
		req, err := http.NewRequest("POST", u.base+"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", strings.NewReader(body))
		check(t, err)
		req.Header.Set("Accept", accept)
		req.Header.Set("Content-Type", "application/json")
		code, _, answer := u.roundTrip(t, req)
		if code != want.code || !strings.Contains(string(answer), want.kind) {
			t.Errorf("%s: %d %s", accept, code, answer)
		}
	}
}

// A table has the version of what it shows, also in a watch, and the form of old for who asks for that.
func TestTableVersions(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	u.create(t, configMap("a", "k", "v"))
	const path = "/api/v1/namespaces/default/configmaps"
	for _, at := range []string{path, path + "/a", path + "?watch=1&resourceVersion=0&timeoutSeconds=1"} {
		for _, version := range []string{"v1", "v1beta1"} {
			got := string(u.get(t, at, "application/json;as=Table;g=meta.k8s.io;v="+version))
			if !strings.Contains(got, `"apiVersion":"meta.k8s.io/`+version+`","metadata":{"resourceVersion":"`) || !strings.Contains(got, `"cells":["a",1,"`) {
				t.Errorf("%s, %s: %s", at, version, got)
			}
		}
	}
}
