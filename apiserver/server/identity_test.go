package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authn/configured"
	"bareboat.dev/apiserver/server"
	"bareboat.dev/apiserver/server/servertest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// whoami asks the server who it takes the request to be from.
func whoami(t *testing.T, u *user, header http.Header) (int, authenticationv1.UserInfo) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.base+"/apis/authentication.k8s.io/v1/selfsubjectreviews", strings.NewReader("{}"))
	check(t, err)
	q.Header = header.Clone()
	if q.Header == nil {
		q.Header = http.Header{}
	}
	q.Header.Set("Content-Type", jsonType)
	code, _, body := u.roundTrip(t, q)
	var review authenticationv1.SelfSubjectReview
	if code == http.StatusCreated {
		check(t, json.Unmarshal(body, &review))
	}
	return code, review.Status.UserInfo
}

// A front proxy, and nobody else, says in headers who a request is from; a proxy that says nothing is nobody.
func TestFrontProxy(t *testing.T) {
	proxies := servertest.NewPKI(t)
	var h *harness
	h = start(t, engines()["memory"](t), func(c *server.Config) {
		clients := c.TLS.ClientCAs
		both := clients.Clone()
		both.AppendCertsFromPEM(proxies.CA())
		c.TLS.ClientCAs = both
		c.Identity.Clients = func() (*x509.CertPool, error) { return clients, nil }
		c.Identity.Proxies = &authn.FrontProxy{
			Authorities: func() (*x509.CertPool, error) { return proxies.Pool, nil }, Names: []string{"front"}, UserHeaders: []string{"X-Remote-User"},
			GroupHeaders: []string{"X-Remote-Group"}, UIDHeaders: []string{"X-Remote-Uid"}, ExtraPrefixes: []string{"X-Remote-Extra-"},
		}
	})
	by := func(p *servertest.PKI, name string) *user {
		cfg := &tls.Config{RootCAs: h.pki.Pool, Certificates: []tls.Certificate{p.Issue(t, name)}}
		transport := &http.Transport{TLSClientConfig: cfg}
		t.Cleanup(transport.CloseIdleConnections)
		return &user{http: &http.Client{Transport: transport}, base: "https://" + h.address}
	}
	said := http.Header{"X-Remote-User": {"jane"}, "X-Remote-Group": {"a", "b"}, "X-Remote-Uid": {"u1"}, "X-Remote-Extra-Example.com%2fkey": {"v"}}
	code, who := whoami(t, by(proxies, "front"), said)
	if code != http.StatusCreated || who.Username != "jane" || who.UID != "u1" || strings.Join(who.Groups, " ") != "a b system:authenticated" || who.Extra["example.com/key"][0] != "v" {
		t.Errorf("a front proxy: %d %+v", code, who)
	}
	if code, who := whoami(t, by(h.pki, "front"), said); code != http.StatusCreated || who.Username != "front" {
		t.Errorf("a client of the same name: %d %+v", code, who)
	}
	for name, u := range map[string]*user{"another name": by(proxies, "other"), "an anonymous client": h.as("")} {
		if code, who := whoami(t, u, said); code != http.StatusForbidden {
			t.Errorf("%s: %d %+v", name, code, who)
		}
	}
	if code, who := whoami(t, by(proxies, "front"), nil); code != http.StatusForbidden {
		t.Errorf("a front proxy that says nothing: %d %+v", code, who)
	}
}

// A bootstrap token authenticates as its id, through REST and in a TokenReview; without anonymous requests nothing else does.
func TestBootstrapTokenLogin(t *testing.T) {
	h := start(t, engines()["memory"](t), func(c *server.Config) { c.Identity.BootstrapTokens, c.Identity.NoAnonymous = true, true })
	admin := h.admin()
	_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "secrets", "kube-system", ""), Object: asJSON(t, jsonType, `{
		"metadata":{"name":"bootstrap-token-abcdef"},"type":"bootstrap.kubernetes.io/token",
		"stringData":{"token-id":"abcdef","token-secret":"0123456789abcdef","usage-bootstrap-authentication":"true"}}`)})
	check(t, err)
	code, who := whoami(t, h.as(""), http.Header{"Authorization": {"Bearer abcdef.0123456789abcdef"}})
	if code != http.StatusCreated || who.Username != "system:bootstrap:abcdef" {
		t.Errorf("%d %+v", code, who)
	}
	if code, _ := whoami(t, h.as(""), nil); code != http.StatusUnauthorized {
		t.Errorf("anonymous: %d", code)
	}
	if code, _ := whoami(t, h.as(""), http.Header{"Authorization": {"Bearer abcdef.0123456789abcdee"}}); code != http.StatusUnauthorized {
		t.Errorf("a wrong secret: %d", code)
	}
	_, _, body := admin.rest(t, http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", jsonType, `{"spec":{"token":"abcdef.0123456789abcdef"}}`)
	if !strings.Contains(string(body), `"authenticated":true`) || !strings.Contains(string(body), `"username":"system:bootstrap:abcdef"`) {
		t.Errorf("TokenReview: %s", body)
	}
}

// A browser's WebSocket carries its token as a protocol.
func TestWebSocketBearer(t *testing.T) {
	h := start(t, engines()["memory"](t), func(c *server.Config) { c.Identity.BootstrapTokens = true })
	_, err := h.admin().Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "secrets", "kube-system", ""), Object: asJSON(t, jsonType, `{
		"metadata":{"name":"bootstrap-token-abcdef"},"type":"bootstrap.kubernetes.io/token",
		"stringData":{"token-id":"abcdef","token-secret":"0123456789abcdef","usage-bootstrap-authentication":"true"}}`)})
	check(t, err)
	token := "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte("abcdef.0123456789abcdef"))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.pki.Pool, NextProtos: []string{"http/1.1"}}}
	defer transport.CloseIdleConnections()
	for protocols, who := range map[string]string{token + ", x": "system:bootstrap:abcdef", token: "system:anonymous", "x": "system:anonymous"} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.address+"/api/v1/nodes?watch=1", nil)
		check(t, err)
		q.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {protocols}}
		resp, err := transport.RoundTrip(q)
		check(t, err)
		body, err := io.ReadAll(resp.Body)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), who) {
			t.Errorf("%s: %d %s", protocols, resp.StatusCode, body)
		}
	}
}

// Where a file says which paths may be asked for without credentials, no other may, through either door; who shows some is not concerned.
func TestAnonymousConditions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authentication.yaml")
	check(t, os.WriteFile(path, []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {enabled: true, conditions: [{path: /version}]}\n"), 0o600))
	f, err := configured.Follow(configured.Config{Path: path, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	h := start(t, engines()["memory"](t), func(c *server.Config) { c.Identity.Configured = f })
	u := h.as("")
	for path, want := range map[string]int{"/version": http.StatusOK, "/readyz": http.StatusUnauthorized, "/version/": http.StatusUnauthorized, "/api/v1/nodes": http.StatusUnauthorized} {
		if code, _, body := u.rest(t, http.MethodGet, path, "", ""); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if _, err := healthpb.NewHealthClient(u.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("over gRPC: %v", err)
	}
	if code, who := whoami(t, h.as("jane"), nil); code != http.StatusCreated || who.Username != "jane" {
		t.Errorf("with a certificate: %d %+v", code, who)
	}
}
