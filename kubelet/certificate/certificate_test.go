package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
)

var quiet = slog.New(slog.DiscardHandler)

// authority answers requests.
type authority struct {
	t    *testing.T
	s    *clienttest.Server
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, s *clienttest.Server) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, s, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true}, key}
}

// requests lists what was asked for.
func (a *authority) requests() []*certificatesv1.CertificateSigningRequest {
	a.t.Helper()
	list, _, err := client.Of(a.s.Client(), client.CertificateSigningRequests()).List(a.t.Context(), "", client.ListOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	return list
}

// sign answers a request with a certificate of some length.
func (a *authority) sign(csr *certificatesv1.CertificateSigningRequest, life time.Duration) {
	a.t.Helper()
	block, _ := pem.Decode(csr.Spec.Request)
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: req.Subject, NotBefore: now, NotAfter: now.Add(life),
		DNSNames: req.DNSNames, IPAddresses: req.IPAddresses}, a.cert, req.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	next := csr.DeepCopy()
	next.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	clienttest.Put(a.s, client.CertificateSigningRequests(), next)
}

func read(t *testing.T, certFile, keyFile string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// A node that joins asks once, however often it is killed meanwhile, and ends up with a kubeconfig that its client can read.
func TestJoin(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		a := newAuthority(t, s)
		j := Joining{Kubeconfig: filepath.Join(dir, "kubelet.conf"), Dir: filepath.Join(dir, "pki"), Node: "n1", Log: quiet}
		cfg := &client.Config{Endpoints: []string{"10.0.0.1:6443", "10.0.0.2:6443"}, CAFile: "/ca.crt"}
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := j.join(ctx, s.NewClient(), cfg); err == nil {
				t.Error("joined without a certificate")
			}
			cancel()
		}
		done := make(chan error)
		go func() { done <- j.join(t.Context(), s.NewClient(), cfg) }()
		time.Sleep(time.Second)
		list := a.requests()
		if len(list) != 1 || list[0].Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
			t.Fatalf("%d requests", len(list))
		}
		a.sign(list[0], time.Hour)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		got, err := client.LoadConfig(j.Kubeconfig, "")
		if err != nil {
			t.Fatal(err)
		}
		if cert := read(t, got.CertFile, got.KeyFile); cert.Subject.CommonName != "system:node:n1" || cert.Subject.Organization[0] != "system:nodes" {
			t.Errorf("subject %v", cert.Subject)
		}
		if len(got.Endpoints) != 2 || got.CAFile != "/ca.crt" || !joined(j.Kubeconfig) {
			t.Errorf("%+v", got)
		}
		for _, file := range []string{got.CertFile, j.Kubeconfig} {
			if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", file, fi.Mode(), err)
			}
		}
		time.Sleep(2 * time.Hour)
		if joined(j.Kubeconfig) {
			t.Error("a certificate that has ended counts")
		}
	})
}

// A certificate is replaced when most of its life is over, in one file or in two; until there is an answer the old one stays, and after
// a refusal another request is made.
func TestRotate(t *testing.T) {
	for _, names := range [][2]string{{"both.pem", "both.pem"}, {"tls.crt", "tls.key"}} {
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, names[0]), filepath.Join(dir, names[1])
		synctest.Test(t, func(t *testing.T) {
			s := clienttest.NewServer(t)
			a := newAuthority(t, s)
			first := make(chan error)
			go func() {
				_, err := obtain(t.Context(), s.NewClient(), wanted{node: "n1"}, keyFile+".next", func(cert, key []byte) error { return install(certFile, keyFile, cert, key) })
				first <- err
			}()
			time.Sleep(time.Second)
			a.sign(a.requests()[0], 10*time.Hour)
			if err := <-first; err != nil {
				t.Fatal(err)
			}
			old := read(t, certFile, keyFile)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				ended <- New(Config{Client: s.NewClient(), Node: "n1", CertFile: certFile, KeyFile: keyFile, Log: quiet}).Run(ctx)
			}()
			time.Sleep(6*time.Hour + 59*time.Minute)
			if n := len(a.requests()); n != 1 {
				t.Errorf("%d requests before 70 %% are over", n)
			}
			time.Sleep(2*time.Hour + 2*time.Minute)
			list := a.requests()
			if len(list) != 2 || !read(t, certFile, keyFile).Equal(old) {
				t.Fatalf("%d requests at 90 %%", len(list))
			}
			pending := list[0]
			if len(pending.Status.Certificate) > 0 {
				pending = list[1]
			}
			denied := pending.DeepCopy()
			denied.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue}}
			clienttest.Put(s, client.CertificateSigningRequests(), denied)
			time.Sleep(time.Minute)
			for _, csr := range a.requests() {
				if len(csr.Status.Certificate) == 0 && len(csr.Status.Conditions) == 0 {
					a.sign(csr, 20*time.Hour)
				}
			}
			time.Sleep(time.Minute)
			if cert := read(t, certFile, keyFile); !cert.NotAfter.After(old.NotAfter) || len(a.requests()) != 3 {
				t.Errorf("ends %v, %d requests", cert.NotAfter, len(a.requests()))
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A server certificate is asked for where there is none, or one that is not for this node's names, and is replaced when its time comes.
func TestServing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pki", CurrentServingFile)
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		a := newAuthority(t, s)
		rotate := func(names Names, work func(r *Rotator)) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			r := New(Config{Client: s.NewClient(), Node: "n1", CertFile: file, KeyFile: file, Names: &names, Log: quiet})
			go func() { ended <- r.Run(ctx) }()
			work(r)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		open := func() *certificatesv1.CertificateSigningRequest {
			t.Helper()
			time.Sleep(time.Second)
			var found *certificatesv1.CertificateSigningRequest
			for _, csr := range a.requests() {
				if len(csr.Status.Certificate) == 0 {
					if found != nil {
						t.Error("two requests are open")
					}
					found = csr
				}
			}
			if found == nil {
				t.Fatal("nothing was asked for")
			}
			return found
		}
		names := Names{DNS: []string{"n1"}, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}}
		rotate(names, func(r *Rotator) {
			waited := make(chan error, 1)
			go func() { waited <- r.Wait(t.Context()) }()
			csr := open()
			if len(waited) != 0 {
				t.Error("nobody has signed anything")
			}
			if csr.Spec.SignerName != certificatesv1.KubeletServingSignerName || csr.Spec.Usages[1] != certificatesv1.UsageServerAuth {
				t.Errorf("%+v", csr.Spec)
			}
			a.sign(csr, 10*time.Hour)
			if err := <-waited; err != nil {
				t.Fatal(err)
			}
			if c := read(t, file, file); c.Subject.CommonName != "system:node:n1" || c.VerifyHostname("10.0.0.1") != nil || c.VerifyHostname("n1") != nil {
				t.Errorf("%v for %v and %v", c.Subject, c.DNSNames, c.IPAddresses)
			}
			time.Sleep(9*time.Hour + time.Minute)
			a.sign(open(), 10*time.Hour)
			time.Sleep(time.Minute)
			if time.Until(read(t, file, file).NotAfter) < 9*time.Hour {
				t.Error("not rotated")
			}
		})
		rotate(names, func(r *Rotator) {
			if err := r.Wait(t.Context()); err != nil || len(a.requests()) != 2 {
				t.Errorf("%v, %d requests with a good certificate", err, len(a.requests()))
			}
		})
		names.IPs = append(names.IPs, net.ParseIP("fd00::1"))
		rotate(names, func(r *Rotator) {
			if err := r.Wait(t.Context()); err != nil {
				t.Error("the old certificate does not serve meanwhile:", err)
			}
			a.sign(open(), 10*time.Hour)
			time.Sleep(time.Second)
			if err := read(t, file, file).VerifyHostname("fd00::1"); err != nil {
				t.Error(err)
			}
		})
	})
}

// Nodes of one age rotate at different times, all between 70 and 90 % of a certificate's life.
func TestRotateAt(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cert := &x509.Certificate{NotBefore: begin, NotAfter: begin.Add(1000 * time.Hour)}
	seen := map[time.Time]bool{}
	for _, node := range []string{"a", "b", "c", "d", "e"} {
		at := RotateAt(cert, node)
		if at.Before(begin.Add(700*time.Hour)) || at.After(begin.Add(900*time.Hour)) {
			t.Errorf("%s: %v", node, at)
		}
		seen[at] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d different times", len(seen))
	}
}
