package certificates_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/certificates"
	"bareboat.dev/apiserver/registry/kindtest"
)

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pkcs10(t *testing.T, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "c"}}, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certificate is a self-signed one in PEM.
func certificate(t *testing.T, k *ecdsa.PrivateKey, ca bool, from time.Time, lifetime time.Duration) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: from.Add(lifetime), IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func signingRequest(t *testing.T) string {
	body := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: pkcs10(t, key(t))})
	return "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: c}\nspec:\n  signerName: example.com/s\n" +
		"  usages: [client auth]\n  request: " + base64.StdEncoding.EncodeToString(body) + "\n"
}

// Requests that kube-apiserver accepts and refuses, and why.
func TestSigningRequest(t *testing.T) {
	r := kindtest.Kind(t, certificates.Resources(), "CertificateSigningRequest")
	base := signingRequest(t)
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "duration", Edit: "spec: {expirationSeconds: 600}"},
		{Name: "no request", Edit: "spec: {request: YQ==}", Want: []string{`spec.request: Invalid value: "YQ==": PEM block type must be CERTIFICATE REQUEST`}},
		{Name: "usages", Edit: "spec: {usages: [odd, any, any]}", Want: []string{
			`spec.usages[0]: Unsupported value: "odd": supported values: "any", "cert sign", …`, `spec.usages[2]: Duplicate value: "any"`}},
		{Name: "no usages", Edit: "spec: {usages: []}", Want: []string{"spec.usages: Required value"}},
		{Name: "signer", Edit: "spec: {signerName: s}", Want: []string{
			`spec.signerName: Invalid value: "s": must be a fully qualified domain and path of the form 'example.com/signer-name'`}},
		{Name: "signer's domain", Edit: "spec: {signerName: A/s}", Want: []string{
			`spec.signerName: Invalid value: "A": validating label "A": a lowercase RFC 1123 label…`,
			`spec.signerName: Invalid value: "A": should be a domain with at least two segments separated by dots`}},
		{Name: "no signer", Edit: "spec: {signerName: ''}", Want: []string{"spec.signerName: Required value"}},
		{Name: "short", Edit: "spec: {expirationSeconds: 599}", Want: []string{
			"spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "the spec stays as it is", Edit: "spec: {signerName: s}"}})
}

// The server says who asks.
func TestRequestor(t *testing.T) {
	r := kindtest.Kind(t, certificates.Resources(), "CertificateSigningRequest")
	obj, _ := kindtest.New(t, r, kindtest.Edit(t, signingRequest(t), "spec: {username: root, extra: {a: [b]}}"))
	r.Strategy.SetCreator(obj, registry.Creator{Name: "me", Groups: []string{"g"}})
	if s := obj.(*certificatesv1.CertificateSigningRequest).Spec; s.Username != "me" || len(s.Groups) != 1 || s.Extra != nil {
		t.Errorf("got %v", s)
	}
}

// Approval and status are written apart: neither changes what is the other's, and times are filled in.
func TestRequestParts(t *testing.T) {
	r := kindtest.Kind(t, certificates.Resources(), "CertificateSigningRequest")
	stored, _ := kindtest.New(t, r, signingRequest(t))
	now := time.Date(2024, 1, 1, 0, 0, 0, 5, time.UTC)
	approve := stored.DeepCopyObject().(*certificatesv1.CertificateSigningRequest)
	approve.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: "Approved", Status: "True"}}
	approve.Status.Certificate = []byte("x")
	got, err := r.Subresources["approval"].Apply(stored, approve, now)
	if err != nil {
		t.Fatal(err)
	}
	if errs := r.Subresources["approval"].Validate(got, stored); len(errs) > 0 {
		t.Error(errs)
	}
	approved := got.(*certificatesv1.CertificateSigningRequest)
	if c := approved.Status.Conditions[0]; len(approved.Status.Certificate) > 0 || c.LastUpdateTime.IsZero() || c.LastTransitionTime.Nanosecond() != 0 {
		t.Errorf("approved: %v", approved.Status)
	}
	issue := approved.DeepCopy()
	issue.Status.Certificate = []byte(certificate(t, key(t), false, now, time.Hour))
	issue.Status.Conditions = append(issue.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: "Denied", Status: "True"})
	got, err = r.Subresources["status"].Apply(approved, issue, now)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`status.conditions[1].type: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive`,
		`status.conditions: Forbidden: updates may not add a condition of type "Denied"`,
	}
	if errs := kindtest.Texts(r.Subresources["status"].Validate(got, approved)); fmt.Sprint(errs) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", errs, want)
	}
	for i, want := range map[int]string{2: "example.com/s", 5: "Denied,Issued"} {
		if cell := r.Columns[i].Cell(got, now); cell != want {
			t.Errorf("column %s: %q, want %q", r.Columns[i].Name, cell, want)
		}
	}
}

// Bundles that kube-apiserver accepts and refuses, and why.
func TestTrustBundle(t *testing.T) {
	r := kindtest.Kind(t, certificates.Resources(), "ClusterTrustBundle")
	k, now := key(t), time.Now()
	authority, leaf := certificate(t, k, true, now, time.Hour), certificate(t, k, false, now, time.Hour)
	bundle := func(text string) string {
		return encoded(t, map[string]any{"spec": map[string]any{"trustBundle": text}})
	}
	base := kindtest.Edit(t, "apiVersion: certificates.k8s.io/v1\nkind: ClusterTrustBundle\nmetadata: {name: b}\nspec: {}\n", bundle(authority))
	const at = `spec.trustBundle: Invalid value: "<value omitted>": `
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "of a signer", Edit: "{metadata: {name: 'example.com:s:b'}, spec: {signerName: example.com/s}}"},
		{Name: "empty", Edit: "spec: {trustBundle: ''}", Want: []string{at + "at least one trust anchor must be provided"}},
		{Name: "leaf", Edit: bundle(leaf), Want: []string{at + "entry 0 does not have the CA bit set"}},
		{Name: "twice", Edit: bundle(authority + authority), Want: []string{at + "duplicate trust anchor (indices [0 1])"}},
		{Name: "key", Edit: bundle(strings.ReplaceAll(authority, "CERTIFICATE", "KEY")), Want: []string{at + "entry 0 has bad block type: KEY"}},
		{Name: "signer's name", Edit: "spec: {signerName: example.com/s}", Want: []string{
			`metadata.name: Invalid value: "b": ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:`}},
		{Name: "prefix without signer", Edit: "metadata: {name: 'example.com:s:b'}", Want: []string{
			`metadata.name: Invalid value: "example.com:s:b": ClusterTrustBundle without signer name must not have ":" in its name`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "another", Edit: bundle(certificate(t, k, true, now.Add(time.Minute), time.Hour))},
		{Name: "signer", Edit: "spec: {signerName: example.com/s}", Want: []string{
			`metadata.name: Invalid value: "b": ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:`,
			`spec.signerName: Invalid value: "example.com/s": field is immutable`}},
	})
}

func podRequest(t *testing.T, k *ecdsa.PrivateKey) string {
	return `apiVersion: certificates.k8s.io/v1
kind: PodCertificateRequest
metadata: {name: c}
spec:
  signerName: example.com/s
  podName: p
  podUID: "1"
  serviceAccountName: s
  serviceAccountUID: "2"
  nodeName: node
  nodeUID: "3"
  stubPKCS10Request: ` + base64.StdEncoding.EncodeToString(pkcs10(t, k)) + "\n"
}

// Pods' requests that kube-apiserver accepts and refuses, and why.
func TestPodRequest(t *testing.T) {
	r := kindtest.Kind(t, certificates.Resources(), "PodCertificateRequest")
	base := podRequest(t, key(t))
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "longest", Edit: "spec: {maxExpirationSeconds: 7862400}"},
		{Name: "too long", Edit: "spec: {maxExpirationSeconds: 7862401}", Want: []string{
			"spec.maxExpirationSeconds: Invalid value: 7862401: must be in the range [3600, 7862400]"}},
		{Name: "too long for kubernetes.io", Edit: "spec: {signerName: kubernetes.io/s, maxExpirationSeconds: 86401}", Want: []string{
			"spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"}},
		{Name: "references", Edit: "spec: {podName: A_b, podUID: '', nodeUID: ''}", Want: []string{
			`spec.podName: Invalid value: "A_b": a lowercase RFC 1123 subdomain…`,
			`spec.podUID: Invalid value: "": must not be empty`, `spec.nodeUID: Invalid value: "": must not be empty`}},
		{Name: "stub", Edit: "spec: {stubPKCS10Request: YQ==}", Want: []string{"spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR"}},
		{Name: "no stub", Edit: "spec: {stubPKCS10Request: null}", Want: []string{
			"spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"}},
		{Name: "annotations", Edit: "spec: {unverifiedUserAnnotations: {a: b}}", Want: []string{
			`spec.unverifiedUserAnnotations: Invalid value: "a": all keys must be domain-prefixed`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "labels", Edit: "metadata: {labels: {a: b}}"},
		{Name: "spec", Edit: "spec: {podName: q}", Want: []string{"spec: Invalid value: {…"}},
	})
}

// A pod's request comes to one end, and what is issued must fit it.
func TestPodRequestStatus(t *testing.T) {
	r := kindtest.Kind(t, certificates.Resources(), "PodCertificateRequest")
	k, now := key(t), time.Now().Truncate(time.Second)
	stored, errs := kindtest.New(t, r, podRequest(t, k))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	at := func(d time.Duration) *metav1.Time { m := metav1.NewTime(now.Add(d)); return &m }
	end := func(kind, chain string) *certificatesv1.PodCertificateRequest {
		out := stored.DeepCopyObject().(*certificatesv1.PodCertificateRequest)
		out.Status = certificatesv1.PodCertificateRequestStatus{
			Conditions:       []metav1.Condition{{Type: kind, Status: "True", Reason: "R", LastTransitionTime: *at(0)}},
			CertificateChain: chain,
		}
		if chain != "" {
			out.Status.NotBefore, out.Status.NotAfter, out.Status.BeginRefreshAt = at(0), at(time.Hour), at(30*time.Minute)
		}
		return out
	}
	apply := func(old registry.Object, body *certificatesv1.PodCertificateRequest) (registry.Object, error) {
		return r.Subresources["status"].Apply(old, body, now)
	}
	good := certificate(t, k, false, now, time.Hour)
	issued, err := apply(stored, end("Issued", good))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		old  registry.Object
		body *certificatesv1.PodCertificateRequest
		want string
	}{
		"denied":      {stored, end("Denied", ""), ""},
		"denied with": {stored, end("Denied", good), "non-condition status fields must be empty"},
		"again":       {issued, end("Failed", ""), "immutable after PodCertificateRequest is issued"},
		"odd":         {stored, end("Odd", ""), `Unsupported value: "Odd"`},
		"other key":   {stored, end("Issued", certificate(t, key(t), false, now, time.Hour)), "not issued to the requested public key"},
		"early":       {stored, end("Issued", certificate(t, k, false, now.Add(-time.Hour), 2*time.Hour)), "NotBefore time encoded in the leaf"},
		"short":       {stored, end("Issued", certificate(t, k, false, now, time.Minute)), "NotAfter time encoded in the leaf"},
	} {
		_, err := apply(c.old, c.body)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
