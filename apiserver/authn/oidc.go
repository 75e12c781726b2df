package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// oidcTimeout bounds a request to an issuer.
	oidcTimeout = 10 * time.Second
	// oidcRetry is how long after a failed discovery the issuer is asked again; until then its tokens are refused at once, so
	// that an issuer that is down costs nothing.
	oidcRetry = 10 * time.Second
)

// OIDCConfig configures an OpenID Connect issuer (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens).
type OIDCConfig struct {
	// IssuerURL is the tokens' iss, an https URL at which the issuer's discovery document is found.
	IssuerURL string
	// DiscoveryURL is where that document is, if it is elsewhere.
	DiscoveryURL string
	// ClientID is the audience that tokens must be for; or Audiences, one of which they must be for.
	ClientID  string
	Audiences []string
	// Map says who the subject of a token is by its claims; nil: the claims and prefixes below do.
	Map func(ctx context.Context, claims map[string]any) (*Identity, error)
	// UsernameClaim is the claim that names the user, usually "sub" or "email".
	UsernameClaim string
	// UsernamePrefix is put before the name. Empty means the issuer's URL and "#" unless the claim is "email"; "-" means none.
	UsernamePrefix string
	// GroupsClaim is the claim that lists the user's groups, a string or a list; empty: none. GroupsPrefix is put before each.
	GroupsClaim, GroupsPrefix string
	// RequiredClaims must be in the token with these values.
	RequiredClaims map[string]string
	// SigningAlgorithms that are accepted; empty means RS256.
	SigningAlgorithms []string
	// Client speaks to the issuer; nil is a client that trusts the system's authorities.
	Client *http.Client
	Now    func() time.Time
}

// OIDC knows the ID tokens of one issuer. The issuer need not be there when the server starts.
type OIDC struct {
	cfg OIDCConfig

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
	failure  error
	again    time.Time
}

// NewOIDC checks a configuration. Nothing is asked of the issuer before its first token comes.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	switch {
	case !strings.HasPrefix(cfg.IssuerURL, "https://"):
		return nil, fmt.Errorf("the issuer's URL %q does not begin with https://", cfg.IssuerURL)
	case cfg.ClientID == "" && len(cfg.Audiences) == 0:
		return nil, errors.New("a client id is required: it is the audience of the issuer's tokens")
	}
	if cfg.ClientID != "" {
		cfg.Audiences = append(cfg.Audiences[:len(cfg.Audiences):len(cfg.Audiences)], cfg.ClientID)
	}
	if cfg.UsernameClaim == "" {
		cfg.UsernameClaim = "sub"
	}
	switch {
	case cfg.UsernamePrefix == "-":
		cfg.UsernamePrefix = ""
	case cfg.UsernamePrefix == "" && cfg.UsernameClaim != "email":
		cfg.UsernamePrefix = cfg.IssuerURL + "#"
	}
	if len(cfg.SigningAlgorithms) == 0 {
		cfg.SigningAlgorithms = []string{oidc.RS256}
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: oidcTimeout}
	}
	if cfg.DiscoveryURL != "" {
		at, err := url.Parse(cfg.DiscoveryURL)
		if err != nil {
			return nil, err
		}
		client := *cfg.Client
		client.Transport = elsewhere{client.Transport, strings.TrimSuffix(cfg.IssuerURL, "/") + "/.well-known/openid-configuration", at}
		cfg.Client = &client
	}
	return &OIDC{cfg: cfg}, nil
}

// AsymmetricAlgorithms are all with which a token may be signed that somebody else verifies.
func AsymmetricAlgorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512}
}

// IssuerClient speaks to an issuer whose certificate is from the authorities given, in PEM; none are the system's.
func IssuerClient(authorities []byte) (*http.Client, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(authorities) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, errors.New("the issuer's authorities hold no certificate")
		}
	}
	return &http.Client{Timeout: oidcTimeout, Transport: &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment}}, nil
}

// elsewhere asks for an issuer's discovery document where it is.
type elsewhere struct {
	http.RoundTripper
	document string
	at       *url.URL
}

// RoundTrip implements http.RoundTripper.
func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.String() == e.document {
		r = r.Clone(r.Context())
		r.URL, r.Host = e.at, e.at.Host
	}
	if e.RoundTripper == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return e.RoundTripper.RoundTrip(r)
}

// Token implements TokenAuthenticator.
func (o *OIDC) Token(ctx context.Context, token string) (*Identity, bool, error) {
	if strings.Count(token, ".") != 2 || issuerOf(token) != o.cfg.IssuerURL {
		return nil, false, nil
	}
	v, err := o.ready()
	if err != nil {
		return nil, false, fmt.Errorf("%w: issuer %s: %w", ErrUnauthenticated, o.cfg.IssuerURL, err)
	}
	t, err := v.Verify(ctx, token)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	if !slices.ContainsFunc(o.cfg.Audiences, func(a string) bool { return slices.Contains(t.Audience, a) }) {
		return nil, false, fmt.Errorf("%w: expected audience in %q got %q", ErrUnauthenticated, o.cfg.Audiences, t.Audience)
	}
	id, err := o.subject(ctx, t)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	return id, true, nil
}

// subject is who a token that has been verified is of.
func (o *OIDC) subject(ctx context.Context, t *oidc.IDToken) (*Identity, error) {
	if o.cfg.Map != nil {
		claims := map[string]any{}
		if err := t.Claims(&claims); err != nil {
			return nil, fmt.Errorf("claims: %w", err)
		}
		return o.cfg.Map(ctx, claims)
	}
	claims := map[string]json.RawMessage{}
	if err := t.Claims(&claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return o.identity(claims)
}

// ready returns the verifier, after asking the issuer for its configuration the first time. Keys are fetched by the verifier, and
// again when a token is signed with one that it does not know.
func (o *OIDC) ready() (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.verifier != nil {
		return o.verifier, nil
	}
	now := o.cfg.Now()
	if o.failure != nil && now.Before(o.again) {
		return nil, o.failure
	}
	// The provider outlives the request that needs it first.
	ctx, cancel := context.WithTimeout(context.Background(), oidcTimeout)
	defer cancel()
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, o.cfg.Client), o.cfg.IssuerURL)
	if err != nil {
		o.failure, o.again = err, now.Add(oidcRetry)
		return nil, err
	}
	o.verifier = p.Verifier(&oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: o.cfg.SigningAlgorithms, Now: o.cfg.Now})
	return o.verifier, nil
}

// identity reads a verified token's claims.
func (o *OIDC) identity(claims map[string]json.RawMessage) (*Identity, error) {
	for name, want := range o.cfg.RequiredClaims {
		if got, err := stringClaim(claims, name); err != nil || got != want {
			return nil, fmt.Errorf("required claim %s does not have its value", name)
		}
	}
	user, err := stringClaim(claims, o.cfg.UsernameClaim)
	if err != nil {
		return nil, err
	}
	if user == "" {
		return nil, fmt.Errorf("claim %s is empty", o.cfg.UsernameClaim)
	}
	if o.cfg.UsernameClaim == "email" {
		// An address that its owner has not confirmed could be anybody's; issuers that do not say are believed, as in Kubernetes.
		if raw, ok := claims["email_verified"]; ok {
			var verified bool
			if json.Unmarshal(raw, &verified) != nil || !verified {
				return nil, errors.New("email not verified")
			}
		}
	}
	id := &Identity{Name: o.cfg.UsernamePrefix + user, Extra: map[string][]string{}}
	if jti, err := stringClaim(claims, "jti"); err == nil && jti != "" {
		id.Extra[ExtraCredentialID] = []string{"JTI=" + jti}
	}
	if raw, ok := claims[o.cfg.GroupsClaim]; ok && o.cfg.GroupsClaim != "" {
		var groups audience // a string or a list of them
		if err := json.Unmarshal(raw, &groups); err != nil {
			return nil, fmt.Errorf("claim %s is neither a string nor a list of strings", o.cfg.GroupsClaim)
		}
		for _, g := range groups {
			id.Groups = append(id.Groups, o.cfg.GroupsPrefix+g)
		}
	}
	id.Groups = append(id.Groups, AllAuthenticated)
	return id, nil
}

func stringClaim(claims map[string]json.RawMessage, name string) (string, error) {
	raw, ok := claims[name]
	if !ok {
		return "", fmt.Errorf("claim %s is not present", name)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("claim %s is not a string", name)
	}
	return s, nil
}
