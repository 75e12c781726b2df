package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/daemon/tlsconf"
	"bareboat.dev/kubelet/stats"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// dialNode connects as an administrator.
func (h *host) dialNode() nodev1.NodeServiceClient {
	h.t.Helper()
	creds, err := tlsconf.Credentials(h.c.TLSCertFile, h.c.TLSPrivateKeyFile, h.c.ClientCAFile, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return h.dialWith(creds)
}

func (h *host) dialWith(creds credentials.TransportCredentials) nodev1.NodeServiceClient {
	h.t.Helper()
	conn, err := grpc.NewClient(h.addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	return nodev1.NewNodeServiceClient(conn)
}

// TestNodeService shows exec, logs, port-forward, statistics and images through the node's own API, and who is let in.
func TestNodeService(t *testing.T) {
	h := newHost(t)
	h.load()
	ctx := context.Background()
	h.create("web", `containers: [{name: app, command: [sh, -c, "seq 1 5; echo oops; httpd -f -p 127.0.0.1:8080 -h /etc"]}]`)
	p := h.await("web", "Running", running)
	h.awaitLog(p, "app", "0", "1\n2\n3\n4\n5\noops\n")
	n := h.dialNode()
	ref := &nodev1.ContainerRef{Namespace: "default", Pod: "web"}

	out, errOut, code := execute(t, n, &nodev1.ExecRequest_Start{Ref: ref, Command: []string{"sh", "-c", "cat; echo to stderr >&2; exit 5"}, Stdin: true}, "from stdin")
	if out != "from stdin" || errOut != "to stderr\n" || code != 5 {
		t.Errorf("exec gave %q, %q, %d", out, errOut, code)
	}
	out, _, code = execute(t, n, &nodev1.ExecRequest_Start{Ref: ref, Command: []string{"sh", "-c", "test -t 0 && stty size 2>/dev/null; echo tty"}, Tty: true, Size: &nodev1.TerminalSize{Width: 80, Height: 24}}, "")
	if !strings.HasSuffix(out, "tty\r\n") || code != 0 {
		t.Errorf("exec with a terminal gave %q, %d", out, code)
	}
	if got := readLogs(t, n, &nodev1.LogsRequest{Ref: ref, TailLines: wrapperspb.Int64(2)}); got != "5\noops\n" {
		t.Errorf("tail is %q", got)
	}
	if got := readLogs(t, n, &nodev1.LogsRequest{Ref: ref, LimitBytes: wrapperspb.Int64(3)}); got != "1\n2" {
		t.Errorf("limited log is %q", got)
	}
	if got := forward(t, n, "web", 8080, "GET /group HTTP/1.0\r\n\r\n"); !strings.Contains(got, "extra:x:2000:web") {
		t.Errorf("port-forward gave %q", got)
	}
	stats, err := n.Stats(ctx, &nodev1.StatsRequest{})
	if err != nil || len(stats.GetPods()) != 1 || stats.Pods[0].Containers[0].MemoryWorkingSetBytes == 0 || stats.Pods[0].Containers[0].Pids == 0 {
		t.Errorf("stats: %v, %v", stats, err)
	}
	images, err := n.ListImages(ctx, &nodev1.ListImagesRequest{})
	if err != nil || len(images.GetImages()) != 1 || images.Images[0].Tags[0] != "docker.io/library/busybox:1" {
		t.Errorf("images: %v, %v", images, err)
	}
	if _, err := n.RemoveImage(ctx, &nodev1.RemoveImageRequest{Image: images.Images[0].Id}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("an image in use: %v", err)
	}
	if _, err := n.Stats(ctx, &nodev1.StatsRequest{Namespace: "other"}); err != nil {
		t.Errorf("stats of an empty namespace: %v", err)
	}
	stream, err := n.Logs(ctx, &nodev1.LogsRequest{Ref: &nodev1.ContainerRef{Namespace: "default", Pod: "absent"}})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.NotFound {
		t.Errorf("logs of an absent pod: %v", err)
	}
	if _, err := h.dialWith(insecure.NewCredentials()).Stats(ctx, &nodev1.StatsRequest{}); err == nil {
		t.Error("a client without TLS was let in")
	}
	anonymous, err := tlsconf.Credentials("", "", h.c.ClientCAFile, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.dialWith(anonymous).Stats(ctx, &nodev1.StatsRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a client without a certificate: %v", err)
	}
}

// TestLogsFollow shows that a followed log ends with its container, and that the previous instance's log is kept.
func TestLogsFollow(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("short", `containers: [{name: app, command: [sh, -c, "echo one; sleep 1; echo two; sleep 1; exit 1"]}]`)
	h.await("short", "Running", running)
	n, ref := h.dialNode(), &nodev1.ContainerRef{Namespace: "default", Pod: "short"}
	if got := readLogs(t, n, &nodev1.LogsRequest{Ref: ref, Follow: true}); got != "one\ntwo\n" {
		t.Errorf("followed log is %q", got)
	}
	h.await("short", "started again", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount >= 1 })
	if got := readLogs(t, n, &nodev1.LogsRequest{Ref: ref, Previous: true}); got != "one\ntwo\n" {
		t.Errorf("previous log is %q", got)
	}
}

func execute(t *testing.T, n nodev1.NodeServiceClient, start *nodev1.ExecRequest_Start, stdin string) (out, errOut string, code int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stream, err := n.Exec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *nodev1.ExecRequest) {
		if err := stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Start_{Start: start}})
	if start.Stdin {
		send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Stdin{Stdin: []byte(stdin)}})
		send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_StdinClosed{StdinClosed: true}})
	}
	var o, e bytes.Buffer
	for {
		r, err := stream.Recv()
		if err != nil {
			t.Fatalf("exec: %v", err)
		}
		o.Write(r.GetStdout())
		e.Write(r.GetStderr())
		if x := r.GetExit(); x != nil {
			return o.String(), e.String(), x.Code
		}
	}
}

func readLogs(t *testing.T, n nodev1.NodeServiceClient, r *nodev1.LogsRequest) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stream, err := n.Logs(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Write(m.GetData())
	}
}

func forward(t *testing.T, n nodev1.NodeServiceClient, pod string, port uint32, request string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stream, err := n.PortForward(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_Start_{Start: &nodev1.PortForwardRequest_Start{Namespace: "default", Pod: pod, Port: port}}}); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_Data{Data: []byte(request)}}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Write(m.GetData())
	}
}

// TestNodeHTTPS shows summary and metrics over HTTPS on the port of NodeService, and who is let in.
func TestNodeHTTPS(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("web", `containers: [{name: app, resources: {limits: {memory: 64Mi}}, readinessProbe: {exec: {command: ["true"]}}}]`)
	web := h.await("web", "Running", running)
	config, err := tlsconf.Client(h.c.TLSCertFile, h.c.TLSPrivateKeyFile, h.c.ClientCAFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.dialNode().Stats(context.Background(), &nodev1.StatsRequest{}); err != nil {
		t.Errorf("gRPC beside HTTPS: %v", err)
	}
	admin := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	defer admin.CloseIdleConnections()
	var summary stats.Summary
	if err := json.Unmarshal([]byte(h.get(admin, "/stats/summary")), &summary); err != nil {
		t.Fatal(err)
	}
	if len(summary.Pods) != 1 || summary.Pods[0].PodRef.Name != "web" || summary.Pods[0].Memory.WorkingSetBytes == 0 || summary.Node.Memory.WorkingSetBytes == 0 ||
		summary.Pods[0].Containers[0].Memory.AvailableBytes == nil || summary.Node.FS.CapacityBytes == 0 {
		t.Errorf("summary: %+v", summary)
	}
	if text := h.get(admin, "/metrics/resource"); !strings.Contains(text, `container_memory_working_set_bytes{container="app",namespace="default",pod="web"}`) {
		t.Errorf("metrics: %s", text)
	}
	for _, want := range []string{"kubelet_running_pods 1", `kubelet_node_name{node="node1"} 1`, `kubelet_running_containers{container_state="running"} 1`,
		`kubelet_started_containers_total{container_type="container"} 1`} {
		if text := h.get(admin, "/metrics"); !strings.Contains(text, want) {
			t.Errorf("%s is not among the kubelet's own metrics", want)
		}
	}
	labels := `{container="app",namespace="default",pod="web",pod_uid="` + string(web.UID) + `",probe_type="Readiness",result="successful"}`
	if text := h.get(admin, "/metrics/probes"); !strings.Contains(text, "prober_probe_total"+labels) {
		t.Errorf("probes: %s", text)
	}
	if text := h.get(admin, "/configz"); !strings.HasPrefix(text, `{"kubeletconfig":{`) || !strings.Contains(text, `"maxPods":110`) {
		t.Errorf("configuration: %s", text)
	}
	var pods corev1.PodList
	if err := json.Unmarshal([]byte(h.get(admin, "/pods")), &pods); err != nil || len(pods.Items) != 1 || pods.Items[0].Status.Phase != corev1.PodRunning {
		t.Errorf("pods: %+v, %v", pods, err)
	}
	config = config.Clone()
	config.Certificates, config.GetClientCertificate = nil, nil
	anonymous := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer anonymous.CloseIdleConnections()
	if text := h.get(anonymous, "/stats/summary"); !strings.HasPrefix(text, "Unauthorized") {
		t.Errorf("without a certificate: %s", text)
	}
	if text := h.get(admin, "/healthz"); text != "ok" {
		t.Errorf("health: %s", text)
	}
	h.awaitLog(web, "app", "0", "from the image\n")
	// The right to logs is to the host's own: what lies beside this kubelet's, such as its keys, is not among them.
	if text := h.get(admin, "/logs/log/default_web_"+string(web.UID)+"/app/0.log"); !strings.Contains(text, "404") {
		t.Errorf("beside the pods' logs: %s", text)
	}
	entries, err := os.ReadDir("/var/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if text := h.get(admin, "/logs/"); !strings.Contains(text, html.EscapeString(e.Name())) {
			t.Errorf("%s is not among the host's logs: %s", e.Name(), text)
		}
	}
}

func (h *host) get(c *http.Client, path string) string {
	h.t.Helper()
	r, err := c.Get("https://" + h.addr + path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}
