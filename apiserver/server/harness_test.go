package server_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
	"bareboat.dev/apiserver/review"
	"bareboat.dev/apiserver/server"
	"bareboat.dev/apiserver/server/servertest"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/storage/sqlite"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// harness is a running server.
type harness struct {
	t       testing.TB
	pki     *servertest.PKI
	server  *server.Server
	address string
	stop    func()
}

// engines makes each engine that tests run on.
func engines() map[string]func(t testing.TB) storage.Engine {
	return map[string]func(t testing.TB) storage.Engine{
		"memory": func(testing.TB) storage.Engine { return memory.New() },
		"sqlite": func(t testing.TB) storage.Engine {
			e, err := sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db"), Log: slog.New(slog.DiscardHandler)})
			check(t, err)
			return e
		},
	}
}

// start runs a server on an engine until the test ends; change adjusts its configuration.
func start(t testing.TB, engine storage.Engine, change ...func(*server.Config)) *harness {
	t.Helper()
	set, err := registry.NewSet(registry.All(groups.All(core.Config{}), review.Resources())...)
	check(t, err)
	p := servertest.NewPKI(t)
	serving := p.Issue(t, "kube-apiserver")
	cfg := server.Config{
		Set: set, Engine: engine, Tokens: authn.IssuerConfig{URL: "https://issuer", Signer: servertest.NewKey(t)},
		TLS: &tls.Config{
			Certificates: []tls.Certificate{serving}, ClientCAs: p.Pool, ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: []string{"h2", "http/1.1"},
		},
		Name: "test", Advertise: "192.0.2.1", Port: 6443, ServiceIP: "10.96.0.1", ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}, Metrics: prometheus.NewRegistry(),
		Version: server.Version("test", ""), Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := server.New(cfg)
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, l, func() { close(ready) }) }()
	h := &harness{t: t, pki: p, server: s, address: l.Addr().String()}
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
		engine.Close()
	})
	t.Cleanup(h.stop)
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("server ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("server is not ready after 30 s")
	}
	return h
}

// user is one identity's two ways in.
type user struct {
	apiv1.ResourceServiceClient
	conn *rpc.ClientConn
	http *http.Client
	base string
}

// as returns the doors for a client certificate; an empty name has none.
func (h *harness) as(name string, groups ...string) *user {
	h.t.Helper()
	cfg := &tls.Config{RootCAs: h.pki.Pool}
	if name != "" {
		cfg.Certificates = []tls.Certificate{h.pki.Issue(h.t, name, groups...)}
	}
	conn, err := rpc.NewClient("passthrough:///"+h.address, rpc.WithTransportCredentials(credentials.NewTLS(cfg)),
		rpc.WithDefaultCallOptions(rpc.MaxCallRecvMsgSize(64<<20)))
	check(h.t, err)
	transport := &http.Transport{TLSClientConfig: cfg.Clone(), ForceAttemptHTTP2: true}
	h.t.Cleanup(func() {
		conn.Close()
		transport.CloseIdleConnections()
	})
	return &user{apiv1.NewResourceServiceClient(conn), conn, &http.Client{Transport: transport}, "https://" + h.address}
}

func (h *harness) admin() *user { return h.as("kubernetes-admin", authn.Masters) }

// asJSON wraps a JSON or YAML body for the gRPC door.
func asJSON(t testing.TB, contentType, body string) *anypb.Any {
	t.Helper()
	u := runtime.Unknown{ContentType: contentType, Raw: []byte(body)}
	raw, err := u.Marshal()
	check(t, err)
	return &anypb.Any{TypeUrl: "type.googleapis.com/k8s.io.apimachinery.pkg.runtime.Unknown", Value: raw}
}

// asProto wraps an object.
func asProto(t testing.TB, url string, obj registry.Object) *anypb.Any {
	t.Helper()
	raw, err := obj.Marshal()
	check(t, err)
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + url, Value: raw}
}

// into decodes an answer's object.
func into[T registry.Object](t testing.TB, a *anypb.Any, obj T) T {
	t.Helper()
	check(t, obj.Unmarshal(a.GetValue()))
	return obj
}

// apiStatus is the metav1.Status of a gRPC error.
func apiStatus(t testing.TB, err error) metav1.Status {
	t.Helper()
	s, ok := status.FromError(err)
	if !ok || s.Code() == codes.OK {
		t.Fatalf("no gRPC error: %v", err)
	}
	for _, d := range s.Proto().GetDetails() {
		if d.GetTypeUrl() == "type.googleapis.com/k8s.io.apimachinery.pkg.apis.meta.v1.Status" {
			var out metav1.Status
			check(t, out.Unmarshal(d.GetValue()))
			return out
		}
	}
	t.Fatalf("gRPC error without a metav1.Status: %v", err)
	return metav1.Status{}
}

func ref(group, resource, namespace, name string) *apiv1.ResourceRef {
	return &apiv1.ResourceRef{Group: group, Resource: resource, Namespace: namespace, Name: name}
}
