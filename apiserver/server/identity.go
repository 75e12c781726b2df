package server

import (
	"context"
	"crypto/x509"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authn/configured"
)

// Identity says who is known beyond the owners of client certificates and of ServiceAccount tokens.
type Identity struct {
	// Proxies are front proxies that are believed; nil believes none. Clients must be set with it.
	Proxies *authn.FrontProxy
	// Clients are the authorities of client certificates, where TLS accepts others too.
	Clients func() (*x509.CertPool, error)
	// BootstrapTokens are accepted.
	BootstrapTokens bool
	// OIDC are the issuers of ID tokens.
	OIDC []authn.OIDCConfig
	// Configured are the issuers of an AuthenticationConfiguration; nil: there is none.
	Configured *configured.File
	// NoAnonymous refuses requests without credentials.
	NoAnonymous bool
}

// knownObjects are the stored objects that credentials are held against.
type knownObjects interface {
	authn.Lookup
	authn.Secrets
}

func newAuthenticator(cfg Config, known knownObjects) (*authn.Issuer, *authn.Authenticator, error) {
	auth := &authn.Authenticator{Proxies: cfg.Identity.Proxies, Clients: cfg.Identity.Clients, NoAnonymous: cfg.Identity.NoAnonymous}
	var issuer *authn.Issuer
	if cfg.Tokens.Signer != nil {
		cfg.Tokens.Lookup, cfg.Tokens.Now = known, cfg.Now
		var err error
		if issuer, err = authn.NewIssuer(cfg.Tokens); err != nil {
			return nil, nil, err
		}
		auth.Tokens, auth.Audiences = append(auth.Tokens, issuer), issuer.Audiences()
	}
	if cfg.Identity.BootstrapTokens {
		auth.Tokens = append(auth.Tokens, authn.NewBootstrapTokens(known, cfg.Now))
	}
	for _, c := range cfg.Identity.OIDC {
		c.Now = cfg.Now
		o, err := authn.NewOIDC(c)
		if err != nil {
			return nil, nil, fmt.Errorf("OpenID Connect: %w", err)
		}
		auth.Tokens = append(auth.Tokens, o)
	}
	if f := cfg.Identity.Configured; f != nil {
		auth.Tokens, auth.Anonymous = append(auth.Tokens, f), f.Anonymous
	}
	return issuer, auth, nil
}

// Secret implements authn.Secrets.
func (o objects) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, bool, error) {
	obj, ok, err := o.p.Object(ctx, "", "secrets", namespace, name, true)
	if err != nil || !ok {
		return nil, false, err
	}
	return obj.(*corev1.Secret), true, nil
}
