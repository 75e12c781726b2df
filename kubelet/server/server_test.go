package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/stats"
)

func certificate(name string, organizations ...string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: organizations}}
}

// TestAuthorize shows whose certificates are let in: administrators' and the API server's, not other nodes'.
func TestAuthorize(t *testing.T) {
	for _, c := range []struct {
		cert *x509.Certificate
		want bool
	}{
		{certificate("kubernetes-admin", "system:masters"), true},
		{certificate("kube-apiserver-kubelet-client"), true},
		{certificate("system:node:other", "system:nodes"), false},
		{certificate("kube-apiserver-kubelet-client2"), false},
		{certificate("system:masters"), false},
		{certificate(""), false},
	} {
		if got := Authorize(c.cert); got != c.want {
			t.Errorf("%v is let in: %v", c.cert.Subject, got)
		}
	}
}

// none is a node without pods.
type none struct{}

func (none) RunningContainers(string, string) []agent.Running { return nil }

func (none) VolumeUses(context.Context, string) []agent.VolumeUse { return nil }
func (none) Stats(string) (cgroup.Stats, error)                   { return cgroup.Stats{}, cgroup.ErrNotFound }

// scrapers is a cluster in which one token and one certificate have the right to metrics.
type scrapers struct{}

func (scrapers) Authenticate(_ context.Context, token string) (User, error) {
	switch token {
	case "scraper", "other":
		return User{Name: token}, nil
	case "api-down":
		return User{}, errors.New("cannot be asked")
	}
	return User{}, ErrUnknownToken
}

func (scrapers) Allowed(_ context.Context, u User, verb, subresource string) (bool, error) {
	if u.Name == "confused" {
		return true, errors.New("cannot be asked")
	}
	return u.Name == "scraper" && verb == "get" && subresource == "metrics", nil
}

func request(path string, cert *x509.Certificate) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if cert != nil {
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}
	}
	return r
}

// local is a kubelet with one pod and one probe.
func local() Local {
	r := prometheus.NewRegistry()
	r.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "probes"}))
	return Local{Probes: r, Config: map[string]int{"maxPods": 7}, Pods: func() *corev1.PodList {
		return &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "web"}}}}
	}}
}

// TestWeb shows what is answered over HTTPS, and to whom: to those who may speak to a kubelet. Of the logs' directory nothing outside is seen.
func TestWeb(t *testing.T) {
	own := local()
	own.Logs = t.TempDir()
	if err := errors.Join(os.WriteFile(own.Logs+"/boot.log", []byte("hello"), 0o600), os.Symlink("/etc/passwd", own.Logs+"/out"), os.Symlink("boot.log", own.Logs+"/in")); err != nil {
		t.Fatal(err)
	}
	admin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "admin "+r.URL.Path) })
	web := Web(stats.New("node1", none{}, none{}, nil), own, scrapers{}, admin)
	master, node := certificate("a", "system:masters"), certificate("system:node:b", "system:nodes")
	for _, c := range []struct {
		path string
		cert *x509.Certificate
		code int
		has  string
	}{
		{"/healthz", nil, 401, "Unauthorized"},
		{"/healthz", node, 403, "subresource=[healthz proxy]"},
		{"/healthz", master, 200, "admin /healthz"},
		{"/logs/", master, 200, `<a href="boot.log">boot.log</a>`},
		{"/logs/", node, 403, "subresource=[log]"},
		{"/logs/boot.log", master, 200, "hello"},
		{"/logs/in", master, 200, "hello"},
		{"/logs/out", master, 500, ""},
		{"/logs/../../etc/passwd", master, 307, ""},
		{"/logs/none", master, 404, ""},
		{"/metrics", nil, 401, "Unauthorized"},
		{"/metrics", node, 403, "Forbidden"},
		{"/metrics", master, 200, "admin /metrics"},
		{"/debug/pprof/", node, 403, "Forbidden"},
		{"/stats/summary", master, 200, `"nodeName":"node1"`},
		{"/stats/summary", nil, 401, ""},
		{"/metrics/resource", master, 200, "node_cpu_usage_seconds_total"},
		{"/metrics/resource", node, 403, ""},
		{"/metrics/cadvisor", master, 200, "machine_memory_bytes"},
		{"/metrics/cadvisor", nil, 401, ""},
		{"/healthz/../metrics", nil, 401, ""},
		{"/metrics/probes", master, 200, "probes 0"},
		{"/configz", master, 200, `{"kubeletconfig":{"maxPods":7}}`},
		{"/pods", master, 200, `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[{"metadata":{"name":"web"`},
		{"/pods", node, 403, "subresource=[pods proxy]"},
	} {
		w := httptest.NewRecorder()
		web.ServeHTTP(w, request(c.path, c.cert))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.has) {
			t.Errorf("%s for %v: %d %.200s", c.path, c.cert, w.Code, w.Body)
		}
	}
}

// TestTokens shows that a token opens what its owner has the right to, and nothing when the API server cannot be asked.
func TestTokens(t *testing.T) {
	admin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "admin "+r.URL.Path) })
	web := Web(stats.New("node1", none{}, none{}, nil), local(), scrapers{}, admin)
	for _, c := range []struct {
		method, path, token string
		cert                *x509.Certificate
		code                int
	}{
		{"GET", "/metrics/resource", "scraper", nil, 200},
		{"GET", "/metrics/cadvisor", "scraper", nil, 200},
		{"GET", "/metrics", "scraper", nil, 200},
		{"GET", "/stats/summary", "scraper", nil, 403},
		{"GET", "/debug/pprof/", "scraper", nil, 403},
		{"GET", "/metricsandmore", "scraper", nil, 403},
		{"POST", "/metrics", "scraper", nil, 403},
		{"GET", "/metrics", "other", nil, 403},
		{"GET", "/metrics", "forged", nil, 401},
		{"GET", "/metrics", "api-down", nil, 401},
		{"GET", "/metrics", "", nil, 401},
		{"GET", "/metrics", "", certificate("scraper"), 200},
		{"GET", "/metrics", "scraper", certificate("other"), 403},
		{"GET", "/metrics", "", certificate("confused"), 503},
	} {
		r := request(c.path, c.cert)
		r.Method = c.method
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		web.ServeHTTP(w, r)
		if w.Code != c.code {
			t.Errorf("%s %s with token %q and %v: %d %.100s", c.method, c.path, c.token, c.cert, w.Code, w.Body)
		}
	}
}

// TestToStatus shows which code each kind of error has at this edge, and that its words stay as they are.
func TestToStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{fmt.Errorf("x: %w", agent.ErrNotFound), codes.NotFound},
		{fmt.Errorf("x: %w", agent.ErrInvalid), codes.InvalidArgument},
		{fmt.Errorf("x: %w", shim.ErrNotRunning), codes.FailedPrecondition},
		{fmt.Errorf("x: %w", shim.ErrShimDead), codes.Unavailable},
		{fmt.Errorf("x: %w", image.ErrInUse), codes.FailedPrecondition},
		{fmt.Errorf("x: %w", image.ErrUnsafe), codes.InvalidArgument},
		{fmt.Errorf("x: %w", os.ErrNotExist), codes.NotFound},
		{context.Canceled, codes.Canceled},
		{status.Error(codes.DataLoss, "as it is"), codes.DataLoss},
		{errors.New("whatever else"), codes.Internal},
	} {
		got := toStatus(c.err)
		if status.Code(got) != c.code {
			t.Errorf("%v has code %v, want %v", c.err, status.Code(got), c.code)
		}
		if s, ok := status.FromError(c.err); !ok && status.Convert(got).Message() != c.err.Error() || ok && status.Convert(got).Message() != s.Message() {
			t.Errorf("%v became %v", c.err, got)
		}
	}
	if toStatus(nil) != nil {
		t.Error("no error became one")
	}
}

// TestLogWriter shows that lines are gathered into messages of bounded size, and sent at once while a log is followed.
func TestLogWriter(t *testing.T) {
	for _, eager := range []bool{false, true} {
		var sent [][]byte
		w := &logWriter{eager: eager, send: func(p []byte) error { sent = append(sent, p); return nil }}
		var all bytes.Buffer
		for i := range 5000 {
			line := fmt.Sprintf("line %d of output\n", i)
			all.WriteString(line)
			if _, err := io.WriteString(w, line); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Join(sent, nil); !bytes.Equal(got, all.Bytes()) {
			t.Errorf("eager=%v: %d bytes became %d", eager, all.Len(), len(got))
		}
		for _, m := range sent {
			if len(m) > chunkSize {
				t.Errorf("eager=%v: a message of %d bytes", eager, len(m))
			}
		}
		if eager != (len(sent) == 5000) {
			t.Errorf("eager=%v: %d messages", eager, len(sent))
		}
	}
}

// TestChooseProtocol shows that who offers only h2 gets gRPC, and all others HTTPS.
func TestChooseProtocol(t *testing.T) {
	rpc, web := &tls.Config{ServerName: "rpc"}, &tls.Config{ServerName: "web"}
	choose := ChooseProtocol(rpc, web).GetConfigForClient
	for offered, want := range map[string]string{"h2": "rpc", "h2 http/1.1": "web", "http/1.1": "web", "": "web"} {
		got, err := choose(&tls.ClientHelloInfo{SupportedProtos: strings.Fields(offered)})
		if err != nil || got.ServerName != want {
			t.Errorf("offered %q: %v, %v", offered, got.ServerName, err)
		}
	}
}
