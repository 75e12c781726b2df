package daemon_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bareboat.dev/daemon"
)

// as returns a request from an address, over TLS if a certificate's organization is given ("" is no certificate).
func as(path, remote string, secure bool, organization string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = remote
	if secure {
		r.TLS = &tls.ConnectionState{}
		if organization != "" {
			cert := &x509.Certificate{Subject: pkix.Name{Organization: []string{organization}}}
			r.TLS.VerifiedChains = [][]*x509.Certificate{{cert}}
		}
	}
	return r
}

// Shows who may read what.
func TestAdminAccess(t *testing.T) {
	handler := daemon.AdminHandler(daemon.NewEnv("tester", nil))
	const local, remote = "127.0.0.1:1", "192.0.2.1:1"
	for _, tc := range []struct {
		r    *http.Request
		want int
	}{
		{as("/livez", remote, true, ""), 200},
		{as("/metrics", remote, false, ""), 200},
		{as("/metrics", remote, true, ""), 403},
		{as("/metrics", remote, true, "anyone"), 200},
		{as("/metrics", local, true, ""), 200},
		{as("/metrics/slis", remote, true, ""), 403},
		{as("/debug/pprof/cmdline", remote, false, ""), 403},
		{as("/debug/pprof/cmdline", remote, true, "anyone"), 403},
		{as("/debug/pprof/cmdline", remote, true, "system:masters"), 200},
		{as("/debug/pprof/cmdline", local, false, ""), 200},
		{as("/nothing", local, false, ""), 404},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, tc.r)
		if w.Code != tc.want {
			t.Errorf("%s from %s, %+v: %d, want %d", tc.r.URL, tc.r.RemoteAddr, tc.r.TLS, w.Code, tc.want)
		}
	}
	w := httptest.NewRecorder()
	daemon.AdminEndpoints(daemon.NewEnv("tester", nil)).ServeHTTP(w, as("/metrics", remote, true, ""))
	if w.Code != 200 {
		t.Errorf("the endpoints alone, for a server that decides itself: %d", w.Code)
	}
	forwarded := as("/debug/pprof/cmdline", local, false, "")
	forwarded.Header.Set("X-Forwarded-For", "192.0.2.1")
	w = httptest.NewRecorder()
	if handler.ServeHTTP(w, forwarded); w.Code != 403 {
		t.Errorf("through a proxy on this host: %d, want 403", w.Code)
	}
}

// Shows the health endpoints' answers, which are worded as Kubernetes words them.
func TestHealth(t *testing.T) {
	env := daemon.NewEnv("tester", nil)
	handler := daemon.AdminHandler(env)
	var broken error
	env.Health.AddLive("loop", func(context.Context) error { return broken })
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	expect := func(path string, code int, body string) {
		t.Helper()
		if c, b := get(path); c != code || b != body {
			t.Errorf("%s: %d %q, want %d %q", path, c, b, code, body)
		}
	}
	expect("/livez", 200, "ok")
	expect("/readyz", 500, "[-]started failed: reason withheld\n[+]loop ok\nreadyz check failed\n")
	env.Ready()
	expect("/readyz", 200, "ok")
	expect("/readyz?verbose", 200, "[+]started ok\n[+]loop ok\nreadyz check passed\n")
	broken = errors.New("stuck")
	expect("/livez", 500, "[-]loop failed: reason withheld\nlivez check failed\n")
	expect("/livez?exclude=loop", 200, "ok")
	expect("/livez/loop", 500, "[-]loop failed: reason withheld\nlivez check failed\n")
	expect("/healthz/started", 200, "ok")
	if err := env.Health.Live(t.Context()); err == nil || err.Error() != "loop: stuck" {
		t.Errorf("Live: %v", err)
	}
}

// Shows what is told of health checks that were asked for: the last result, and how often there was each.
func TestSLIs(t *testing.T) {
	env := daemon.NewEnv("tester", nil)
	handler := daemon.AdminHandler(env)
	var broken error
	env.Health.AddLive("loop", func(context.Context) error { return broken })
	get := func(path string) string {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Body.String()
	}
	get("/livez")
	get("/livez")
	get("/livez?exclude=loop")
	broken = errors.New("stuck")
	get("/livez")
	got := get("/metrics/slis")
	for _, want := range []string{
		`kubernetes_healthcheck{name="loop",type="livez"} 0`,
		`kubernetes_healthchecks_total{name="loop",status="error",type="livez"} 1`,
		`kubernetes_healthchecks_total{name="loop",status="success",type="livez"} 2`,
		"process_start_time_seconds ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

// Shows that the server answers while it runs and that it ends with its context.
func TestServeAdmin(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- daemon.ServeAdminOn(ctx, daemon.NewEnv("tester", nil), listener, nil) }()
	resp, err := http.Get("http://" + listener.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !strings.Contains(string(body), `bareboat_build_info{daemon="tester"`) || !strings.Contains(string(body), "process_resident_memory_bytes") {
		t.Errorf("metrics: %.200s, %v", body, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("end: %v", err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := daemon.ServeAdmin(t.Context(), daemon.NewEnv("tester", nil), taken.Addr().String(), nil); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("port taken: %v", err)
	}
}
