package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/server"
	"bareboat.dev/apiserver/server/servertest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// kubelet is a node that echoes: exec answers each line of input in upper case and exits with the number of lines.
type kubelet struct {
	nodev1.UnimplementedNodeServiceServer
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
func withKubelet(t *testing.T) *harness {
	t.Helper()
	var h *harness
	h = start(t, engines()["memory"](t), func(c *server.Config) {
		// The kubelet's certificate is from the authority that the server's own port uses.
		c.Kubelet = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) // the test's kubelet has an authority of its own
	})
	p := servertest.NewPKI(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := rpc.NewServer(rpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{p.Issue(t, "n1")}})))
	nodev1.RegisterNodeServiceServer(s, kubelet{})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	admin := h.admin()
	h.defaultAccount(admin)
	node := `{"metadata":{"name":"n1"}}`
	_, err = admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "nodes", "", ""), Object: asJSON(t, jsonType, node)})
	check(t, err)
	r := ref("", "nodes", "", "n1")
	r.Subresource = "status"
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_, err = admin.Patch(t.Context(), &apiv1.PatchRequest{Ref: r, Type: apiv1.PatchRequest_TYPE_MERGE,
		Patch: []byte(`{"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}],"daemonEndpoints":{"kubeletEndpoint":{"Port":` + port + `}}}}`)})
	check(t, err)
	pod := pod("p")
	pod.Spec.NodeName = "n1"
	_, err = admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, pod)})
	check(t, err)
	return h
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
