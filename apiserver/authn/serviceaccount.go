package authn

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Lookup tells whether the objects that a token is bound to still exist. Resource is the plural name.
type Lookup interface {
	// UID returns the object's uid and when it was marked for deletion (zero: it was not); ok=false if it does not exist.
	UID(ctx context.Context, resource, namespace, name string) (uid string, deleted time.Time, ok bool, err error)
}

// BoundRef names an object by name and uid.
type BoundRef struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// serviceAccountClaims are the claims of a bound ServiceAccount token, in Kubernetes' spelling.
type serviceAccountClaims struct {
	Audience   audience     `json:"aud"`
	Expiry     int64        `json:"exp"`
	IssuedAt   int64        `json:"iat"`
	Issuer     string       `json:"iss"`
	ID         string       `json:"jti,omitempty"`
	NotBefore  int64        `json:"nbf"`
	Subject    string       `json:"sub"`
	Kubernetes privateClaim `json:"kubernetes.io"`
}

type privateClaim struct {
	Namespace      string    `json:"namespace"`
	Node           *BoundRef `json:"node,omitempty"`
	Pod            *BoundRef `json:"pod,omitempty"`
	Secret         *BoundRef `json:"secret,omitempty"`
	ServiceAccount BoundRef  `json:"serviceaccount"`
}

// audience is a JSON string or a list of them (RFC 7519 section 4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// TokenSpec says what a new token is for.
type TokenSpec struct {
	Namespace      string
	ServiceAccount BoundRef
	// Pod, Node and Secret bind the token to an object's life; all optional.
	Pod, Node, Secret *BoundRef
	// Audiences the token is for; empty means the API server's own.
	Audiences []string
	// Expires and the like are set by the issuer from these.
	Now      time.Time
	Lifetime time.Duration
	// ID is the token's unique id.
	ID string
}

// Issuer makes and checks ServiceAccount tokens (KEP-1205).
type Issuer struct {
	url       string
	signer    crypto.Signer
	signKey   publicKey
	keys      []publicKey
	audiences []string
	lookup    Lookup
	now       func() time.Time
}

// IssuerConfig configures an Issuer.
type IssuerConfig struct {
	// URL is the `iss` of the tokens, e.g. "https://kubernetes.default.svc.cluster.local".
	URL string
	// Signer signs new tokens.
	Signer crypto.Signer
	// Keys verify tokens beside the signer's own, so that keys can be rotated.
	Keys []crypto.PublicKey
	// Audiences that this API server answers to; empty means URL.
	Audiences []string
	// Lookup finds the objects that tokens are bound to.
	Lookup Lookup
	Now    func() time.Time
}

// NewIssuer checks the keys.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	i := &Issuer{url: cfg.URL, signer: cfg.Signer, audiences: cfg.Audiences, lookup: cfg.Lookup, now: cfg.Now}
	if len(i.audiences) == 0 {
		i.audiences = []string{cfg.URL}
	}
	var err error
	if i.signKey, err = newPublicKey(cfg.Signer.Public()); err != nil {
		return nil, fmt.Errorf("service account signing key: %w", err)
	}
	i.keys = []publicKey{i.signKey}
	for _, k := range cfg.Keys {
		pub, err := newPublicKey(k)
		if err != nil {
			return nil, fmt.Errorf("service account key: %w", err)
		}
		if !slices.ContainsFunc(i.keys, func(have publicKey) bool { return have.id == pub.id }) {
			i.keys = append(i.keys, pub)
		}
	}
	return i, nil
}

// URL is the issuer's name.
func (i *Issuer) URL() string { return i.url }

// Audiences are those that the API server accepts.
func (i *Issuer) Audiences() []string { return i.audiences }

// KeySet is the issuer's JSON Web Key Set, served at /openid/v1/jwks.
func (i *Issuer) KeySet() ([]byte, error) { return jwks(i.keys) }

// Discovery is the OpenID provider configuration, served at /.well-known/openid-configuration.
func (i *Issuer) Discovery(jwksURI string) ([]byte, error) {
	var algs []string
	for _, k := range i.keys {
		if !slices.Contains(algs, k.algorithm) {
			algs = append(algs, k.algorithm)
		}
	}
	return json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
	}{i.url, jwksURI, []string{"id_token"}, []string{"public"}, algs})
}

// Issue signs a token and returns it with its expiry.
func (i *Issuer) Issue(spec TokenSpec) (token string, expires time.Time, err error) {
	aud := spec.Audiences
	if len(aud) == 0 {
		aud = i.audiences
	}
	expires = spec.Now.Add(spec.Lifetime).Truncate(time.Second)
	claims := serviceAccountClaims{
		Audience: aud, Expiry: expires.Unix(), IssuedAt: spec.Now.Unix(), NotBefore: spec.Now.Unix(), Issuer: i.url, ID: spec.ID,
		Subject: ServiceAccountPrefix + spec.Namespace + ":" + spec.ServiceAccount.Name,
		Kubernetes: privateClaim{
			Namespace: spec.Namespace, ServiceAccount: spec.ServiceAccount, Pod: spec.Pod, Node: spec.Node, Secret: spec.Secret,
		},
	}
	token, err = sign(i.signer, i.signKey, claims)
	return token, expires, err
}

// Token implements TokenAuthenticator for the API server's own audiences.
func (i *Issuer) Token(ctx context.Context, token string) (*Identity, bool, error) {
	id, _, err := i.Review(ctx, token, i.audiences)
	if errors.Is(err, errForeign) {
		return nil, false, nil
	}
	return id, err == nil, err
}

// errForeign means the token was made by somebody else.
var errForeign = errors.New("token is not from this issuer")

// Review checks a token for one of the wanted audiences and returns which of them it is good for (TokenReview).
func (i *Issuer) Review(ctx context.Context, token string, wanted []string) (*Identity, []string, error) {
	if strings.Count(token, ".") != 2 || issuerOf(token) != i.url {
		return nil, nil, errForeign
	}
	body, err := verify(token, i.keys)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	var claims serviceAccountClaims
	if err := json.Unmarshal(body, &claims); err != nil {
		return nil, nil, fmt.Errorf("%w: claims: %w", ErrUnauthenticated, err)
	}
	var good []string
	for _, a := range wanted {
		if slices.Contains(claims.Audience, a) {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		return nil, nil, fmt.Errorf("%w: token audiences %q is invalid for the target audiences %q", ErrUnauthenticated, claims.Audience, wanted)
	}
	if err := i.checkTimes(&claims); err != nil {
		return nil, nil, err
	}
	if err := i.checkBindings(ctx, &claims); err != nil {
		return nil, nil, err
	}
	return claims.identity(), good, nil
}

// issuerOf reads the unverified `iss` claim, only to tell whose token it is.
func issuerOf(token string) string {
	if len(token) > maxTokenSize {
		return ""
	}
	body, err := decodeSegment(strings.Split(token, ".")[1])
	if err != nil {
		return ""
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(body, &c) != nil {
		return ""
	}
	return c.Issuer
}

func (i *Issuer) checkTimes(c *serviceAccountClaims) error {
	now := i.now().Unix()
	if now >= c.Expiry {
		return fmt.Errorf("%w: service account token has expired", ErrUnauthenticated)
	}
	if now < c.NotBefore {
		return fmt.Errorf("%w: service account token is not valid yet", ErrUnauthenticated)
	}
	return nil
}

// checkBindings refuses a token whose ServiceAccount, pod, secret or node is gone or was made again with the same name.
func (i *Issuer) checkBindings(ctx context.Context, c *serviceAccountClaims) error {
	k := &c.Kubernetes
	if c.Subject != ServiceAccountPrefix+k.Namespace+":"+k.ServiceAccount.Name || k.Namespace == "" {
		return fmt.Errorf("%w: token's subject does not match its service account", ErrUnauthenticated)
	}
	for _, b := range []struct {
		resource, namespace string
		ref                 *BoundRef
	}{
		{"serviceaccounts", k.Namespace, &k.ServiceAccount},
		{"pods", k.Namespace, k.Pod},
		{"secrets", k.Namespace, k.Secret},
		{"nodes", "", boundNode(k)},
	} {
		if b.ref == nil {
			continue
		}
		uid, deleted, ok, err := i.lookup.UID(ctx, b.resource, b.namespace, b.ref.Name)
		if err != nil {
			return fmt.Errorf("looking up %s %s/%s: %w", b.resource, b.namespace, b.ref.Name, err)
		}
		if !ok || uid != b.ref.UID {
			return fmt.Errorf("%w: %s %q that the token is bound to is gone", ErrUnauthenticated, b.resource, b.ref.Name)
		}
		// As in Kubernetes, a bound object that is being deleted keeps its tokens for 60 s past its time.
		if !deleted.IsZero() && i.now().After(deleted.Add(time.Minute)) {
			return fmt.Errorf("%w: %s %q that the token is bound to is being deleted", ErrUnauthenticated, b.resource, b.ref.Name)
		}
	}
	return nil
}

// boundNode is the node a token is bound to directly; a pod's node is only information.
func boundNode(k *privateClaim) *BoundRef {
	if k.Pod != nil {
		return nil
	}
	return k.Node
}

func (c *serviceAccountClaims) identity() *Identity {
	k := &c.Kubernetes
	id := &Identity{
		Name: c.Subject, UID: k.ServiceAccount.UID,
		Groups: []string{ServiceAccounts, ServiceAccounts + ":" + k.Namespace, AllAuthenticated},
		Extra:  map[string][]string{},
	}
	if c.ID != "" {
		id.Extra[ExtraCredentialID] = []string{"JTI=" + c.ID}
	}
	if k.Pod != nil {
		id.Extra[ExtraPodName], id.Extra[ExtraPodUID] = []string{k.Pod.Name}, []string{k.Pod.UID}
	}
	if k.Node != nil {
		id.Extra[ExtraNodeName] = []string{k.Node.Name}
		if k.Node.UID != "" {
			id.Extra[ExtraNodeUID] = []string{k.Node.UID}
		}
	}
	return id
}
