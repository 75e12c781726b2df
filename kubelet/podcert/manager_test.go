package podcert

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signer is an API server with a signer, which answers when it is told to.
type signer struct {
	t    *testing.T
	m    *Manager
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu   sync.Mutex
	list []*certificatesv1.PodCertificateRequest
	// fail is what the next request fails with.
	fail error
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{t: t, key: key, cert: &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}}
	s.m = New(Config{API: s})
	return s
}

func (s *signer) Ask(_ context.Context, r *certificatesv1.PodCertificateRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fail; err != nil {
		s.fail = nil
		return err
	}
	s.list = append(s.list, r)
	return nil
}

func (s *signer) Request(_ context.Context, p *corev1.Pod, name string) (*certificatesv1.PodCertificateRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.list {
		if r.Namespace == p.Namespace && r.Name == name {
			return r.DeepCopy(), nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "podcertificaterequest"}, name)
}

func (s *signer) Identity(context.Context, *corev1.Pod) (types.UID, types.UID, error) {
	return "account-uid", "node-uid", nil
}

// last is the newest request; want is how many there should be.
func (s *signer) last(want int) *certificatesv1.PodCertificateRequest {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) != want {
		s.t.Fatalf("%d requests, want %d", len(s.list), want)
	}
	return s.list[len(s.list)-1]
}

// issue answers a request; the certificate is to be renewed when half of its life is over.
func (s *signer) issue(r *certificatesv1.PodCertificateRequest, life time.Duration) {
	s.t.Helper()
	stub, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		s.t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now, NotAfter: now.Add(life)}, s.cert, stub.PublicKey, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"by": "me"}, Bytes: der})
	s.mu.Lock()
	r.Status.CertificateChain = "nonsense\n" + string(chain) + "more nonsense\n"
	r.Status.BeginRefreshAt = &metav1.Time{Time: now.Add(life / 2)}
	r.Status.Conditions = []metav1.Condition{{Type: "Issued", Status: metav1.ConditionTrue}}
	s.mu.Unlock()
	s.m.Changed()
}

func (s *signer) refuse(r *certificatesv1.PodCertificateRequest, how string) {
	s.mu.Lock()
	r.Status.Conditions = []metav1.Condition{{Type: how, Status: metav1.ConditionTrue, Reason: "Because", Message: "not you"}}
	s.mu.Unlock()
	s.m.Changed()
}

func testPod() *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID = "ns", "web", "u1"
	p.Spec.NodeName, p.Spec.ServiceAccountName = "n1", "robot"
	return p
}

func projection(kind string) *corev1.PodCertificateProjection {
	hour := int32(3600)
	return &corev1.PodCertificateProjection{SignerName: "example.com/s", KeyType: kind, MaxExpirationSeconds: &hour, UserAnnotations: map[string]string{"a/b": "c"}}
}

// TestFirst shows a pod's first certificate: what is asked for, that the answer is waited for, and that key and certificate belong
// together, without what the signer put around it.
func TestFirst(t *testing.T) {
	for _, kind := range []string{"ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072"} {
		synctest.Test(t, func(t *testing.T) {
			s, state := newSigner(t), &State{}
			go func() {
				time.Sleep(time.Second)
				s.issue(s.last(1), 10*time.Hour)
			}()
			c, err := s.m.Credential(t.Context(), testPod(), projection(kind), state)
			if err != nil {
				t.Fatal(kind, err)
			}
			if _, err := tls.X509KeyPair(c.Bundle(), c.Bundle()); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if text := string(c.Bundle()); !strings.HasPrefix(text, "-----BEGIN PRIVATE KEY-----\n") || strings.Contains(text, "nonsense") || strings.Contains(text, "by: me") {
				t.Errorf("%s: %s", kind, text)
			}
			r := s.last(1)
			if !strings.HasPrefix(r.Name, "web-") || r.OwnerReferences[0].UID != "u1" {
				t.Errorf("%+v", r.ObjectMeta)
			}
			r.Spec.StubPKCS10Request = nil
			want := `{example.com/s web u1 robot account-uid n1 node-uid 3600 [] map[a/b:c]}`
			got := fmt.Sprint(r.Spec)
			if got = strings.Replace(got, fmt.Sprint(r.Spec.MaxExpirationSeconds), "3600", 1); got != want {
				t.Errorf("asked for %s", got)
			}
			if next := state.Next(time.Now()); next.Before(time.Now().Add(4*time.Hour)) || next.After(time.Now().Add(5*time.Hour+maxSpread)) {
				t.Errorf("next at %v", next)
			}
		})
	}
}

// TestPending shows that a pod without a certificate is told what it waits for, and gets it whenever the signer answers, by one request.
func TestPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, state := newSigner(t), &State{}
		for range 3 {
			if _, err := s.m.Credential(t.Context(), testPod(), projection("ED25519"), state); !errors.Is(err, ErrPending) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
		}
		s.issue(s.last(1), 10*time.Hour)
		if _, err := s.m.Credential(t.Context(), testPod(), projection("ED25519"), state); err != nil {
			t.Error(err)
		}
	})
}

// TestLost shows that a request that somebody deletes is made again, with another key, but not one that the mirror has yet to see.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, state := newSigner(t), &State{}
		lose := func() *certificatesv1.PodCertificateRequest {
			r := s.last(1)
			s.mu.Lock()
			s.list = nil
			s.mu.Unlock()
			return r
		}
		_, _ = s.m.Credential(t.Context(), testPod(), projection("ED25519"), state)
		first := lose()
		if _, err := s.m.Credential(t.Context(), testPod(), projection("ED25519"), state); !errors.Is(err, ErrPending) {
			t.Error(err)
		}
		time.Sleep(lostAfter)
		if _, err := s.m.Credential(t.Context(), testPod(), projection("ED25519"), state); !apierrors.IsNotFound(err) {
			t.Error(err)
		}
		_, _ = s.m.Credential(t.Context(), testPod(), projection("ED25519"), state)
		if second := s.last(1); second.Name == first.Name {
			t.Error("the key was used again")
		}
	})
}

// TestRefused shows that after a refusal the reason is told and nothing asked until a pause is over, which grows up to an hour.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, state := newSigner(t), &State{}
		for i, pause := range []time.Duration{5, 10, 20, 40, 60, 60} {
			_, _ = s.m.Credential(t.Context(), testPod(), projection("ED25519"), state)
			s.refuse(s.last(i+1), []string{"Denied", "Failed"}[i%2])
			for range 2 {
				_, err := s.m.Credential(t.Context(), testPod(), projection("ED25519"), state)
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "Because: not you") {
					t.Fatal(err)
				}
			}
			if next := time.Until(state.Next(time.Now())); next != pause*time.Minute {
				t.Errorf("pause %v, want %v min", next, pause)
			}
			time.Sleep(time.Until(state.Next(time.Now())))
		}
	})
}

// TestRenewal shows that a certificate is renewed from when its signer says, that it stays while the next one is waited for, refused or
// cannot be asked for, and that its end is an error.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, state := newSigner(t), &State{}
		get := func() (Credential, error) {
			return s.m.Credential(t.Context(), testPod(), projection("ED25519"), state)
		}
		_, _ = get()
		s.issue(s.last(1), 10*time.Hour)
		first, err := get()
		if err != nil {
			t.Fatal(err)
		}
		same := func(what string) {
			t.Helper()
			if c, err := get(); err != nil || string(c.Chain) != string(first.Chain) {
				t.Errorf("%s: another credential, or %v", what, err)
			}
		}
		time.Sleep(time.Until(first.Renew) - time.Second)
		same("before it is to be renewed")
		s.last(1)
		time.Sleep(time.Second)
		s.fail = errors.New("away")
		same("while the API server is away")
		if next := time.Until(state.Next(time.Now())); next != retry {
			t.Errorf("again after %v", next)
		}
		same("while it is waited for")
		s.refuse(s.last(2), "Denied")
		same("after a refusal")
		time.Sleep(time.Until(state.Next(time.Now())))
		same("while it is asked for again")
		s.issue(s.last(3), 10*time.Hour)
		second, err := get()
		if err != nil || string(second.Chain) == string(first.Chain) || string(second.Key) == string(first.Key) {
			t.Errorf("not renewed: %v", err)
		}
		time.Sleep(time.Until(second.Expires))
		if _, err := get(); !errors.Is(err, ErrPending) {
			t.Errorf("a credential that has ended: %v", err)
		}
	})
}

// TestRecover shows that a kubelet that starts again takes its pods' credentials from what it wrote, if they are still good.
func TestRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, state := newSigner(t), &State{}
		_, _ = s.m.Credential(t.Context(), testPod(), projection("ECDSAP256"), state)
		s.issue(s.last(1), 10*time.Hour)
		c, err := s.m.Credential(t.Context(), testPod(), projection("ECDSAP256"), state)
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string][2][]byte{"one file": {c.Bundle(), c.Bundle()}, "two files": {c.Key, c.Chain}} {
			r, ok := Recover("u1", got[0], got[1], time.Now())
			if !ok || string(r.Bundle()) != string(c.Bundle()) || !r.Expires.Equal(c.Expires) || r.Renew.Before(time.Now().Add(7*time.Hour-time.Second)) {
				t.Errorf("%s: %v, %+v", name, ok, r)
			}
		}
		other, err := newKey("ECDSAP256")
		if err != nil {
			t.Fatal(err)
		}
		key, err := encodeKey(other)
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string][2][]byte{"nothing": {}, "another key": {key, c.Chain}, "no certificate": {c.Key, c.Key}} {
			if _, ok := Recover("u1", got[0], got[1], time.Now()); ok {
				t.Errorf("%s is a credential", name)
			}
		}
		time.Sleep(10 * time.Hour)
		if _, ok := Recover("u1", c.Key, c.Chain, time.Now()); ok {
			t.Error("what has ended is a credential")
		}
	})
}
