package webhook_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/server/servertest"
	"bareboat.dev/apiserver/webhook"
)

type message struct {
	Text string `json:"text"`
}

// hook is a TLS server, and what it saw.
type hook struct {
	*httptest.Server
	pki         *servertest.PKI
	connections atomic.Int32
	path, query atomic.Value
}

func newHook(t *testing.T, dnsName string, handle http.HandlerFunc) *hook {
	t.Helper()
	h := &hook{pki: servertest.NewPKI(t)}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.path.Store(r.URL.Path)
		h.query.Store(r.URL.RawQuery)
		handle(w, r)
	}))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.Config.ConnState = count(&h.connections)
	h.TLS = &tls.Config{Certificates: []tls.Certificate{h.pki.Serve(t, dnsName)}}
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

// target addresses the hook as a service of the cluster.
func (h *hook) target() webhook.Target {
	return webhook.Target{Service: &webhook.Service{Namespace: "ops", Name: "hook", Path: "/mutate"}, CABundle: h.pki.CA(), Query: "timeout=10s"}
}

func (h *hook) client(t *testing.T) *webhook.Client {
	t.Helper()
	c := webhook.New(func(ctx context.Context, namespace, name string, port int32) (net.Conn, error) {
		if namespace != "ops" || name != "hook" || port != 443 {
			t.Errorf("asked for %s/%s:%d", namespace, name, port)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", h.Listener.Addr().String())
	})
	t.Cleanup(c.Close)
	return c
}

func echo(w http.ResponseWriter, r *http.Request) {
	var in message
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(message{in.Text + "!"}); err != nil {
		panic(err)
	}
}

// TestCall shows that a service is called by its name in the cluster, over TLS verified for it, and that calls share connections.
func TestCall(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	h := newHook(t, "hook.ops.svc", echo)
	c := h.client(t)
	for range 3 {
		var out message
		if err := c.Call(t.Context(), h.target(), message{"hello"}, &out); err != nil || out.Text != "hello!" {
			t.Fatalf("%q, %v", out.Text, err)
		}
	}
	if p, q := h.path.Load(), h.query.Load(); p != "/mutate" || q != "timeout=10s" {
		t.Errorf("called at %v?%v", p, q)
	}
	if n := h.connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	var out message
	direct := webhook.Target{URL: h.URL + "/x", CABundle: h.pki.CA()}
	if err := c.Call(t.Context(), direct, message{"hi"}, &out); err != nil || out.Text != "hi!" {
		t.Errorf("by URL: %q, %v", out.Text, err)
	}
	c.Close()
	h.Close()
}

// TestUntrusted shows that no call is made to a server that cannot prove to be the one that is meant.
func TestUntrusted(t *testing.T) {
	called := func(http.ResponseWriter, *http.Request) { t.Error("the server got a request") }
	h := newHook(t, "other.ops.svc", called)
	other := servertest.NewPKI(t)
	tests := map[string]struct {
		target webhook.Target
		want   string
	}{
		"another name":      {h.target(), "x509: certificate is valid for other.ops.svc, not hook.ops.svc"},
		"another authority": {webhook.Target{URL: h.URL, CABundle: other.CA()}, "x509: certificate signed by unknown authority"},
		"no authority":      {webhook.Target{URL: h.URL}, "x509: certificate signed by unknown authority"},
		"no PEM":            {webhook.Target{URL: h.URL, CABundle: []byte("x")}, "unable to load root certificates: unable to parse bytes as PEM block"},
		"plain HTTP":        {webhook.Target{URL: "http://127.0.0.1"}, "is no https URL"},
		"nowhere":           {webhook.Target{}, "a webhook needs either a URL or a service"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := h.client(t).Call(t.Context(), tt.target, message{}, &message{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestFailures shows what a caller gets of answers that are none.
func TestFailures(t *testing.T) {
	tests := map[string]struct {
		handle http.HandlerFunc
		check  func(error) bool
	}{
		"not found":      {http.NotFound, apierrors.IsNotFound},
		"internal error": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "boom", 500) }, func(err error) bool { return apierrors.IsInternalError(err) && strings.Contains(err.Error(), "boom") }},
		"redirect":       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, func(err error) bool { var s apierrors.APIStatus; return errors.As(err, &s) && s.Status().Code == 302 }},
		"no JSON":        {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, func(err error) bool { var s *json.SyntaxError; return errors.As(err, &s) }},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			line := []byte(strings.Repeat(" ", 1<<16))
			for range 1 << 10 {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}, func(err error) bool { return errors.Is(err, webhook.ErrTooLarge) }},
		"cut off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, func(err error) bool { var u *url.Error; return errors.As(err, &u) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHook(t, "hook.ops.svc", tt.handle)
			if err := h.client(t).Call(t.Context(), h.target(), message{}, &message{}); err == nil || !tt.check(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestTimeout shows that a server that does not answer holds a call no longer than its context.
func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	h := newHook(t, "hook.ops.svc", func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-release
	})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := h.client(t).Call(ctx, h.target(), message{}, &message{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
