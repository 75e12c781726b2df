package volume

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/kubelet/podcert"
)

// trust has bundles, and answers for a signer.
type trust struct {
	bundles map[string]*certificatesv1.ClusterTrustBundle
	// next is what a pod without a credential gets; err is why it gets none.
	next podcert.Credential
	err  error
}

func (w *trust) TrustBundle(_ context.Context, name string) (*certificatesv1.ClusterTrustBundle, error) {
	if b, ok := w.bundles[name]; ok {
		return b, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "clustertrustbundle"}, name)
}

func (w *trust) TrustBundles(_ context.Context, signer string) ([]*certificatesv1.ClusterTrustBundle, error) {
	var all []*certificatesv1.ClusterTrustBundle
	for _, b := range w.bundles {
		if b.Spec.SignerName == signer {
			all = append(all, b)
		}
	}
	return all, nil
}

func (w *trust) Certificate(_ context.Context, _ *corev1.Pod, _ *corev1.PodCertificateProjection, s *podcert.State) (podcert.Credential, error) {
	if s.Empty() {
		if w.err != nil {
			return podcert.Credential{}, w.err
		}
		s.Have(w.next)
	}
	return w.next, nil
}

func (w *trust) add(name, signer, label, text string) {
	b := &certificatesv1.ClusterTrustBundle{}
	b.Name, b.Labels = name, map[string]string{"alive": label}
	b.Spec.SignerName, b.Spec.TrustBundle = signer, text
	w.bundles[name] = b
}

// block is a PEM block that holds one byte.
func block(b byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{b}}))
}

// TestTrustBundles shows what is written for each way to select bundles: each certificate once, in the order of the bundles' names, and
// what is missing is an error, or an empty file if it is optional.
func TestTrustBundles(t *testing.T) {
	for name, c := range map[string]struct{ source, want string }{
		"by name":              {`name: plain`, block(9)},
		"by signer":            {`signerName: s, labelSelector: {}`, block(1) + block(2) + block(3)},
		"by label":             {`signerName: s, labelSelector: {matchLabels: {alive: "true"}}`, block(1) + block(2)},
		"without selector":     {`signerName: s`, "MountVolume.SetUp failed for volume \"v\" : combination of signerName and labelSelector matched zero ClusterTrustBundles"},
		"nothing, optional":    {`signerName: s, optional: true`, ""},
		"missing":              {`name: other`, "MountVolume.SetUp failed for volume \"v\" : clustertrustbundle \"other\" not found"},
		"missing, but allowed": {`name: other, optional: true`, ""},
	} {
		m, _, p := setup(t, `volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: ca.pem, `+c.source+`}}]}}]`)
		w := &trust{bundles: map[string]*certificatesv1.ClusterTrustBundle{}}
		w.add("plain", "", "true", block(9))
		w.add("s:a", "s", "true", "# mine\n"+block(1)+"between\n"+block(2))
		w.add("s:b", "s", "false", strings.Replace(block(1), "-----\n", "-----\nby: me\n\n", 1)+block(3))
		w.add("t:a", "t", "true", block(4))
		m.c.Trust = w
		if err := m.Mount(t.Context(), p); err != nil {
			if err.Error() != c.want {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got, want := tree(t, m, p, "v"), "ca.pem 644 0:0 "+c.want; got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		w.bundles["plain"].Spec.TrustBundle = block(8)
		if _, err := m.Refresh(t.Context(), p); err != nil {
			t.Error(err)
		}
		if name == "by name" && !strings.HasSuffix(tree(t, m, p, "v"), block(8)) {
			t.Error("a change of the bundle was not written")
		}
	}
}

// credential makes a real one.
func credential(t *testing.T) podcert.Credential {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(10 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return podcert.Credential{
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Renew: now.Add(5 * time.Hour), Expires: now.Add(10 * time.Hour),
	}
}

// TestPodCertificate shows a pod's credential in one file and in two, who may read it, that the volume is looked at again when it is to
// be renewed, and that another kubelet takes it from the volume.
func TestPodCertificate(t *testing.T) {
	m, w, p := setup(t, `
securityContext: {runAsUser: 1000}
containers: [{name: c}]
volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: s, keyType: ECDSAP256, credentialBundlePath: both.pem, keyPath: a/key.pem, certificateChainPath: chain.pem}}]}}]`)
	c := credential(t)
	own := &trust{next: c}
	m.c.Trust = own
	own.err = podcert.ErrPending
	if err := m.Mount(t.Context(), p); err == nil || !strings.Contains(err.Error(), `failed for volume "v"`) {
		t.Errorf("before it is issued: %v", err)
	}
	own.err = nil
	mount(t, m, p)
	want := "a/key.pem 600 1000:0 " + string(c.Key) + "\nboth.pem 600 1000:0 " + string(c.Bundle()) + "\nchain.pem 600 1000:0 " + string(c.Chain)
	if got := tree(t, m, p, "v"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if again, err := m.Refresh(t.Context(), p); err != nil || !again.Equal(c.Renew) {
		t.Errorf("again at %v, %v", again, err)
	}
	next := New(m.c)
	next.c.Trust = &trust{next: c, err: podcert.ErrPending}
	if again, err := next.Refresh(t.Context(), p); err != nil || again.Before(w.now.Add(7*time.Hour)) {
		t.Errorf("with another kubelet: again at %v, %v", again, err)
	}
}
