package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// rest sends a request through the REST door.
func (u *user) rest(t testing.TB, method, path, contentType, body string) (int, http.Header, []byte) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, u.base+path, strings.NewReader(body))
	check(t, err)
	if contentType != "" {
		q.Header.Set("Content-Type", contentType)
	}
	return u.roundTrip(t, q)
}

func (u *user) roundTrip(t testing.TB, q *http.Request) (int, http.Header, []byte) {
	t.Helper()
	resp, err := u.http.Do(q)
	check(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	check(t, err)
	return resp.StatusCode, resp.Header, b
}

// get reads a path in a media type.
func (u *user) get(t testing.TB, path, accept string) []byte {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.base+path, nil)
	check(t, err)
	q.Header.Set("Accept", accept)
	code, _, b := u.roundTrip(t, q)
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, code, b)
	}
	return b
}

// Each media type of a list and of one object decodes to the same objects.
func TestMediaTypes(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	u.create(t, configMap("a", "k", "v"))
	for _, path := range []string{"/api/v1/namespaces/default/configmaps/a", "/api/v1/namespaces/default/configmaps"} {
		if b := u.get(t, path, "application/yaml"); !strings.Contains(string(b), "name: a") {
			t.Errorf("YAML: %s", b)
		}
		if b := u.get(t, path, "application/vnd.kubernetes.protobuf"); !strings.HasPrefix(string(b), "k8s\x00") {
			t.Errorf("protobuf: %q", b)
		}
		if b := u.get(t, path, "application/json;as=Table;v=v1;g=meta.k8s.io"); !strings.Contains(string(b), `"cells":["a",1,"`) {
			t.Errorf("table: %s", b)
		}
		if b := u.get(t, path, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"); strings.Contains(string(b), `"data"`) || !strings.Contains(string(b), "PartialObjectMetadata") {
			t.Errorf("metadata: %s", b)
		}
	}
}

// Discovery tells of the version that a kind is stored in by Kubernetes' own hash of it.
func TestStorageVersionHash(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	if b := u.get(t, "/api/v1", "application/json"); !strings.Contains(string(b), `"shortNames":["po"],"categories":["all"],"storageVersionHash":"xPOwRZ+Yhw8="`) {
		t.Errorf("%s", b)
	}
}

// Groups are listed in Kubernetes' order and resources in that of their names, in either form of discovery; the root lists the paths.
func TestDiscoveryOrder(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	names := func(accept string) (groups []string) {
		var list struct {
			Groups []struct{ Name string }
			Items  []struct {
				Metadata struct{ Name string }
				Versions []struct{ Resources []struct{ Resource string } }
			}
		}
		check(t, json.Unmarshal(u.get(t, "/apis", accept), &list))
		for _, g := range list.Groups {
			groups = append(groups, g.Name)
		}
		for _, g := range list.Items {
			groups = append(groups, g.Metadata.Name)
			for _, v := range g.Versions {
				if !slices.IsSortedFunc(v.Resources, func(a, b struct{ Resource string }) int { return strings.Compare(a.Resource, b.Resource) }) {
					t.Errorf("%s: %v", g.Metadata.Name, v.Resources)
				}
			}
		}
		return groups
	}
	want := []string{"apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io"}
	for _, accept := range []string{jsonType, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"} {
		if got := names(accept); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("%s: %v", accept, got)
		}
	}
	var root struct{ Paths []string }
	check(t, json.Unmarshal(u.get(t, "/", jsonType), &root))
	for _, path := range []string{"/api/v1", "/apis/apps", "/apis/apps/v1", "/openapi/v2", "/version"} {
		if !slices.Contains(root.Paths, path) {
			t.Errorf("the root lacks %s: %v", path, root.Paths)
		}
	}
}

// A timeout that is none is refused wherever it is said.
func TestInvalidTimeout(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	for _, path := range []string{"/version", "/api/v1/nodes"} {
		a := u.ask(t, "GET", path+"?timeout=soon", "application/json", "").want(http.StatusBadRequest)
		if text := fmt.Sprint(a.body); !strings.Contains(text, "invalid timeout specified in the request URL") {
			t.Errorf("%s: %s", path, text)
		}
	}
}

// Discovery answers with and without a slash at the path's end, as clients write both.
func TestDiscoverySlash(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	for _, path := range []string{"/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1"} {
		if plain, slash := u.get(t, path, "application/json"), u.get(t, path+"/", "application/json"); string(plain) != string(slash) {
			t.Errorf("%s: %s", path, slash)
		}
	}
}
