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
	"crypto/x509"
	"errors"
	"fmt"
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

// IsAnonymous reports whether the request proved nothing.
func (id *Identity) IsAnonymous() bool { return id.Name == Anonymous }

// Credentials are what a connection or a request proves.
type Credentials struct {
	// Chains are the verified chains of the client certificate, the leaf first in each; empty if there was none.
	Chains [][]*x509.Certificate
	// Token is the bearer token; empty if there was none.
	Token string
}

// TokenAuthenticator checks one kind of bearer token.
type TokenAuthenticator interface {
	// Token returns the identity that the token proves, ok=false if the token is not of this kind at all, or an error
	// that wraps ErrUnauthenticated if it is but is not good.
	Token(ctx context.Context, token string) (id *Identity, ok bool, err error)
}

// Authenticator tries a certificate first, then each kind of token, then anonymous.
type Authenticator struct {
	Tokens []TokenAuthenticator
}

// Authenticate returns the identity of the credentials. Errors wrap ErrUnauthenticated or ctx's.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials) (*Identity, error) {
	if len(c.Chains) > 0 && len(c.Chains[0]) > 0 {
		return fromCertificate(c.Chains[0][0])
	}
	if c.Token == "" {
		return &Identity{Name: Anonymous, Groups: []string{Unauthenticated}}, nil
	}
	for _, t := range a.Tokens {
		id, ok, err := t.Token(ctx, c.Token)
		if err != nil {
			return nil, err
		}
		if ok {
			return id, nil
		}
	}
	return nil, fmt.Errorf("%w: no authenticator knows the token", ErrUnauthenticated)
}

// fromCertificate reads an identity out of a verified leaf: its common name and organizations.
func fromCertificate(leaf *x509.Certificate) (*Identity, error) {
	if leaf.Subject.CommonName == "" {
		return nil, fmt.Errorf("%w: client certificate has no common name", ErrUnauthenticated)
	}
	groups := make([]string, 0, len(leaf.Subject.Organization)+1)
	groups = append(groups, leaf.Subject.Organization...)
	groups = append(groups, AllAuthenticated)
	return &Identity{Name: leaf.Subject.CommonName, Groups: groups}, nil
}
