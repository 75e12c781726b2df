package authn

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// idp is an OpenID Connect issuer.
type idp struct {
	*httptest.Server
	key  *rsa.PrivateKey
	pub  publicKey
	down atomic.Bool
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{key: key}
	if p.pub, err = newPublicKey(key.Public()); err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/keys" {
			b, _ := jwks([]publicKey{p.pub})
			w.Write(b)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": p.URL, "aud": "me", "sub": "jane", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for k, v := range claims {
		all[k] = v
	}
	token, err := sign(p.key, p.pub, all)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// An ID token names its user and groups as the flags say, and is refused if anything that must hold does not.
func TestOIDC(t *testing.T) {
	p := newIDP(t)
	other := newIDP(t)
	base := OIDCConfig{IssuerURL: p.URL, ClientID: "me", GroupsClaim: "groups", GroupsPrefix: "oidc:", Client: p.Client(), Now: time.Now}
	with := func(change func(*OIDCConfig)) OIDCConfig {
		c := base
		change(&c)
		return c
	}
	email := with(func(c *OIDCConfig) { c.UsernameClaim = "email" })
	required := with(func(c *OIDCConfig) { c.RequiredClaims = map[string]string{"team": "a"} })
	for name, tc := range map[string]struct {
		cfg    OIDCConfig
		claims map[string]any
		user   string
		groups []string
	}{
		"subject":            {base, nil, p.URL + "#jane", nil},
		"no prefix":          {with(func(c *OIDCConfig) { c.UsernamePrefix = "-" }), nil, "jane", nil},
		"groups":             {base, map[string]any{"groups": []string{"a", "b"}}, p.URL + "#jane", []string{"oidc:a", "oidc:b"}},
		"one group":          {base, map[string]any{"groups": "a"}, p.URL + "#jane", []string{"oidc:a"}},
		"groups of no kind":  {base, map[string]any{"groups": 5}, "", nil},
		"email":              {email, map[string]any{"email": "j@example.com", "email_verified": true}, "j@example.com", nil},
		"email not verified": {email, map[string]any{"email": "j@example.com", "email_verified": false}, "", nil},
		"no email":           {email, nil, "", nil},
		"another audience":   {base, map[string]any{"aud": "you"}, "", nil},
		"expired":            {base, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, "", nil},
		"required claim":     {required, map[string]any{"team": "a"}, p.URL + "#jane", nil},
		"wrong claim":        {required, map[string]any{"team": "b"}, "", nil},
	} {
		o, err := NewOIDC(tc.cfg)
		if err != nil {
			t.Fatal(err)
		}
		id, ok, err := o.Token(t.Context(), p.token(t, tc.claims))
		switch {
		case tc.user == "" && (ok || !errors.Is(err, ErrUnauthenticated)):
			t.Errorf("%s: accepted: %v %v", name, id, err)
		case tc.user != "" && (!ok || id.Name != tc.user || !slices.Equal(id.Groups, append(tc.groups, AllAuthenticated))):
			t.Errorf("%s: %+v %v", name, id, err)
		}
	}
	o, err := NewOIDC(base)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := o.Token(t.Context(), other.token(t, nil)); ok || err != nil {
		t.Errorf("another issuer's token: %v %v", ok, err)
	}
	// A token that only says that it is from the issuer.
	forged, err := sign(other.key, other.pub, map[string]any{"iss": p.URL, "aud": "me", "sub": "jane", "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := o.Token(t.Context(), forged); ok || !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a forged token: %v %v", ok, err)
	}
}

// An issuer that is down is asked again only after a while, and its tokens are good once it is back.
func TestOIDCIssuerDown(t *testing.T) {
	p := newIDP(t)
	p.down.Store(true)
	now := time.Now()
	o, err := NewOIDC(OIDCConfig{IssuerURL: p.URL, ClientID: "me", Client: p.Client(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	token := p.token(t, nil)
	if _, ok, err := o.Token(t.Context(), token); ok || err == nil {
		t.Fatalf("accepted: %v", err)
	}
	p.down.Store(false)
	if _, ok, _ := o.Token(t.Context(), token); ok {
		t.Error("the issuer was asked again at once")
	}
	now = now.Add(oidcRetry)
	if _, ok, err := o.Token(t.Context(), token); !ok {
		t.Errorf("after the pause: %v", err)
	}
}
