package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

var (
	clientUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	serverUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth}
)

// request makes a node's request for a client certificate, changed.
func request(t *testing.T, change ...func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	req := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}}
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "csr", UID: "u", ResourceVersion: "1", CreationTimestamp: metav1.NewTime(now)},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName, Usages: clientUsages, Username: "system:bootstrap:abc", Groups: []string{"g"},
		},
	}
	for _, f := range change {
		f(req, csr)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, req, key)
	if err != nil {
		t.Fatal(err)
	}
	csr.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return csr
}

func approved(_ *x509.CertificateRequest, csr *certificatesv1.CertificateSigningRequest) {
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, LastUpdateTime: metav1.NewTime(now),
	})
}

// authority writes a certificate authority that ends in ten days.
func authority(t *testing.T) Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := Authority{CertFile: filepath.Join(t.TempDir(), "ca.crt"), KeyFile: filepath.Join(t.TempDir(), "ca.key"), Longest: 48 * time.Hour}
	for file, block := range map[string]*pem.Block{a.CertFile: {Type: "CERTIFICATE", Bytes: der}, a.KeyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// Only node client requests are reviewed, a node's for itself by a right of its own first.
func TestReviews(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest)
		want   string
	}{
		"bootstrap": {func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest) {}, "nodeclient "},
		"renewal": {func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.Username = "system:node:n1"
		}, "selfnodeclient nodeclient "},
		"of another node": {func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.Username = "system:node:n2"
		}, "nodeclient "},
		"decided": {approved, ""},
		"masters": {func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			r.Subject.Organization = []string{"system:masters"}
		}, ""},
		"both": {func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			r.Subject.Organization = []string{"system:nodes", "system:masters"}
		}, ""},
		"person": {func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			r.Subject.CommonName = "jane"
		}, ""},
		"names": {func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			r.DNSNames = []string{"n1"}
		}, ""},
		"server": {func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.Usages = serverUsages
		}, ""},
		"serving": {func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.SignerName = certificatesv1.KubeletServingSignerName
		}, ""},
		"anything": {func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.SignerName = "example.org/x"
		}, ""},
	} {
		got := ""
		for _, r := range Reviews(request(t, c.change)) {
			got += r.Subresource + " "
		}
		if got != c.want {
			t.Errorf("%s: reviews %q, want %q", name, got, c.want)
		}
	}
	q := Question(request(t), Review{Subresource: "nodeclient"}).Spec
	if q.User != "system:bootstrap:abc" || q.ResourceAttributes.Subresource != "nodeclient" || q.ResourceAttributes.Verb != "create" || q.Groups[0] != "g" {
		t.Errorf("question %+v", q)
	}
}

// An approval is written where approvals are, and then there is nothing left to ask.
func TestApprove(t *testing.T) {
	csr := request(t)
	p := Approve(csr, Reviews(csr)[0], now)
	if err := p.Check(); err != nil || p.Writes[0].Subresource != "approval" {
		t.Fatalf("%+v, %v", p, err)
	}
	next := p.Writes[0].Object.(*certificatesv1.CertificateSigningRequest)
	if c := condition(next, certificatesv1.CertificateApproved); c == nil || c.Reason != "AutoApproved" || len(Reviews(next)) > 0 {
		t.Errorf("%+v", next.Status)
	}
}

// Approved requests are signed with the authority, for no longer than asked, set, or than the authority lives, and with no more
// than the usages asked for.
func TestSign(t *testing.T) {
	a := authority(t)
	seconds := func(n int32) func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest) {
		return func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.ExpirationSeconds = &n
		}
	}
	serving := func(r *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
		c.Spec.SignerName, c.Spec.Usages = certificatesv1.KubeletServingSignerName, serverUsages
		r.DNSNames, r.IPAddresses = []string{"n1"}, []net.IP{net.IPv4(10, 0, 0, 1)}
	}
	person := func(r *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
		c.Spec.SignerName, r.Subject = certificatesv1.KubeAPIServerClientSignerName, pkix.Name{CommonName: "jane", Organization: []string{"dev"}}
	}
	for name, c := range map[string]struct {
		changes []func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest)
		longest time.Duration
		life    time.Duration
		usage   x509.ExtKeyUsage
	}{
		"node":       {nil, 48 * time.Hour, 48 * time.Hour, x509.ExtKeyUsageClientAuth},
		"shorter":    {[]func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest){seconds(3600)}, 48 * time.Hour, time.Hour, x509.ExtKeyUsageClientAuth},
		"too long":   {[]func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest){seconds(1 << 30)}, 48 * time.Hour, 48 * time.Hour, x509.ExtKeyUsageClientAuth},
		"authority":  {nil, 1000 * time.Hour, 240 * time.Hour, x509.ExtKeyUsageClientAuth},
		"serving":    {[]func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest){serving}, 48 * time.Hour, 48 * time.Hour, x509.ExtKeyUsageServerAuth},
		"api client": {[]func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest){person}, 48 * time.Hour, 48 * time.Hour, x509.ExtKeyUsageClientAuth},
	} {
		a.Longest = c.longest
		csr := request(t, append(c.changes, approved)...)
		p, err := a.sign(csr, now)
		if err != nil || len(p.Writes) != 1 || p.Writes[0].Subresource != "status" {
			t.Fatalf("%s: %+v %v", name, p, err)
		}
		next := p.Writes[0].Object.(*certificatesv1.CertificateSigningRequest)
		block, _ := pem.Decode(next.Status.Certificate)
		if block == nil {
			t.Fatalf("%s: %+v", name, next.Status)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		root, _, err := a.Load()
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(root)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{c.usage}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if cert.NotAfter.Sub(now) != c.life || cert.IsCA || len(cert.ExtKeyUsage) != 1 || cert.SerialNumber.Sign() <= 0 {
			t.Errorf("%s: valid for %v, %v, ca %t", name, cert.NotAfter.Sub(now), cert.ExtKeyUsage, cert.IsCA)
		}
		if again, err := a.sign(next, now); err != nil || !again.Empty() {
			t.Errorf("%s: signed again: %v", name, err)
		}
	}
}

// What a signer does not grant fails with a condition, once; what is not approved, denied, or another's is left alone.
func TestRefuse(t *testing.T) {
	a := authority(t)
	signer := func(name string) func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest) {
		return func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.SignerName = name
		}
	}
	for want, change := range map[string]func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest){
		"organization in subject must be only system:nodes": func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			r.Subject.Organization = []string{"system:masters"}
		},
		"subject common name must begin with system:node:": func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			r.Subject.CommonName = "system:node:"
		},
		`usages must include "client auth"`: func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.Usages = serverUsages
		},
		`usage "cert sign" is not allowed`: func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.Usages = append([]certificatesv1.KeyUsage{certificatesv1.UsageCertSign}, clientUsages...)
		},
		"email and URI names are not allowed": func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			r.URIs = []*url.URL{{Scheme: "x", Host: "y"}}
		},
		"a DNS name or IP address is required": func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
			c.Spec.SignerName, c.Spec.Usages = certificatesv1.KubeletServingSignerName, serverUsages
		},
	} {
		csr := request(t, change, approved)
		p, err := a.sign(csr, now)
		if err != nil || len(p.Writes) != 1 {
			t.Fatalf("%s: %+v %v", want, p, err)
		}
		next := p.Writes[0].Object.(*certificatesv1.CertificateSigningRequest)
		if c := condition(next, certificatesv1.CertificateFailed); c == nil || c.Message != want || c.Reason != "SignerValidationFailure" {
			t.Errorf("%s: %+v", want, next.Status.Conditions)
		}
		if again, err := a.sign(next, now); err != nil || !again.Empty() {
			t.Errorf("%s: again %+v %v", want, again, err)
		}
	}
	denied := func(_ *x509.CertificateRequest, c *certificatesv1.CertificateSigningRequest) {
		c.Status.Conditions = append(c.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue})
	}
	for name, csr := range map[string]*certificatesv1.CertificateSigningRequest{
		"not approved": request(t), "denied": request(t, approved, denied), "another's": request(t, approved, signer("example.org/x")), "legacy": request(t, approved, signer("kubernetes.io/legacy-unknown")),
	} {
		if p, err := a.sign(csr, now); err != nil || !p.Empty() {
			t.Errorf("%s: %+v %v", name, p, err)
		}
	}
}

// Decided requests go after an hour, forgotten ones after a day, not before.
func TestClean(t *testing.T) {
	issued := request(t, approved)
	issued.Status.Certificate = []byte("x")
	for name, c := range map[string]struct {
		csr  *certificatesv1.CertificateSigningRequest
		ends time.Duration
	}{"pending": {request(t), 24 * time.Hour}, "issued": {issued, time.Hour}, "approved, waiting": {request(t, approved), 24 * time.Hour}} {
		if p := Clean(c.csr, now); !p.Empty() || p.After != c.ends {
			t.Errorf("%s: looks again after %v", name, p.After)
		}
		if p := Clean(c.csr, now.Add(c.ends)); len(p.Writes) != 1 || p.Writes[0].Verb != plan.VerbDelete {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// A pod's request goes a quarter of an hour after its creation, and not before.
func TestCleanPodCertificate(t *testing.T) {
	req := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "r", UID: "u", ResourceVersion: "1", CreationTimestamp: metav1.NewTime(now)}}
	if p := CleanPodCertificate(req, now.Add(5*time.Minute)); !p.Empty() || p.After != 10*time.Minute {
		t.Errorf("after 5m: %d writes, looks again after %v", len(p.Writes), p.After)
	}
	if p := CleanPodCertificate(req, now.Add(15*time.Minute)); len(p.Writes) != 1 || p.Writes[0].Verb != plan.VerbDelete {
		t.Errorf("after 15m: %+v", p)
	}
}
