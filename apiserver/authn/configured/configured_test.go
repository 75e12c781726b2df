package configured

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"bareboat.dev/apiserver/authn"
)

// idp is an issuer of tokens whose discovery document is at a path of its own.
type idp struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newIDP(t *testing.T, discovery string) *idp {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{key: key}
	b64 := base64.RawURLEncoding.EncodeToString
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case discovery:
			json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
		case "/keys":
			json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{
				"kty": "RSA", "kid": "k", "alg": "RS256", "use": "sig", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes()),
			}}})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// token signs claims (RS256), those that every token has included.
func (p *idp) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": p.URL, "aud": "bareboat", "sub": "jane", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for k, v := range claims {
		all[k] = v
	}
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(`{"alg":"RS256","kid":"k"}`)) + "." + b64(body)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(signature)
}

// jwt is an issuer of the file; rest follows it, indented by two.
func (p *idp) jwt(rest string) string {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	return "- issuer:\n    url: " + p.URL + "\n    audiences: [bareboat, other]\n    audienceMatchPolicy: MatchAny\n    certificateAuthority: |\n      " +
		strings.ReplaceAll(strings.TrimSpace(string(ca)), "\n", "\n      ") + "\n" + rest
}

const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"

// write puts a configuration into the file, with a time of its own.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func follow(t *testing.T, text string, now *time.Time) (*File, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authentication.yaml")
	write(t, path, text)
	f, err := Follow(Config{Path: path, Disallowed: []string{"https://kubernetes.default.svc"}, Now: func() time.Time { return *now }, Log: slog.New(slog.DiscardHandler)})
	return f, path, err
}

// Issuers' tokens become identities by claims or by expressions, if the rules for claims and for users hold.
func TestMappings(t *testing.T) {
	p := newIDP(t, "/.well-known/openid-configuration")
	const byClaims = "  claimMappings:\n    username: {claim: sub, prefix: 'a:'}\n    groups: {claim: groups, prefix: 'g:'}\n    uid: {claim: id}\n"
	const byRules = `  claimValidationRules:
  - {claim: team, requiredValue: a}
  - {expression: 'claims.exp - claims.iat <= 86400', message: it lives too long}
  claimMappings:
    username: {expression: "claims.email_verified ? claims.email : claims.sub"}
    groups: {expression: "claims.roles.split(',')"}
    uid: {expression: claims.id}
    extra: [{key: example.com/tenant, valueExpression: claims.tenant}, {key: example.com/none, valueExpression: "''"}]
  userValidationRules: [{expression: "!user.username.startsWith('system:')", message: reserved}, {expression: "!('root' in user.groups)", message: no root}]
`
	email := "  claimMappings: {username: {claim: email, prefix: ''}}\n"
	rich := map[string]any{"team": "a", "email": "j@x.y", "email_verified": true, "roles": "dev,ops", "id": "u1", "tenant": []string{"t1", "t2"}, "jti": "j1"}
	with := func(change map[string]any) map[string]any {
		all := map[string]any{}
		for _, m := range []map[string]any{rich, change} {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	for name, c := range map[string]struct {
		rest   string
		claims map[string]any
		want   *authn.Identity
		failed string
	}{
		"claims":    {byClaims, map[string]any{"groups": []string{"x", "y"}, "id": "7"}, &authn.Identity{Name: "a:jane", UID: "7", Groups: []string{"g:x", "g:y", authn.AllAuthenticated}, Extra: map[string][]string{}}, ""},
		"one group": {byClaims, map[string]any{"groups": "x", "id": "7"}, &authn.Identity{Name: "a:jane", UID: "7", Groups: []string{"g:x", authn.AllAuthenticated}, Extra: map[string][]string{}}, ""},
		"no groups": {byClaims, map[string]any{"id": "7"}, &authn.Identity{Name: "a:jane", UID: "7", Groups: []string{authn.AllAuthenticated}, Extra: map[string][]string{}}, ""},
		"no uid":    {byClaims, nil, nil, "claim id is not present or not a string"},
		"odd group": {byClaims, map[string]any{"groups": 5, "id": "7"}, nil, "claim groups is neither a string nor a list of strings"},
		"rules": {byRules, rich, &authn.Identity{Name: "j@x.y", UID: "u1", Groups: []string{"dev", "ops", authn.AllAuthenticated},
			Extra: map[string][]string{"example.com/tenant": {"t1", "t2"}, authn.ExtraCredentialID: {"JTI=j1"}}}, ""},
		"wrong claim":      {byRules, with(map[string]any{"team": "b"}), nil, "required claim team does not have its value"},
		"rule broken":      {byRules, with(map[string]any{"iat": time.Now().Unix() - 100_000}), nil, "it lives too long"},
		"user refused":     {byRules, with(map[string]any{"email": "system:admin"}), nil, "reserved"},
		"group refused":    {byRules, with(map[string]any{"roles": "root"}), nil, "no root"},
		"no such claim":    {byRules, with(map[string]any{"roles": nil}), nil, "error evaluating group claim expression"},
		"empty name":       {byRules, with(map[string]any{"email": ""}), nil, "empty username via CEL expression is not allowed"},
		"name of no text":  {byRules, with(map[string]any{"email": 5}), nil, "username claim expression must return a string"},
		"another audience": {byClaims, map[string]any{"aud": "else", "id": "7"}, nil, "expected audience in"},
		"second audience":  {byClaims, map[string]any{"aud": []string{"x", "other"}, "id": "7"}, &authn.Identity{Name: "a:jane", UID: "7", Groups: []string{authn.AllAuthenticated}, Extra: map[string][]string{}}, ""},
		"email":            {email, map[string]any{"email": "j@x.y"}, &authn.Identity{Name: "j@x.y", Groups: []string{authn.AllAuthenticated}, Extra: map[string][]string{}}, ""},
		"doubtful email":   {email, map[string]any{"email": "j@x.y", "email_verified": false}, nil, "email not verified"},
		"expired":          {byClaims, map[string]any{"exp": 5, "id": "7"}, nil, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			f, _, err := follow(t, head+"jwt:\n"+p.jwt(c.rest), &now)
			if err != nil {
				t.Fatal(err)
			}
			id, ok, err := f.Token(t.Context(), p.token(t, c.claims))
			if c.failed != "" {
				if !errors.Is(err, authn.ErrUnauthenticated) || !strings.Contains(err.Error(), c.failed) {
					t.Errorf("%+v, %v, want %q", id, err, c.failed)
				}
				return
			}
			if err != nil || !ok || !reflect.DeepEqual(id, c.want) {
				t.Errorf("%+v, %v, want %+v", id, err, c.want)
			}
		})
	}
}

// Several issuers are told apart; one's discovery document may be elsewhere; a token of nobody is left to others.
func TestIssuers(t *testing.T) {
	a, b := newIDP(t, "/.well-known/openid-configuration"), newIDP(t, "/tenant/doc")
	now := time.Now()
	second := strings.Replace(b.jwt("  claimMappings: {username: {claim: sub, prefix: 'b:'}}\n"), "    audiences:", "    discoveryURL: "+b.URL+"/tenant/doc\n    audiences:", 1)
	f, _, err := follow(t, head+"jwt:\n"+a.jwt("  claimMappings: {username: {claim: sub, prefix: 'a:'}}\n")+second, &now)
	if err != nil {
		t.Fatal(err)
	}
	for want, token := range map[string]string{"a:jane": a.token(t, nil), "b:jane": b.token(t, nil)} {
		if id, ok, err := f.Token(t.Context(), token); err != nil || !ok || id.Name != want {
			t.Errorf("%s: %+v, %v", want, id, err)
		}
	}
	stranger := newIDP(t, "/x")
	if _, ok, err := f.Token(t.Context(), stranger.token(t, nil)); ok || err != nil {
		t.Errorf("a stranger's: %t, %v", ok, err)
	}
	if _, _, err := f.Token(t.Context(), stranger.token(t, map[string]any{"iss": a.URL})); !errors.Is(err, authn.ErrUnauthenticated) {
		t.Errorf("a forged one: %v", err)
	}
}

// The file counts as it is now; what is not good changes nothing, and an issuer that has not changed keeps its keys.
func TestReload(t *testing.T) {
	p := newIDP(t, "/.well-known/openid-configuration")
	now := time.Now()
	mapped := func(prefix string) string {
		return head + "jwt:\n" + p.jwt("  claimMappings: {username: {claim: sub, prefix: '"+prefix+"'}}\n")
	}
	f, path, err := follow(t, mapped("a:"), &now)
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		id, _, err := f.Token(t.Context(), p.token(t, nil))
		if err != nil {
			return err.Error()
		}
		if id == nil {
			return ""
		}
		return id.Name
	}
	if got := name(); got != "a:jane" || !f.Anonymous("/api") {
		t.Fatal(got)
	}
	write(t, path, mapped("b:")+"anonymous: {enabled: true, conditions: [{path: /livez}]}\n")
	if got := name(); got != "a:jane" {
		t.Errorf("at once: %s", got)
	}
	now = now.Add(lookEvery)
	if got := name(); got != "b:jane" || f.Anonymous("/api") || !f.Anonymous("/livez") {
		t.Errorf("a second later: %s", got)
	}
	kept := f.state().issuers[0]
	for _, bad := range []string{"", "nonsense: [", mapped("c:") + "unknown: 1\n"} {
		write(t, path, bad)
		now = now.Add(lookEvery)
		if got := name(); got != "b:jane" {
			t.Errorf("with %q: %s", bad, got)
		}
	}
	write(t, path, mapped("b:")+"anonymous: {enabled: false}\n")
	now = now.Add(lookEvery)
	if f.Anonymous("/livez") || f.state().issuers[0] != kept {
		t.Error("anonymous requests are let in, or the issuer was forgotten")
	}
	write(t, path, head)
	now = now.Add(lookEvery)
	if got := name(); got != "" {
		t.Errorf("without issuers: %s", got)
	}
}

// What upstream refuses is refused, in its words.
func TestRefused(t *testing.T) {
	issuer := func(url, rest string) string {
		return head + "jwt:\n- issuer: {url: '" + url + "', audiences: [a]}\n" + rest
	}
	const sub = "  claimMappings: {username: {claim: sub, prefix: ''}}\n"
	for name, c := range map[string]struct{ text, want string }{
		"another kind":   {"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n", "expected AuthenticationConfiguration"},
		"no kind":        {"jwt: []\n", "Object 'Kind' is missing"},
		"unknown field":  {head + "jwts: []\n", `unknown field "jwts"`},
		"a key twice":    {head + "jwt: []\njwt: []\n", `already set in map`},
		"plain http":     {issuer("http://x", sub), `jwt[0].issuer.url: Invalid value: "http://x": URL scheme must be https`},
		"own issuer":     {issuer("https://kubernetes.default.svc", sub), `jwt[0].issuer.url: Invalid value: "https://kubernetes.default.svc": URL must not overlap with disallowed issuers: [https://kubernetes.default.svc]`},
		"twice":          {issuer("https://x", sub) + strings.TrimPrefix(issuer("https://x", sub), head+"jwt:\n"), `jwt[1].issuer.url: Duplicate value: "https://x"`},
		"no username":    {issuer("https://x", ""), "jwt[0].claimMappings.username: Required value: claim or expression is required"},
		"both":           {issuer("https://x", "  claimMappings: {username: {claim: a, expression: claims.a}}\n"), "claim and expression can't both be set"},
		"no prefix":      {issuer("https://x", "  claimMappings: {username: {claim: a}}\n"), "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set"},
		"no expression":  {issuer("https://x", "  claimMappings: {username: {expression: 'claims.'}}\n"), "jwt[0].claimMappings.username.expression: Invalid value"},
		"unchecked mail": {issuer("https://x", "  claimMappings: {username: {expression: claims.email}}\n"), "claims.email_verified must be used"},
		"egress":         {strings.Replace(issuer("https://x", sub), "audiences: [a]", "audiences: [a], egressSelectorType: cluster", 1), "egressSelectorType"},
		"conditions":     {head + "anonymous: {enabled: false, conditions: [{path: /x}]}\n", "anonymous.conditions: Invalid value"},
	} {
		now := time.Now()
		if _, _, err := follow(t, c.text, &now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecode shows that no file makes the server panic.
func FuzzDecode(f *testing.F) {
	f.Add(head + "anonymous: {enabled: true}\n")
	f.Add(head + "jwt:\n- issuer: {url: 'https://x', audiences: [a]}\n  claimMappings: {username: {expression: 'claims.x'}}\n")
	f.Add("&a [*a]")
	file := &File{}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = file.parse([]byte(text), nil)
	})
}
