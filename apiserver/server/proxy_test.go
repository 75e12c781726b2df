package server_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	discoveryv1 "k8s.io/api/discovery/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// PortForward of the test's kubelet connects to this host's loopback, as if the pod's network were its own. Whoever asks for an address must
// ask for the pod's own, and say which pod is meant.
func (k kubelet) PortForward(s rpc.BidiStreamingServer[nodev1.PortForwardRequest, nodev1.PortForwardResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	if start := first.GetStart(); start.GetAddress() != "" && !k.is(start.GetPod(), start.GetUid(), start.GetAddress()) {
		return status.Errorf(codes.NotFound, "no pod %s with uid %s and address %s", start.GetPod(), start.GetUid(), start.GetAddress())
	}
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(first.GetStart().GetPort()))))
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	conn := c.(*net.TCPConn)
	defer conn.Close()
	if err := s.Send(&nodev1.PortForwardResponse{}); err != nil {
		return err
	}
	go func() {
		for {
			m, err := s.Recv()
			switch {
			case err != nil:
				conn.Close()
				return
			case m.GetDataClosed():
				conn.CloseWrite()
			default:
				conn.Write(m.GetData())
			}
		}
	}()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if err := s.Send(&nodev1.PortForwardResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// backend is a web server in a pod; it says what it was asked.
func backend(t *testing.T, secure bool) (port string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		fmt.Fprintf(w, "%s %s %q", r.Method, r.RequestURI, body)
		for name := range r.Header {
			if name == "Authorization" || strings.HasPrefix(name, "Impersonate") || strings.HasPrefix(name, "X-Remote") {
				fmt.Fprintf(w, " LEAKED %s", name)
			}
		}
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/to/here?a=b", http.StatusFound) })
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<html><a href="/x/y">z</a><img src="rel.png"></html>`)
	})
	mux.Handle("/echo", websocket.Handler(func(ws *websocket.Conn) { io.Copy(ws, ws) }))
	s := httptest.NewUnstartedServer(mux)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	check(t, err)
	return port
}

// withBackends gives pod p an address to which no host has a route, and a Service web in front of it.
func withBackends(t *testing.T) (h *harness, plain, secure string) {
	t.Helper()
	h = withKubelet(t)
	plain, secure = backend(t, false), backend(t, true)
	admin := h.admin()
	r := ref("", "pods", "default", "p")
	r.Subresource = "status"
	_, err := admin.Patch(t.Context(), &apiv1.PatchRequest{Ref: r, Type: apiv1.PatchRequest_TYPE_MERGE,
		Patch: []byte(`{"status":{"phase":"Running","podIP":"198.51.100.5","podIPs":[{"ip":"198.51.100.5"}]}}`)})
	check(t, err)
	make := func(group, resource, body string) {
		t.Helper()
		_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref(group, resource, "default", ""), Object: asJSON(t, jsonType, body)})
		check(t, err)
	}
	make("", "services", `{"metadata":{"name":"web"},"spec":{"ports":[{"name":"http","port":80,"targetPort":`+plain+`},{"name":"tls","port":443,"targetPort":`+secure+`}]}}`)
	make("", "services", `{"metadata":{"name":"empty"},"spec":{"ports":[{"port":80}]}}`)
	make("", "services", `{"metadata":{"name":"forged"},"spec":{"ports":[{"port":80}]}}`)
	slice := func(service, ports, address string) string {
		return `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"` + service + `-1","labels":{"kubernetes.io/service-name":"` + service + `"}},
			"addressType":"IPv4","ports":[` + ports + `],"endpoints":[{"addresses":["` + address + `"],"targetRef":{"kind":"Pod","namespace":"default","name":"p"}}]}`
	}
	make(discoveryv1.GroupName, "endpointslices", slice("web", `{"name":"http","port":`+plain+`},{"name":"tls","port":`+secure+`}`, "198.51.100.5"))
	make(discoveryv1.GroupName, "endpointslices", slice("forged", `{"name":"","port":80}`, "198.51.100.99"))
	return h, plain, secure
}

// serveAt makes a Service whose port 443 is served by a local port, in pod p.
func (h *harness) serveAt(admin *user, name, port string) {
	h.t.Helper()
	r := ref("", "pods", "default", "p")
	r.Subresource = "status"
	_, err := admin.Patch(h.t.Context(), &apiv1.PatchRequest{Ref: r, Type: apiv1.PatchRequest_TYPE_MERGE,
		Patch: []byte(`{"status":{"phase":"Running","podIP":"198.51.100.5","podIPs":[{"ip":"198.51.100.5"}]}}`)})
	check(h.t, err)
	for resource, body := range map[string]string{
		"services": `{"metadata":{"name":"` + name + `"},"spec":{"ports":[{"port":443,"targetPort":` + port + `}]}}`,
		"endpointslices": `{"metadata":{"name":"` + name + `-1","labels":{"kubernetes.io/service-name":"` + name + `"}},"addressType":"IPv4",
			"ports":[{"name":"","port":` + port + `}],"endpoints":[{"addresses":["198.51.100.5"],"targetRef":{"kind":"Pod","namespace":"default","name":"p"}}]}`,
	} {
		group := ""
		if resource == "endpointslices" {
			group = discoveryv1.GroupName
		}
		_, err := admin.Create(h.t.Context(), &apiv1.CreateRequest{Ref: ref(group, resource, "default", ""), Object: asJSON(h.t, jsonType, body)})
		check(h.t, err)
	}
}

// Requests to pods, Services and nodes are passed on with their method, path, query and body, and without who sent them.
func TestProxySubresources(t *testing.T) {
	h, plain, secure := withBackends(t)
	u := h.admin()
	pods, services := "/api/v1/namespaces/default/pods/", "/api/v1/namespaces/default/services/"
	for _, tc := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", pods + "p:" + plain + "/proxy/a/b?c=d&e=f", "", 200, `GET /a/b?c=d&e=f ""`},
		{"GET", pods + "http:p:" + plain + "/proxy/", "", 200, `GET / ""`},
		{"GET", pods + "https:p:" + secure + "/proxy/x/", "", 200, `GET /x/ ""`},
		{"GET", pods + "p:" + plain + "/proxy/a%2Fb/c%20d", "", 200, `GET /a%2Fb/c%20d ""`},
		{"POST", services + "web:http/proxy/p", "body", 200, `POST /p "body"`},
		{"PUT", services + "web:80/proxy/p", "body", 200, `PUT /p "body"`},
		{"PATCH", services + "http:web:80/proxy/p", "body", 200, `PATCH /p "body"`},
		{"DELETE", services + "https:web:tls/proxy/p", "", 200, `DELETE /p ""`},
		{"OPTIONS", services + "https:web:443/proxy/p", "", 200, `OPTIONS /p ""`},
		{"GET", services + "web:http/proxy/page", "", 200, `<html><a href="/api/v1/namespaces/default/services/web:http/proxy/x/y">z</a><img src="rel.png"></html>`},
		{"GET", services + "web:81/proxy/", "", 503, `no service port 81 found for service \"web\"`},
		{"GET", services + "web:other/proxy/", "", 503, `no endpoints available for service \"web:other\"`},
		{"GET", services + "empty/proxy/", "", 503, `no endpoints available for service \"empty\"`},
		{"GET", services + "forged/proxy/", "", 503, `no endpoints available for service \"forged\"`},
		{"GET", services + "none/proxy/", "", 404, `services \"none\" not found`},
		{"GET", services + "ftp:web:80/proxy/", "", 400, `invalid service request \"ftp:web:80\"`},
		{"GET", pods + "a:b:c:d/proxy/", "", 400, `invalid pod request \"a:b:c:d\"`},
		{"GET", pods + "p:1/proxy/", "", 503, `error trying to reach service`},
		{"GET", "/api/v1/nodes/n1:99/proxy/", "", 400, "address not allowed"},
		{"GET", "/api/v1/nodes/n9/proxy/", "", 404, `nodes \"n9\" not found`},
	} {
		code, header, body := u.rest(t, tc.method, tc.path, "", tc.body)
		if code != tc.code || !strings.Contains(string(body), tc.want) || strings.Contains(string(body), "LEAKED") {
			t.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.path, code, body, tc.code, tc.want)
		}
		if header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: the pod's CORS header was passed on", tc.path)
		}
	}
	if code, _, body := h.as("system:kube-proxy").rest(t, "GET", services+"web:80/proxy/", "", ""); code != 403 {
		t.Errorf("who may not: %d %s", code, body)
	}
}

// Redirects of the backend, and to the root of the backend, stay behind the proxied path.
func TestProxyRedirects(t *testing.T) {
	h, _, _ := withBackends(t)
	u := h.admin()
	u.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	base := "/api/v1/namespaces/default/services/http:web:80/proxy"
	for path, want := range map[string]string{base + "?q=1": base + "/?q=1", base + "/moved": base + "/to/here?a=b"} {
		if code, header, _ := u.rest(t, "GET", path, "", ""); code/100 != 3 || header.Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", path, code, header.Get("Location"), want)
		}
	}
}

// A WebSocket goes through to the pod, in both directions.
func TestProxyUpgrade(t *testing.T) {
	h, _, _ := withBackends(t)
	ws := h.dialWebSocket(t, "/api/v1/namespaces/default/services/web:http/proxy/echo")
	for _, text := range []string{"one", "two"} {
		check(t, websocket.Message.Send(ws, text))
		var back string
		check(t, websocket.Message.Receive(ws, &back))
		if back != text {
			t.Errorf("sent %q, got %q", text, back)
		}
	}
}

// A node's own HTTPS endpoints are reached with the server's certificate, and only if the node's certificate is its own.
func TestNodeProxy(t *testing.T) {
	h := withKubelet(t)
	admin := h.admin()
	for name, subject := range map[string]string{"web1": "system:node:web1", "web2": "system:node:web1"} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s for %s", r.URL.Path, r.TLS.PeerCertificates[0].Subject.CommonName)
		}))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{h.pki.Issue(t, subject, "system:nodes")}, ClientAuth: tls.RequireAnyClientCert}
		s.Config.ErrorLog = nil
		s.StartTLS()
		t.Cleanup(s.Close)
		h.addNode(admin, name, s.Listener.Addr())
	}
	if code, _, body := admin.rest(t, "GET", "/api/v1/nodes/web1/proxy/stats/summary", "", ""); code != 200 || string(body) != "/stats/summary for kube-apiserver-kubelet-client" {
		t.Errorf("%d %s", code, body)
	}
	if code, _, body := admin.rest(t, "GET", "/api/v1/nodes/web2/proxy/metrics", "", ""); code != 503 || !strings.Contains(string(body), "does not come from that node") {
		t.Errorf("%d %s", code, body)
	}
}
