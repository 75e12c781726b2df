package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
)

// certificateRequests are what was asked for.
func (h *host) certificateRequests() []*certificatesv1.PodCertificateRequest {
	h.t.Helper()
	all, _, err := client.Of(h.api.Client(), client.PodCertificateRequests()).List(h.t.Context(), "", client.ListOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// awaitRequest waits until somebody asks for a certificate.
func (h *host) awaitRequest() *certificatesv1.PodCertificateRequest {
	h.t.Helper()
	for ev, err := range client.Of(h.api.Client(), client.PodCertificateRequests()).Watch(h.t.Context(), "", client.WatchOptions{InitialEvents: true}) {
		if err != nil {
			h.t.Fatal(err)
		}
		if ev.Object != nil && ev.Type == client.Added {
			return ev.Object
		}
	}
	h.t.Fatal("nobody asked for a certificate")
	return nil
}

// issue answers a request and returns the certificate.
func (h *host) issue(r *certificatesv1.PodCertificateRequest) string {
	h.t.Helper()
	stub, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		h.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now, NotAfter: now.Add(time.Hour)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, stub.PublicKey, key)
	if err != nil {
		h.t.Fatal(err)
	}
	next := r.DeepCopy()
	next.Status.CertificateChain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	next.Status.BeginRefreshAt = &metav1.Time{Time: now.Add(30 * time.Minute)}
	next.Status.Conditions = []metav1.Condition{{Type: certificatesv1.PodCertificateRequestConditionTypeIssued, Status: metav1.ConditionTrue}}
	clienttest.Put(h.api, client.PodCertificateRequests(), next)
	return next.Status.CertificateChain
}

// TestTrust shows a pod that has a certificate of its own and knows whom to trust: it waits for the signer and says so, gets both, sees
// other anchors when they change, and neither loses its certificate nor asks again when the kubelet starts anew.
func TestTrust(t *testing.T) {
	h := newHost(t)
	h.load()
	bundle := func(content byte) string {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{content}}))
		b := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "example.com:s:v1"}}
		b.Spec = certificatesv1.ClusterTrustBundleSpec{SignerName: "example.com/s", TrustBundle: text}
		clienttest.Put(h.api, client.ClusterTrustBundles(), b)
		return text
	}
	anchors := bundle(1)
	clienttest.Put(h.api, client.ServiceAccounts(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot", UID: "robot-uid"}})
	h.create("secured", `{serviceAccountName: robot, containers: [{name: app, command: [sh, -c, "cat /t/chain.pem /t/ca.pem; exec sleep 1000"], volumeMounts: [{name: t, mountPath: /t}]}],
		volumes: [{name: t, projected: {sources: [
			{podCertificate: {signerName: example.com/s, keyType: ECDSAP256, credentialBundlePath: both.pem, certificateChainPath: chain.pem}},
			{clusterTrustBundle: {signerName: example.com/s, labelSelector: {}, path: ca.pem}}]}}]}`)
	r := h.awaitRequest()
	node, _ := h.k.nodes.Get("", "node1")
	if r.Spec.PodName != "secured" || r.Spec.NodeName != "node1" || node == nil || r.Spec.NodeUID != node.UID || r.Spec.ServiceAccountUID != "robot-uid" {
		t.Errorf("asked for %+v", r.Spec)
	}
	h.awaitEvent("secured", "FailedMount", "the certificate has not been issued yet")
	chain := h.issue(r)
	p := h.await("secured", "Running", running)
	h.awaitLog(p, "app", "0", chain+anchors)
	dir := filepath.Join(h.c.RootDir, "pods", string(p.UID), "volumes/kubernetes.io~projected/t")
	h.awaitFile(dir+"/ca.pem", bundle(2))
	h.stop()
	h.start()
	h.awaitFile(dir+"/ca.pem", bundle(3))
	h.awaitFile(dir+"/chain.pem", chain)
	if all := h.certificateRequests(); len(all) != 1 || strings.Count(all[0].Status.CertificateChain, "BEGIN") != 1 {
		t.Errorf("%d requests", len(all))
	}
}

// TestServerCertificate shows a node that asks for its server certificate: its port answers nobody before somebody has signed it, and
// then shows it, for the node's name and addresses.
func TestServerCertificate(t *testing.T) {
	h := newHost(t)
	h.stop()
	h.c.TLSCertFile, h.c.TLSPrivateKeyFile, h.c.ServerTLSBootstrap, h.c.CertDir = "", "", true, t.TempDir()
	h.start()
	shown := make(chan *x509.Certificate, 1)
	go func() {
		c, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Error(err)
			close(shown)
			return
		}
		shown <- c.ConnectionState().PeerCertificates[0]
		_ = c.Close()
	}()
	for ev, err := range client.Of(h.api.Client(), client.CertificateSigningRequests()).Watch(t.Context(), "", client.WatchOptions{InitialEvents: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Object == nil {
			continue
		}
		if len(shown) != 0 {
			t.Error("the port answers without a certificate")
		}
		h.sign(ev.Object)
		break
	}
	cert := <-shown
	if cert == nil || cert.Subject.CommonName != "system:node:node1" || cert.VerifyHostname("node1") != nil || cert.VerifyHostname("192.0.2.10") != nil {
		t.Errorf("it shows %+v", cert)
	}
}

// sign answers a request for a certificate.
func (h *host) sign(csr *certificatesv1.CertificateSigningRequest) {
	h.t.Helper()
	block, _ := pem.Decode(csr.Spec.Request)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		h.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: r.Subject, DNSNames: r.DNSNames, IPAddresses: r.IPAddresses,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, r.PublicKey, key)
	if err != nil {
		h.t.Fatal(err)
	}
	next := csr.DeepCopy()
	next.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	clienttest.Put(h.api, client.CertificateSigningRequests(), next)
}
