package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, next: 1}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue returns a certificate for cn, valid on loopback, and its key, in PEM.
func (a *authority) issue(cn string) (certPEM, keyPEM []byte) {
	a.next++
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return encodePEM("CERTIFICATE", der), encodePEM("EC PRIVATE KEY", keyDER)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// endpoint is one API server on loopback: a door of its own to the same model.
type endpoint struct {
	address string
	server  *grpc.Server

	mu     sync.Mutex
	hellos [][]string // application protocols offered, by connection
	seen   []string   // client certificates' names
}

func (a *authority) endpoint(model *clienttest.Server) *endpoint {
	cert, key := a.issue("apiserver")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	e := &endpoint{}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.seen = append(e.seen, cs.PeerCertificates[0].Subject.CommonName)
		return nil
	}
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.hellos = append(e.hellos, slices.Clone(hello.SupportedProtos))
		return nil, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	e.address = listener.Addr().String()
	e.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(cfg)))
	apiv1.RegisterResourceServiceServer(e.server, model)
	done := make(chan struct{})
	go func() { defer close(done); _ = e.server.Serve(listener) }()
	a.t.Cleanup(func() { e.server.Stop(); <-done })
	return e
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Shows that a mirror goes on at another endpoint when its own dies, without listing again, and that
// connections offer h2 only.
func TestFailover(t *testing.T) {
	model, ca := clienttest.NewServer(t), newAuthority(t)
	first, second := ca.endpoint(model), ca.endpoint(model)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "c.crt"), filepath.Join(dir, "c.key")
	cert, key := ca.issue("before")
	write(t, certFile, cert)
	write(t, keyFile, key)
	c, err := client.Dial(&client.Config{
		Endpoints: []string{first.address, "https://" + second.address}, CertFile: certFile, KeyFile: keyFile,
		CAData: encodePEM("CERTIFICATE", ca.cert.Raw),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	m := client.NewMirror(c, client.ConfigMaps(), client.MirrorOptions[*corev1.ConfigMap]{})
	var names []string
	m.OnChange(func(ch client.Change[*corev1.ConfigMap]) { names = append(names, ch.New.Name) })
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	put := func(name string) {
		t.Helper()
		clienttest.Put(model, client.ConfigMaps(), configMap(name))
		if err := m.WaitRevision(ctx, model.Revision()); err != nil {
			t.Fatal(err)
		}
	}
	put("a")
	first.server.Stop() // ends its connections, as a crash does
	put("b")
	put("c")
	second.server.Stop()
	if _, err := client.Of(c, client.ConfigMaps()).Create(ctx, configMap("d")); !client.IsUnavailable(err) {
		t.Errorf("create without any server: %v", err)
	}
	if fmt.Sprint(names) != "[a b c]" || m.Stats().Relists != 0 {
		t.Errorf("changes %v after %+v", names, m.Stats())
	}
	for _, e := range []*endpoint{first, second} {
		e.mu.Lock()
		for _, protos := range e.hellos {
			if len(protos) != 1 || protos[0] != "h2" {
				t.Errorf("a connection offered %v", protos)
			}
		}
		e.mu.Unlock()
	}
}

// Shows that the certificate of the next connection is the one on disk by then.
func TestCertificateRotation(t *testing.T) {
	model, ca := clienttest.NewServer(t), newAuthority(t)
	e := ca.endpoint(model)
	dir := t.TempDir()
	cfg := &client.Config{
		Endpoints: []string{e.address}, CertFile: filepath.Join(dir, "c.crt"), KeyFile: filepath.Join(dir, "c.key"), CAFile: filepath.Join(dir, "ca.crt"),
	}
	write(t, cfg.CAFile, encodePEM("CERTIFICATE", ca.cert.Raw))
	var conns []net.Conn
	var mu sync.Mutex
	cfg.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, conn)
		return conn, err
	}
	var c *client.Client
	for i, cn := range []string{"before", "after the rotation"} {
		cert, key := ca.issue(cn)
		write(t, cfg.CertFile, cert)
		write(t, cfg.KeyFile, key)
		if i == 0 {
			var err error
			if c, err = client.Dial(cfg); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		} else {
			mu.Lock()
			conns[0].Close()
			mu.Unlock()
		}
		if _, _, err := client.Of(c, client.Pods()).List(t.Context(), "", client.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if fmt.Sprint(e.seen) != "[before after the rotation]" {
		t.Errorf("certificates seen: %v", e.seen)
	}
}
