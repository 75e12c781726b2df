package authn

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// objects is a Lookup over a fixed set: "resource/namespace/name" to uid.
type objects map[string]string

func (o objects) UID(_ context.Context, resource, namespace, name string) (string, time.Time, bool, error) {
	uid, ok := o[resource+"/"+namespace+"/"+name]
	return uid, time.Time{}, ok, nil
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func issuer(t *testing.T, key crypto.Signer, o objects, now *time.Time) *Issuer {
	t.Helper()
	i, err := NewIssuer(IssuerConfig{URL: "https://issuer", Signer: key, Lookup: o, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// A client certificate's common name and organizations become the user and its groups; without credentials the user is anonymous.
func TestCertificateAndAnonymous(t *testing.T) {
	var a Authenticator
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "system:node:a", Organization: []string{Nodes}}}
	id, err := a.Authenticate(t.Context(), Credentials{Chains: [][]*x509.Certificate{{leaf}}, Token: "ignored"})
	if err != nil || id.Name != "system:node:a" || !slices.Equal(id.Groups, []string{Nodes, AllAuthenticated}) {
		t.Fatalf("got %+v, %v", id, err)
	}
	if got := id.Extra[ExtraCredentialID]; len(got) != 1 || got[0] != "X509SHA256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" || id.UID != "" {
		t.Errorf("credential %q, uid %q", got, id.UID)
	}
	named := func(uids ...string) *x509.Certificate {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "jane"}}
		for _, uid := range uids {
			c.Subject.Names = append(c.Subject.Names, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}, Value: uid})
		}
		return c
	}
	if id, err := a.Authenticate(t.Context(), Credentials{Chains: [][]*x509.Certificate{{named("u1")}}}); err != nil || id.UID != "u1" {
		t.Errorf("with a uid: %+v, %v", id, err)
	}
	for _, bad := range []*x509.Certificate{named("a", "b"), named("")} {
		if _, err := a.Authenticate(t.Context(), Credentials{Chains: [][]*x509.Certificate{{bad}}}); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("with uids %v: %v", bad.Subject.Names, err)
		}
	}
	id, err = a.Authenticate(t.Context(), Credentials{})
	if err != nil || id.Name != Anonymous || !id.In(Unauthenticated) {
		t.Fatalf("got %+v, %v", id, err)
	}
	if _, err = a.Authenticate(t.Context(), Credentials{Token: "nobody-knows"}); !errors.Is(err, ErrUnauthenticated) {
		t.Fatalf("unknown token: %v", err)
	}
	if _, err = a.Authenticate(t.Context(), Credentials{Chains: [][]*x509.Certificate{{{}}}}); !errors.Is(err, ErrUnauthenticated) {
		t.Fatalf("nameless certificate: %v", err)
	}
}

// A token is good only with its signature, issuer, audience and time right and everything that it is bound to still there.
func TestServiceAccountToken(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"ES256": ecKey(t), "RS256": must(rsa.GenerateKey(rand.Reader, 2048))} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_700_000_000, 0)
			objs := objects{"serviceaccounts/ns/bot": "u1", "pods/ns/p": "u2"}
			i := issuer(t, key, objs, &now)
			spec := TokenSpec{Namespace: "ns", ServiceAccount: BoundRef{"bot", "u1"}, Pod: &BoundRef{"p", "u2"}, Now: now, Lifetime: time.Hour, ID: "id"}
			token, expires, err := i.Issue(spec)
			if err != nil || !expires.Equal(now.Add(time.Hour)) {
				t.Fatal(expires, err)
			}
			auth := Authenticator{Tokens: []TokenAuthenticator{i}}
			id, err := auth.Authenticate(t.Context(), Credentials{Token: token})
			if err != nil {
				t.Fatal(err)
			}
			if id.Name != "system:serviceaccount:ns:bot" || id.UID != "u1" || !id.In("system:serviceaccounts:ns") || id.Extra[ExtraPodName][0] != "p" {
				t.Fatalf("identity %+v", id)
			}
			refused := func(what, tok string) {
				t.Helper()
				if _, err := auth.Authenticate(t.Context(), Credentials{Token: tok}); !errors.Is(err, ErrUnauthenticated) {
					t.Errorf("%s: %v", what, err)
				}
			}
			parts := strings.Split(token, ".")
			refused("changed claims", parts[0]+"."+strings.Replace(parts[1], parts[1][20:24], "AAAA", 1)+"."+parts[2])
			refused("no signature", parts[0]+"."+parts[1]+".")
			none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
			refused("alg none", none+"."+parts[1]+".")
			other, _, err := issuer(t, ecKey(t), objs, &now).Issue(spec)
			if err != nil {
				t.Fatal(err)
			}
			refused("another key", other)
			spec.Audiences = []string{"vault"}
			vault, _, err := i.Issue(spec)
			if err != nil {
				t.Fatal(err)
			}
			refused("another audience", vault)
			if _, good, err := i.Review(t.Context(), vault, []string{"x", "vault"}); err != nil || !slices.Equal(good, []string{"vault"}) {
				t.Errorf("review for its audience: %v %v", good, err)
			}
			objs["pods/ns/p"] = "u3"
			refused("pod made again", token)
			objs["pods/ns/p"] = "u2"
			now = now.Add(time.Hour)
			refused("expired", token)
		})
	}
}

// The published key set holds every verification key in JWK form.
func TestKeySet(t *testing.T) {
	now := time.Unix(0, 0)
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	i, err := NewIssuer(IssuerConfig{URL: "https://issuer", Signer: ecKey(t), Keys: []crypto.PublicKey{rsaKey.Public()}, Lookup: objects{}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := i.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []jwk }
	if err := json.Unmarshal(raw, &set); err != nil || len(set.Keys) != 2 || set.Keys[0].Type != "EC" || len(set.Keys[0].X) != 43 || set.Keys[1].E != "AQAB" {
		t.Fatalf("%s %v", raw, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
