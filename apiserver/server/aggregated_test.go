package server_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"bareboat.dev/apiserver/aggregator"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/server"
	"bareboat.dev/apiserver/server/servertest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// boatsSwagger describes boats, with a definition of ObjectMeta that is another than this server's, and what is not the extension's to describe.
const boatsSwagger = `{"swagger":"2.0","info":{"title":"boats","version":"1"},"paths":{
	"/apis/ext.example.com/v1beta1/boats":{"get":{"operationId":"listBoats","responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/com.example.ext.Boat"}}}}},
	"/api/v1/pods":{"get":{"operationId":"forged","responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/io.k8s.api.core.v1.Pod"}}}}}},
	"definitions":{"com.example.ext.Boat":{"description":"Boat floats.","type":"object","properties":{"keel":{"type":"string","description":"Keel is below."},
		"metadata":{"$ref":"#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}},
		"x-kubernetes-group-version-kind":[{"group":"ext.example.com","version":"v1beta1","kind":"Boat"}]},
	"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta":{"type":"object","properties":{"nickname":{"type":"string"}}},
	"io.k8s.api.core.v1.Pod":{"type":"object"}}}`

// extension is another API server, for version v1beta1 of group ext.example.com, that believes whoever has a certificate of proxies.
func extension(t *testing.T, own, proxies *servertest.PKI) (port string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/apis/ext.example.com/v1beta1", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(metav1.APIResourceList{GroupVersion: "ext.example.com/v1beta1", APIResources: []metav1.APIResource{
			{Name: "boats", SingularName: "boat", Kind: "Boat", Namespaced: true, Verbs: []string{"get", "list"}, ShortNames: []string{"bt"}},
			{Name: "boats/status", Kind: "Boat", Namespaced: true, Verbs: []string{"get"}},
		}})
	})
	mux.HandleFunc("/openapi/v3", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"paths":{"apis/ext.example.com/v1beta1":{"serverRelativeURL":"/openapi/v3/apis/ext.example.com/v1beta1?hash=AB"}}}`)
	})
	mux.HandleFunc("/openapi/v3/apis/ext.example.com/v1beta1", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"openapi":"3.0.0"}`) })
	mux.HandleFunc("/openapi/v2", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"one"`)
		if r.Header.Get("If-None-Match") == `"one"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, boatsSwagger)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s by %s for %q in %q, extra %q", r.Method, r.RequestURI, r.TLS.PeerCertificates[0].Subject.CommonName,
			r.Header.Values("X-Remote-User"), r.Header.Values("X-Remote-Group"), r.Header.Values("X-Remote-Extra-Scopes"))
	})
	s := httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{own.Serve(t, "ext.default.svc")}, ClientCAs: proxies.Pool, ClientAuth: tls.RequireAndVerifyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	check(t, err)
	return port
}

// condition waits until an APIService's condition Available has a reason, and returns it.
func (h *harness) condition(name, reason string) *apiregistrationv1.APIServiceCondition {
	h.t.Helper()
	stream, err := h.admin().Watch(h.t.Context(), &apiv1.WatchRequest{
		Ref: ref("apiregistration.k8s.io", "apiservices", "", ""), FieldSelector: "metadata.name=" + name, SendInitialEvents: true,
	})
	check(h.t, err)
	for {
		m, err := stream.Recv()
		check(h.t, err)
		for _, e := range m.GetEvents() {
			var s apiregistrationv1.APIService
			check(h.t, s.Unmarshal(e.GetObject().GetValue()))
			for i := range s.Status.Conditions {
				if c := &s.Status.Conditions[i]; c.Reason == reason {
					return c
				}
			}
		}
	}
}

// An APIService is found well, published with what is served here, and gets requests in their senders' names; when its Service is
// gone it is said to be ill and answers 503.
func TestAggregatedAPI(t *testing.T) {
	proxies, own := servertest.NewPKI(t), servertest.NewPKI(t)
	h := withKubelet(t, func(c *server.Config) {
		front := proxies.Issue(t, "front-proxy-client")
		c.ProxyCertificate = func() (*tls.Certificate, error) { return &front, nil }
		c.Trust = &aggregator.Trust{
			ClientCA: func() ([]byte, error) { return []byte("clients"), nil }, ProxyCA: func() ([]byte, error) { return proxies.CA(), nil },
			ProxyNames: []string{"front-proxy-client"},
		}
	})
	admin := h.admin()
	h.serveAt(admin, "ext", extension(t, own, proxies))
	_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("apiregistration.k8s.io", "apiservices", "", ""), Object: asJSON(t, jsonType,
		`{"metadata":{"name":"v1beta1.ext.example.com"},"spec":{"group":"ext.example.com","version":"v1beta1","groupPriorityMinimum":100,"versionPriority":10,
		"caBundle":"`+base64.StdEncoding.EncodeToString(own.CA())+`","service":{"namespace":"default","name":"ext","port":443}}}`)})
	check(t, err)
	if c := h.condition("v1beta1.ext.example.com", "Passed"); c.Status != "True" || c.Message != "all checks passed" {
		t.Errorf("condition %+v", c)
	}
	boats := "/apis/ext.example.com/v1beta1/namespaces/default/boats/x?a=b"
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin.base+boats, nil)
	check(t, err)
	q.Header.Set("X-Remote-User", "somebody-else")
	code, _, body := admin.roundTrip(t, q)
	want := "GET " + boats + ` by front-proxy-client for ["kubernetes-admin"] in ["system:masters" "system:authenticated"], extra []`
	if code != http.StatusOK || string(body) != want {
		t.Errorf("%d %s, want %s", code, body, want)
	}
	if code, _, body := h.as("nobody").rest(t, http.MethodGet, boats, "", ""); code != http.StatusForbidden || !strings.Contains(string(body), `cannot get resource \"boats\" in API group \"ext.example.com\"`) {
		t.Errorf("by somebody without rights: %d %s", code, body)
	}
	h.published(admin)
	_, err = admin.Get(t.Context(), &apiv1.GetRequest{Ref: &apiv1.ResourceRef{Group: "ext.example.com", Version: "v1beta1", Resource: "boats", Namespace: "default", Name: "x"}})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "ext.example.com/v1beta1 is served by another API server") {
		t.Errorf("over gRPC: %v", err)
	}
	for path, part := range map[string]string{
		"/apis": `{"name":"ext.example.com","versions":[{"groupVersion":"ext.example.com/v1beta1"`, "/apis/ext.example.com": `"preferredVersion":{"groupVersion":"ext.example.com/v1beta1"`,
		"/apis/ext.example.com/v1beta1": `"name":"boats"`, "/openapi/v3": `"apis/ext.example.com/v1beta1":{"serverRelativeURL":"/openapi/v3/apis/ext.example.com/v1beta1?hash=AB"`,
		"/openapi/v3/apis/ext.example.com/v1beta1?hash=AB": "3.0.0",
		"/apis/apiregistration.k8s.io/v1/apiservices":      `"name":"v1.apps"`,
	} {
		if b := admin.get(t, path, "application/json"); !strings.Contains(string(b), part) {
			t.Errorf("%s lacks %s: %s", path, part, b)
		}
	}
	h.describedInV2(admin)
	_, err = admin.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "services", "default", "ext")})
	check(t, err)
	_, err = admin.Patch(t.Context(), &apiv1.PatchRequest{Ref: ref("apiregistration.k8s.io", "apiservices", "", "v1beta1.ext.example.com"), Type: apiv1.PatchRequest_TYPE_MERGE,
		Patch: []byte(`{"spec":{"versionPriority":11}}`)})
	check(t, err)
	if c := h.condition("v1beta1.ext.example.com", "ServiceNotFound"); c.Status != "False" || c.Message != `service/ext in "default" is not present` {
		t.Errorf("condition %+v", c)
	}
	if code, _, body := admin.rest(t, http.MethodGet, boats, "", ""); code != http.StatusServiceUnavailable || string(body) != "service unavailable\n" {
		t.Errorf("%d %s", code, body)
	}
}

// describedInV2: the document of version 2 describes the other server's kinds, with definitions of its own where they differ, and nothing
// that the other server says about what is served here.
func (h *harness) describedInV2(admin *user) {
	h.t.Helper()
	var doc struct {
		Paths       map[string]json.RawMessage `json:"paths"`
		Definitions map[string]struct {
			Properties map[string]map[string]any `json:"properties"`
		} `json:"definitions"`
	}
	check(h.t, json.Unmarshal(admin.get(h.t, "/openapi/v2", "application/json"), &doc))
	boat := doc.Definitions["com.example.ext.Boat"].Properties
	if boat["keel"]["description"] != "Keel is below." || boat["metadata"]["$ref"] != "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta_v2" {
		h.t.Errorf("boats have %v", boat)
	}
	if p := doc.Definitions["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta_v2"].Properties; len(p) != 1 || p["nickname"] == nil {
		h.t.Errorf("their metadata has %v", p)
	}
	if p := doc.Definitions["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].Properties; p["labels"] == nil || p["nickname"] != nil {
		h.t.Errorf("everybody else's metadata has %v", p)
	}
	if _, ok := doc.Definitions["io.k8s.api.core.v1.Pod_v2"]; ok || doc.Paths["/apis/ext.example.com/v1beta1/boats"] == nil || strings.Contains(string(doc.Paths["/api/v1/pods"]), "forged") {
		h.t.Error("it has what it should not, or lacks the path of boats")
	}
	d, err := discovery.NewDiscoveryClientForConfig(h.restConfig("kubernetes-admin", authn.Masters))
	check(h.t, err)
	whole, err := d.OpenAPISchema() // as protobuf
	check(h.t, err)
	for _, named := range whole.GetDefinitions().GetAdditionalProperties() {
		if named.GetName() == "com.example.ext.Boat" {
			return
		}
	}
	h.t.Error("as protobuf it lacks boats")
}

// published: client-go's discovery finds the other server's resources, and other servers find whom to believe.
func (h *harness) published(admin *user) {
	h.t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(h.restConfig("kubernetes-admin", authn.Masters))
	check(h.t, err)
	_, lists, err := d.ServerGroupsAndResources()
	check(h.t, err)
	found := false
	for _, l := range lists {
		for _, r := range l.APIResources {
			found = found || l.GroupVersion == "ext.example.com/v1beta1" && r.Name == "boats" && r.Kind == "Boat" && r.Namespaced
		}
	}
	if !found {
		h.t.Errorf("discovery lacks boats: %v", lists)
	}
	resp, err := admin.Get(h.t.Context(), &apiv1.GetRequest{Ref: ref("", "configmaps", "kube-system", "extension-apiserver-authentication")})
	check(h.t, err)
	data := into(h.t, resp.GetObject(), &corev1.ConfigMap{}).Data
	if data["client-ca-file"] != "clients" || !strings.Contains(data["requestheader-client-ca-file"], "BEGIN CERTIFICATE") ||
		data["requestheader-allowed-names"] != `["front-proxy-client"]` || data["requestheader-extra-headers-prefix"] != `["X-Remote-Extra-"]` {
		h.t.Errorf("extension-apiserver-authentication: %v", data)
	}
}
