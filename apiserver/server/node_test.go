package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/server"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// kubelet is a node that echoes: exec answers each line of input in upper case and exits with the number of lines.
type kubelet struct {
	nodev1.UnimplementedNodeServiceServer
	// is reports whether a pod of the API has a uid and an address.
	is func(pod, uid, address string) bool
}

func (kubelet) Exec(s rpc.BidiStreamingServer[nodev1.ExecRequest, nodev1.ExecResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start.GetRef().GetContainer() == "none" {
		return status.Error(codes.NotFound, `container "none" not found`)
	}
	lines := int32(0)
	for start.GetStdin() {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if m.GetStdinClosed() {
			break
		}
		lines += int32(strings.Count(string(m.GetStdin()), "\n"))
		if err := s.Send(&nodev1.ExecResponse{Response: &nodev1.ExecResponse_Stdout{Stdout: []byte(strings.ToUpper(string(m.GetStdin())))}}); err != nil {
			return err
		}
	}
	return s.Send(&nodev1.ExecResponse{Response: &nodev1.ExecResponse_Exit{Exit: &nodev1.Exit{Code: lines}}})
}

func (kubelet) Logs(q *nodev1.LogsRequest, s rpc.ServerStreamingServer[nodev1.LogsResponse]) error {
	for i := range 3 {
		if err := s.Send(&nodev1.LogsResponse{Data: []byte(q.GetRef().GetPod() + " " + strconv.Itoa(i) + "\n")}); err != nil {
			return err
		}
	}
	return nil
}

// withKubelet runs a server, a kubelet for node n1, and a pod p on it.
func withKubelet(t *testing.T, change ...func(*server.Config)) *harness {
	t.Helper()
	var h *harness
	change = append(change, func(c *server.Config) { c.Kubelet = func() (*tls.Config, error) { return h.towardsKubelets() } })
	h = start(t, engines()["memory"](t), change...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	serving := h.pki.Issue(t, "system:node:n1", authn.Nodes)
	s := rpc.NewServer(rpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{serving}, ClientCAs: h.pki.Pool, ClientAuth: tls.RequireAndVerifyClientCert})))
	nodev1.RegisterNodeServiceServer(s, kubelet{is: h.podIs})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	admin := h.admin()
	h.defaultAccount(admin)
	h.addNode(admin, "n1", l.Addr())
	h.addPod(admin, "p", "n1")
	return h
}

// towardsKubelets is the server's TLS configuration as a client of kubelets.
func (h *harness) towardsKubelets() (*tls.Config, error) {
	return &tls.Config{RootCAs: h.pki.Pool, Certificates: []tls.Certificate{h.pki.Issue(h.t, "kube-apiserver-kubelet-client", authn.Masters)}}, nil
}

// addNode registers a node whose kubelet listens at an address.
func (h *harness) addNode(admin *user, name string, at net.Addr) {
	h.t.Helper()
	_, err := admin.Create(h.t.Context(), &apiv1.CreateRequest{Ref: ref("", "nodes", "", ""), Object: asJSON(h.t, jsonType, `{"metadata":{"name":"`+name+`"}}`)})
	check(h.t, err)
	r := ref("", "nodes", "", name)
	r.Subresource = "status"
	tcp := at.(*net.TCPAddr)
	_, err = admin.Patch(h.t.Context(), &apiv1.PatchRequest{Ref: r, Type: apiv1.PatchRequest_TYPE_MERGE,
		Patch: []byte(`{"status":{"addresses":[{"type":"InternalIP","address":"` + tcp.IP.String() + `"}],"daemonEndpoints":{"kubeletEndpoint":{"Port":` + strconv.Itoa(tcp.Port) + `}}}}`)})
	check(h.t, err)
}

// podIs reports whether a pod has a uid and, in its status, an address.
func (h *harness) podIs(name, uid, address string) bool {
	resp, err := h.admin().Get(h.t.Context(), &apiv1.GetRequest{Ref: ref("", "pods", "default", name)})
	if err != nil {
		return false
	}
	p := into(h.t, resp.GetObject(), &corev1.Pod{})
	return string(p.UID) == uid && p.Status.PodIP == address
}

// addPod makes a pod that is bound to a node.
func (h *harness) addPod(admin *user, name, node string) {
	h.t.Helper()
	p := pod(name)
	p.Spec.NodeName = node
	_, err := admin.Create(h.t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(h.t, podURL, p)})
	check(h.t, err)
}

// A node whose status leads to another node's kubelet, or to the API server itself, gets nothing out of the server: who answers
// must have the node's own certificate.
func TestNodeCannotLeadElsewhere(t *testing.T) {
	h := withKubelet(t)
	admin := h.admin()
	self, err := net.ResolveTCPAddr("tcp", h.address)
	check(t, err)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { other.Close() })
	saw := make(chan int, 1)
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{h.pki.Issue(t, "system:node:n3", "other")}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2"}})
			_ = conn.HandshakeContext(context.Background())
			saw <- len(conn.ConnectionState().PeerCertificates)
			c.Close()
		}
	}()
	for name, at := range map[string]net.Addr{"n2": self, "n3": other.Addr()} {
		h.addNode(admin, name, at)
		h.addPod(admin, "on-"+name, name)
		logs, err := nodev1.NewNodeServiceClient(admin.conn).Logs(t.Context(), &nodev1.LogsRequest{Ref: &nodev1.ContainerRef{Namespace: "default", Pod: "on-" + name}})
		check(t, err)
		if _, err := logs.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "does not come from that node's kubelet") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := <-saw; n != 0 {
		t.Errorf("an impostor was shown %d certificates", n)
	}
}

// Streams into nodes have a bound of their own, which administrators may pass.
func TestStreamsAreBounded(t *testing.T) {
	h := start(t, engines()["memory"](t), func(c *server.Config) { c.Limits.Watches = 1 })
	u := h.as("system:kube-controller-manager")
	first, err := u.Watch(t.Context(), &apiv1.WatchRequest{Ref: ref("", "configmaps", "", "")})
	check(t, err)
	_, err = first.Header()
	check(t, err)
	second, err := u.Watch(t.Context(), &apiv1.WatchRequest{Ref: ref("", "configmaps", "", "")})
	check(t, err)
	if _, err := second.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("second watch: %v", err)
	}
	code, header, body := u.rest(t, "GET", "/api/v1/configmaps?watch=1", "", "")
	for header.Get("X-Kubernetes-Pf-Flowschema-Uid") == "" || header.Get("X-Kubernetes-Pf-Prioritylevel-Uid") == "" { // until the schemas have been made
		code, header, body = u.rest(t, "GET", "/api/v1/configmaps?watch=1", "", "")
	}
	if code != 429 || header.Get("Retry-After") != "1" {
		t.Errorf("second watch over REST: %d %v %s", code, header, body)
	}
	third, err := h.admin().Watch(t.Context(), &apiv1.WatchRequest{Ref: ref("", "configmaps", "", "")})
	check(t, err)
	if _, err := third.Header(); err != nil {
		t.Errorf("an administrator's watch: %v", err)
	}
}

// A node's streams are reached through the API server over gRPC, by those who may.
func TestNodeServiceProxy(t *testing.T) {
	h := withKubelet(t)
	client := nodev1.NewNodeServiceClient(h.admin().conn)
	at := &nodev1.ContainerRef{Namespace: "default", Pod: "p"}
	logs, err := client.Logs(t.Context(), &nodev1.LogsRequest{Ref: at})
	check(t, err)
	text := ""
	for {
		m, err := logs.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		text += string(m.GetData())
	}
	if text != "p 0\np 1\np 2\n" {
		t.Errorf("logs %q", text)
	}
	exec, err := client.Exec(t.Context())
	check(t, err)
	for _, m := range []*nodev1.ExecRequest{
		{Request: &nodev1.ExecRequest_Start_{Start: &nodev1.ExecRequest_Start{Ref: at, Command: []string{"cat"}, Stdin: true}}},
		{Request: &nodev1.ExecRequest_Stdin{Stdin: []byte("hello\n")}},
		{Request: &nodev1.ExecRequest_StdinClosed{StdinClosed: true}},
	} {
		check(t, exec.Send(m))
	}
	out, err := exec.Recv()
	check(t, err)
	exit, err := exec.Recv()
	check(t, err)
	if string(out.GetStdout()) != "HELLO\n" || exit.GetExit().GetCode() != 1 {
		t.Errorf("exec: %v %v", out, exit)
	}
	for what, c := range map[string]struct {
		u    *user
		pod  string
		want codes.Code
	}{
		"nobody's business": {h.as("system:kube-proxy"), "p", codes.PermissionDenied},
		"another node":      {h.as("system:node:n1", authn.Nodes), "p", codes.PermissionDenied},
		"no such pod":       {h.admin(), "q", codes.NotFound},
	} {
		logs, err := nodev1.NewNodeServiceClient(c.u.conn).Logs(t.Context(), &nodev1.LogsRequest{Ref: &nodev1.ContainerRef{Namespace: "default", Pod: c.pod}})
		check(t, err)
		if _, err := logs.Recv(); status.Code(err) != c.want {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Logs and terminals work over REST: plain text, and WebSocket in protocol version 5 with its exit status.
func TestStreamsOverREST(t *testing.T) {
	h := withKubelet(t)
	admin := h.admin()
	if b := admin.get(t, "/api/v1/namespaces/default/pods/p/log", ""); string(b) != "p 0\np 1\np 2\n" {
		t.Errorf("logs %q", b)
	}
	ws := h.dialWebSocket(t, "/api/v1/namespaces/default/pods/p/exec?command=cat&stdin=true&stdout=true")
	// Channel 0 is standard input; 255 closes the channel whose number follows.
	check(t, websocket.Message.Send(ws, append([]byte{0}, "one\ntwo\n"...)))
	check(t, websocket.Message.Send(ws, []byte{255, 0}))
	got := map[byte]string{}
	for got[3] == "" {
		var m []byte
		check(t, websocket.Message.Receive(ws, &m))
		got[m[0]] += string(m[1:])
	}
	if got[1] != "ONE\nTWO\n" || !strings.Contains(got[3], `"reason":"ExitCode","message":"2"`) {
		t.Errorf("exec over WebSocket: %q", got)
	}
}

// dialWebSocket opens a WebSocket as the administrator.
func (h *harness) dialWebSocket(t *testing.T, path string) *websocket.Conn {
	t.Helper()
	cfg, err := websocket.NewConfig("wss://"+h.address+path, "https://"+h.address)
	check(t, err)
	cfg.Protocol = []string{"v5.channel.k8s.io"}
	cfg.TlsConfig = &tls.Config{RootCAs: h.pki.Pool, Certificates: []tls.Certificate{h.pki.Issue(t, "kubernetes-admin", authn.Masters)}, NextProtos: []string{"http/1.1"}}
	ws, err := cfg.DialContext(context.Background())
	check(t, err)
	t.Cleanup(func() { ws.Close() })
	return ws
}

// A REST watch sends events as they happen, in JSON one text after the other, and bookmarks the end of the initial ones.
func TestWatchOverREST(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin := h.admin()
	admin.create(t, configMap("a"))
	resp, err := admin.http.Get(admin.base + "/api/v1/namespaces/default/configmaps?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=60")
	check(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func(parts ...string) {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("the watch ended")
		}
		for _, p := range parts {
			if !strings.Contains(lines.Text(), p) {
				t.Errorf("event %s lacks %s", lines.Text(), p)
			}
		}
	}
	next(`{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1"`, `"name":"a"`)
	next(`{"type":"BOOKMARK"`, `"k8s.io/initial-events-end":"true"`, `"resourceVersion":"`)
	admin.create(t, configMap("b"))
	next(`"type":"ADDED"`, `"name":"b"`)
	_, err = admin.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "configmaps", "default", "b")})
	check(t, err)
	next(`"type":"DELETED"`, `"name":"b"`)
}

// A request has one name in its answer and in the audit log, its client's if that has given it one.
func TestAuditID(t *testing.T) {
	var log bytes.Buffer
	h := start(t, engines()["memory"](t), func(c *server.Config) { c.AuditLog = &log })
	u := h.admin()
	ask := func(path, id string) string {
		req, err := http.NewRequest("GET", u.base+path, nil)
		check(t, err)
		if id != "" {
			req.Header.Set("Audit-ID", id)
		}
		_, header, _ := u.roundTrip(t, req)
		return header.Get("Audit-ID")
	}
	named, made, refused, version := ask("/api/v1/nodes/named", "mine"), ask("/api/v1/nodes/made", ""), ask("/api/v1/nodes/refused", ""), ask("/version", "")
	if named != "mine" || made == "" || made == refused || version == "" {
		t.Errorf("answers are named %q, %q, %q, %q", named, made, refused, version)
	}
	_, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "nodes", "", "grpc")})
	if err == nil {
		t.Error("a node that does not exist")
	}
	h.stop() // nobody writes any more
	got := map[string]string{}
	for _, line := range strings.Split(log.String(), "\n") {
		var e struct {
			AuditID   string
			ObjectRef struct{ Resource, Name string }
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.ObjectRef.Resource == "nodes" {
			got[e.ObjectRef.Name] = e.AuditID
		}
	}
	if got["named"] != named || got["made"] != made || got["refused"] != refused || got["grpc"] == "" {
		t.Errorf("the log names them %v", got)
	}
}

// The audit log names who really asked beside whom he asked to be treated as, what was asked for, and also what was refused to nobody and
// what is about no resource; health is asked for too often.
func TestAuditOfPeople(t *testing.T) {
	var log bytes.Buffer
	h := start(t, engines()["memory"](t), func(c *server.Config) { c.AuditLog = &log })
	admin := h.admin()
	ask := func(u *user, path string, header ...string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.base+path, nil)
		check(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		code, _, _ := u.roundTrip(t, req)
		return code
	}
	ask(admin, "/api/v1/nodes?limit=1", "Impersonate-User", "jane")
	ask(h.as("mallory"), "/api/v1/nodes", "Impersonate-User", "root")
	ask(h.as(""), "/api/v1/nodes", "Authorization", "Bearer wrong")
	ask(admin, "/openapi/v3")
	ask(admin, "/nothing")
	ask(admin, "/readyz")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "impersonate-user", "jane")
	_, err := admin.Get(ctx, &apiv1.GetRequest{Ref: ref("", "nodes", "", "n")})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("as jane: %v", err)
	}
	_, err = h.as("").Get(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer wrong"), &apiv1.GetRequest{Ref: ref("", "nodes", "", "n")})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("with a wrong token: %v", err)
	}
	h.stop() // nobody writes any more
	var got []string
	for _, line := range strings.Split(log.String(), "\n") {
		var e struct {
			RequestURI, Verb       string
			User, ImpersonatedUser struct{ Username string }
			ObjectRef              *struct{ Resource string }
			ResponseStatus         struct{ Code int }
		}
		if json.Unmarshal([]byte(line), &e) != nil || e.User.Username == "system:apiserver" {
			continue
		}
		of := ""
		if e.ObjectRef != nil {
			of = " " + e.ObjectRef.Resource
		}
		got = append(got, fmt.Sprintf("%q as %q: %s %s%s: %d", e.User.Username, e.ImpersonatedUser.Username, e.Verb, e.RequestURI, of, e.ResponseStatus.Code))
	}
	want := []string{
		`"kubernetes-admin" as "jane": list /api/v1/nodes?limit=1 nodes: 403`, `"mallory" as "root": get /api/v1/nodes: 403`, `"" as "": get /api/v1/nodes: 401`,
		`"kubernetes-admin" as "": get /openapi/v3: 200`, `"kubernetes-admin" as "": get /nothing: 404`,
		`"kubernetes-admin" as "jane": get /bareboat.api.v1.ResourceService/Get nodes: 403`, `"" as "": get /bareboat.api.v1.ResourceService/Get: 401`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Streams into pods are in the audit log, through either door, also those that were refused.
func TestStreamsAreAudited(t *testing.T) {
	var log bytes.Buffer
	h := withKubelet(t, func(c *server.Config) { c.AuditLog = &log })
	admin := h.admin()
	admin.get(t, "/api/v1/namespaces/default/pods/p/log", "")
	for _, u := range []*user{admin, h.as("nobody")} {
		logs, err := nodev1.NewNodeServiceClient(u.conn).Logs(t.Context(), &nodev1.LogsRequest{Ref: &nodev1.ContainerRef{Namespace: "default", Pod: "p"}})
		check(t, err)
		for err == nil {
			_, err = logs.Recv()
		}
	}
	h.stop() // nobody writes any more
	var got []string
	for _, line := range strings.Split(log.String(), "\n") {
		var e struct {
			Verb           string
			User           struct{ Username string }
			ObjectRef      struct{ Subresource, Name string }
			ResponseStatus struct{ Code int }
			Annotations    map[string]string
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.ObjectRef.Subresource == "log" {
			got = append(got, fmt.Sprintf("%s %s %s of %s: %d", e.Annotations["bareboat.dev/door"], e.User.Username, e.Verb, e.ObjectRef.Name, e.ResponseStatus.Code))
		}
	}
	want := []string{"rest kubernetes-admin get of p: 200", "grpc kubernetes-admin get of p: 200", "grpc nobody get of p: 403"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
