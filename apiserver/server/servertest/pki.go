// Package servertest makes certificates for tests of the API server.
package servertest

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
	"testing"
	"time"
)

// validity is how long a test's certificates are good, before and after now.
const validity = time.Hour

// PKI is a certificate authority that lives as long as one test.
type PKI struct {
	// Pool trusts the authority.
	Pool *x509.CertPool
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewPKI makes an authority.
func NewPKI(t testing.TB) *PKI {
	t.Helper()
	key := NewKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-validity), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	check(t, err)
	ca, err = x509.ParseCertificate(der)
	check(t, err)
	p := &PKI{ca: ca, key: key, Pool: x509.NewCertPool()}
	p.Pool.AddCert(ca)
	return p
}

// NewKey makes a P-256 key.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

// CA is the authority's certificate in PEM.
func (p *PKI) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.ca.Raw})
}

// Issue makes a certificate for a user, good for servers on 127.0.0.1 too.
func (p *PKI) Issue(t testing.TB, name string, groups ...string) tls.Certificate {
	t.Helper()
	return p.issue(t, pkix.Name{CommonName: name, Organization: groups}, nil)
}

// Serve makes a certificate for a server of that DNS name, good on 127.0.0.1 too.
func (p *PKI) Serve(t testing.TB, dnsName string) tls.Certificate {
	t.Helper()
	return p.issue(t, pkix.Name{CommonName: dnsName}, []string{dnsName})
}

func (p *PKI) issue(t testing.TB, subject pkix.Name, dnsNames []string) tls.Certificate {
	t.Helper()
	key := NewKey(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, DNSNames: dnsNames,
		NotBefore: time.Now().Add(-validity), NotAfter: time.Now().Add(validity), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, p.ca, key.Public(), p.key)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Files writes what a server needs into a folder: ca.crt, server.crt, server.key and sa.key.
func (p *PKI) Files(t testing.TB, dir string) {
	t.Helper()
	serving := p.Issue(t, "kube-apiserver")
	write(t, filepath.Join(dir, "ca.crt"), "CERTIFICATE", p.ca.Raw)
	write(t, filepath.Join(dir, "server.crt"), "CERTIFICATE", serving.Certificate[0])
	for name, key := range map[string]*ecdsa.PrivateKey{"server.key": serving.PrivateKey.(*ecdsa.PrivateKey), "sa.key": NewKey(t)} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		check(t, err)
		write(t, filepath.Join(dir, name), "PRIVATE KEY", der)
	}
}

func write(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	check(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Encode is a certificate and its key in PEM, as kubeconfigs carry them.
func Encode(t testing.TB, c tls.Certificate) (cert, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
