// Package authn finds out who sends a request. An Authenticator turns what a connection proves, its verified client
// certificate or a bearer token, into an Identity; a request that proves nothing is system:anonymous, which may reach
// only health and version, and a request that proves something false is refused.
//
//	id, err := auth.Authenticate(ctx, authn.Credentials{Certificates: state.VerifiedChains, Token: bearer})
//	if errors.Is(err, authn.ErrUnauthenticated) { … 401 … }
//
// Identities are spelled as in Kubernetes (https://kubernetes.io/docs/reference/access-authn-authz/authentication/).
package authn

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// Names that Kubernetes reserves.
const (
	Anonymous            = "system:anonymous"
	Unauthenticated      = "system:unauthenticated"
	AllAuthenticated     = "system:authenticated"
	Masters              = "system:masters"
	Nodes                = "system:nodes"
	NodeUserPrefix       = "system:node:"
	ServiceAccountPrefix = "system:serviceaccount:"
	ServiceAccounts      = "system:serviceaccounts"
)

// Keys of Identity.Extra that bound tokens fill (KEP-4193).
const (
	ExtraPodName      = "authentication.kubernetes.io/pod-name"
	ExtraPodUID       = "authentication.kubernetes.io/pod-uid"
	ExtraNodeName     = "authentication.kubernetes.io/node-name"
	ExtraNodeUID      = "authentication.kubernetes.io/node-uid"
	ExtraCredentialID = "authentication.kubernetes.io/credential-id"
)

// ErrUnauthenticated means that credentials were shown and are not good. It wraps the reason, which is for the server's
// log and never for the client.
var ErrUnauthenticated = errors.New("unauthenticated")

// Identity is who sends a request. Identities are shared between requests and never modified.
type Identity struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// In reports whether the identity is a member of the group.
func (id *Identity) In(group string) bool { return slices.Contains(id.Groups, group) }

// Credentials are what a connection or a request proves.
type Credentials struct {
	// Chains are the verified chains of the client certificate, the leaf first in each; empty if there was none.
	Chains [][]*x509.Certificate
	// Path is what is asked for: an HTTP request's path, or a gRPC method, which begins with a slash as well.
	Path string
	// Token is the bearer token; empty if there was none.
	Token string
	// Header are the request's headers, in which a front proxy says who the request is from.
	Header http.Header
}

// TokenAuthenticator checks one kind of bearer token.
type TokenAuthenticator interface {
	// Token returns the identity that the token proves, ok=false if the token is not of this kind at all, or an error
	// that wraps ErrUnauthenticated if it is but is not good.
	Token(ctx context.Context, token string) (id *Identity, ok bool, err error)
}

// Authenticator tries what a front proxy says first, then a certificate, then each kind of token, then anonymous.
type Authenticator struct {
	Tokens []TokenAuthenticator
	// Proxies are the front proxies that are believed; nil believes none.
	Proxies *FrontProxy
	// Clients are the authorities of client certificates; nil means that every verified certificate is a client's. It is needed
	// where the connection is also verified against others, such as the front proxies'.
	Clients func() (*x509.CertPool, error)
	// NoAnonymous refuses requests that prove nothing; Anonymous, if it is set, says for each path whether they are let in.
	NoAnonymous bool
	Anonymous   func(path string) bool
	// Audiences are the server's own, for which every good token is.
	Audiences []string
}

// Authenticate returns the identity of the credentials. Errors wrap ErrUnauthenticated or ctx's.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials) (*Identity, error) {
	if a.Proxies != nil {
		if id, ok, err := a.Proxies.Identity(c.Chains, c.Header); ok || err != nil {
			return id, err
		}
	}
	if len(c.Chains) > 0 && len(c.Chains[0]) > 0 {
		ok, err := a.client(c.Chains)
		if err != nil {
			return nil, err
		}
		if ok {
			return fromCertificate(c.Chains[0][0])
		}
	}
	if c.Token == "" {
		if a.NoAnonymous || a.Anonymous != nil && !a.Anonymous(c.Path) {
			return nil, fmt.Errorf("%w: no credentials", ErrUnauthenticated)
		}
		return &Identity{Name: Anonymous, Groups: []string{Unauthenticated}}, nil
	}
	return a.token(ctx, c.Token)
}

// client reports whether a verified certificate is from an authority of clients.
func (a *Authenticator) client(chains [][]*x509.Certificate) (bool, error) {
	if a.Clients == nil {
		return true, nil
	}
	pool, err := a.Clients()
	if err != nil {
		return false, fmt.Errorf("authorities of clients: %w", err)
	}
	between := x509.NewCertPool()
	for _, chain := range chains {
		for _, c := range chain[1:] {
			between.AddCert(c)
		}
	}
	_, err = chains[0][0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil, nil // a front proxy that says nothing is nobody
}

func (a *Authenticator) token(ctx context.Context, token string) (*Identity, error) {
	for _, t := range a.Tokens {
		id, ok, err := t.Token(ctx, token)
		if err != nil {
			return nil, err
		}
		if ok {
			return id, nil
		}
	}
	return nil, fmt.Errorf("%w: no authenticator knows the token", ErrUnauthenticated)
}

// reviewer is a TokenAuthenticator whose tokens say whom they are for.
type reviewer interface {
	Review(ctx context.Context, token string, audiences []string) (*Identity, []string, error)
}

// Review says whose a token is, and for which of the wanted audiences it is good (TokenReview). No audiences means the server's.
func (a *Authenticator) Review(ctx context.Context, token string, audiences []string) (*Identity, []string, error) {
	if len(audiences) == 0 {
		audiences = a.Audiences
	}
	for _, t := range a.Tokens {
		r, ok := t.(reviewer)
		if !ok {
			continue
		}
		id, good, err := r.Review(ctx, token, audiences)
		if !errors.Is(err, errForeign) {
			return id, good, err
		}
	}
	// Other tokens are for this server, whoever asks.
	var good []string
	for _, want := range audiences {
		if slices.Contains(a.Audiences, want) {
			good = append(good, want)
		}
	}
	if len(good) == 0 && len(audiences) > 0 {
		return nil, nil, fmt.Errorf("%w: the token is for none of the audiences %q", ErrUnauthenticated, audiences)
	}
	id, err := a.token(ctx, token)
	return id, good, err
}

// fromCertificate reads an identity out of a verified leaf: its common name and organizations.
func fromCertificate(leaf *x509.Certificate) (*Identity, error) {
	if leaf.Subject.CommonName == "" {
		return nil, fmt.Errorf("%w: client certificate has no common name", ErrUnauthenticated)
	}
	uid, err := uidOf(leaf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	groups := make([]string, 0, len(leaf.Subject.Organization)+1)
	groups = append(groups, leaf.Subject.Organization...)
	groups = append(groups, AllAuthenticated)
	sum := sha256.Sum256(leaf.Raw)
	return &Identity{
		Name: leaf.Subject.CommonName, UID: uid, Groups: groups,
		Extra: map[string][]string{ExtraCredentialID: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}, nil
}

// uidOf is the user's UID in a certificate's subject, where Kubernetes has given it an identifier of its own; most have none.
func uidOf(leaf *x509.Certificate) (uid string, err error) {
	found := false
	for _, name := range leaf.Subject.Names {
		if !name.Type.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}) {
			continue
		}
		text, ok := name.Value.(string)
		switch {
		case found:
			return "", errors.New("client certificate has more than one UID")
		case !ok || text == "":
			return "", errors.New("client certificate has an empty UID")
		}
		uid, found = text, true
	}
	return uid, nil
}
