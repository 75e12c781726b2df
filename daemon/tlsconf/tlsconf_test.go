package tlsconf_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bareboat.dev/daemon/tlsconf"
)

// files are one party's certificate, key and authority on disk; the authority is the certificate itself.
type files struct{ cert, key string }

// renew writes a new self-signed certificate for cn.
func (f files) renew(t *testing.T, cn string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, f.cert, "CERTIFICATE", der)
	f.write(t, f.key, "EC PRIVATE KEY", keyDER)
}

func (f files) write(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newFiles(t *testing.T, cn string) files {
	dir := t.TempDir()
	f := files{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	f.renew(t, cn)
	return f
}

// shake makes a connection and returns what each side saw of the other.
func shake(t *testing.T, server, client *tls.Config) (serverSaw, clientSaw string, proto string) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := tls.Server(a, server)
	failed := make(chan error, 1)
	go func() { failed <- s.Handshake() }()
	client = client.Clone()
	client.ServerName = "127.0.0.1"
	c := tls.Client(b, client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if peers := s.ConnectionState().PeerCertificates; len(peers) > 0 {
		serverSaw = peers[0].Subject.CommonName
	}
	return serverSaw, c.ConnectionState().PeerCertificates[0].Subject.CommonName, c.ConnectionState().NegotiatedProtocol
}

// Shows that both sides' rotated certificates, and the authorities that verify clients, serve the next handshake, and that half a
// rotation breaks nothing.
func TestRotation(t *testing.T) {
	srv, cli := newFiles(t, "server-1"), newFiles(t, "client-1")
	server, err := tlsconf.Server(srv.cert, srv.key, cli.cert)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(wantServerSaw, wantClientSaw string) {
		t.Helper()
		client, err := tlsconf.Client(cli.cert, cli.key, srv.cert)
		if err != nil {
			t.Fatal(err)
		}
		client.NextProtos = []string{"h2"}
		if a, b, proto := shake(t, server, client); a != wantServerSaw || b != wantClientSaw || proto != "h2" {
			t.Errorf("server saw %s, client saw %s over %q; want %s, %s over h2", a, b, proto, wantServerSaw, wantClientSaw)
		}
	}
	expect("client-1", "server-1")
	srv.renew(t, "server-2")
	expect("client-1", "server-2")
	cli.renew(t, "client-2")
	expect("client-2", "server-2")
	ca := srv.cert + ".old"
	good, err := os.ReadFile(srv.cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, good, 0o600); err != nil {
		t.Fatal(err)
	}
	other := newFiles(t, "server-3")
	half, err := os.ReadFile(other.cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(srv.cert, half, 0o600); err != nil { // its key is not written yet
		t.Fatal(err)
	}
	client, err := tlsconf.Client("", "", ca)
	if err != nil {
		t.Fatal(err)
	}
	if a, b, _ := shake(t, server, client); a != "" || b != "server-2" {
		t.Errorf("during the rotation: server saw %q, client saw %q", a, b)
	}
}

// Shows that what is wrong with the files is said at once, with their names.
func TestBadFiles(t *testing.T) {
	good := newFiles(t, "x")
	for _, tc := range []struct{ cert, key, ca, want string }{
		{"/none", good.key, "", "TLS certificate: stat /none"},
		{good.cert, "/none", "", "TLS key: stat /none"},
		{good.cert, good.cert, "", "TLS certificate " + good.cert + " and key"},
		{good.cert, good.key, good.key, "CA certificate " + good.key + ": no PEM certificate"},
	} {
		if _, err := tlsconf.Server(tc.cert, tc.key, tc.ca); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}
