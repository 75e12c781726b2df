package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"bareboat.dev/apiserver/aggregator"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authn/configured"
	"bareboat.dev/apiserver/server"
	"bareboat.dev/daemon/tlsconf"
)

// identityConfig says who is known, beside the owners of client certificates and of ServiceAccount tokens.
type identityConfig struct {
	AnonymousAuth            bool `json:"anonymousAuth"`
	EnableBootstrapTokenAuth bool `json:"enableBootstrapTokenAuth"`

	RequestheaderClientCAFile       string `json:"requestheaderClientCAFile"`
	RequestheaderAllowedNames       list   `json:"requestheaderAllowedNames"`
	RequestheaderUsernameHeaders    list   `json:"requestheaderUsernameHeaders"`
	RequestheaderUIDHeaders         list   `json:"requestheaderUIDHeaders"`
	RequestheaderGroupHeaders       list   `json:"requestheaderGroupHeaders"`
	RequestheaderExtraHeadersPrefix list   `json:"requestheaderExtraHeadersPrefix"`

	ProxyClientCertFile string `json:"proxyClientCertFile"`
	ProxyClientKeyFile  string `json:"proxyClientKeyFile"`

	AuthenticationConfig string `json:"authenticationConfig"`

	OIDCIssuerURL      string `json:"oidcIssuerURL"`
	OIDCClientID       string `json:"oidcClientID"`
	OIDCUsernameClaim  string `json:"oidcUsernameClaim"`
	OIDCUsernamePrefix string `json:"oidcUsernamePrefix"`
	OIDCGroupsClaim    string `json:"oidcGroupsClaim"`
	OIDCGroupsPrefix   string `json:"oidcGroupsPrefix"`
	OIDCRequiredClaims list   `json:"oidcRequiredClaim"`
	OIDCCAFile         string `json:"oidcCAFile"`
	OIDCSigningAlgs    list   `json:"oidcSigningAlgs"`
}

func identityDefaults() identityConfig {
	return identityConfig{
		AnonymousAuth: true, EnableBootstrapTokenAuth: true, OIDCUsernameClaim: "sub", OIDCSigningAlgs: list{"RS256"},
		RequestheaderUsernameHeaders: list{"X-Remote-User"}, RequestheaderUIDHeaders: list{"X-Remote-Uid"},
		RequestheaderGroupHeaders: list{"X-Remote-Group"}, RequestheaderExtraHeadersPrefix: list{"X-Remote-Extra-"},
	}
}

func (c *identityConfig) flags(f *pflag.FlagSet) {
	text := func(p *string, name, usage string) { f.StringVar(p, name, *p, usage) }
	many := func(p *list, name, usage string) { f.StringSliceVar((*[]string)(p), name, *p, usage) }
	f.BoolVar(&c.AnonymousAuth, "anonymous-auth", c.AnonymousAuth, "let requests without credentials ask for what system:anonymous may see; else they are refused")
	f.BoolVar(&c.EnableBootstrapTokenAuth, "enable-bootstrap-token-auth", c.EnableBootstrapTokenAuth, "accept the tokens in kube-system's Secrets of type bootstrap.kubernetes.io/token")
	text(&c.RequestheaderClientCAFile, "requestheader-client-ca-file", "authorities of front proxies, which say in headers who a request is from; none: nobody is believed")
	many(&c.RequestheaderAllowedNames, "requestheader-allowed-names", "common names of front proxies' certificates; none: all that their authorities have signed")
	many(&c.RequestheaderUsernameHeaders, "requestheader-username-headers", "headers with the user's name")
	many(&c.RequestheaderUIDHeaders, "requestheader-uid-headers", "headers with the user's uid")
	many(&c.RequestheaderGroupHeaders, "requestheader-group-headers", "headers with the user's groups")
	many(&c.RequestheaderExtraHeadersPrefix, "requestheader-extra-headers-prefix", "beginnings of the names of headers with extra information on the user")
	text(&c.ProxyClientCertFile, "proxy-client-cert-file", "certificate by which aggregated API servers know this one")
	text(&c.ProxyClientKeyFile, "proxy-client-key-file", "key of that certificate")
	text(&c.AuthenticationConfig, "authentication-config", "AuthenticationConfiguration (apiserver.config.k8s.io/v1) with issuers of JWTs and with what anonymous requests may ask for; followed when it changes; in place of --oidc-*")
	text(&c.OIDCIssuerURL, "oidc-issuer-url", "OpenID Connect issuer whose ID tokens are accepted, an https URL")
	text(&c.OIDCClientID, "oidc-client-id", "audience that the issuer's tokens must be for")
	text(&c.OIDCUsernameClaim, "oidc-username-claim", "claim that names the user")
	text(&c.OIDCUsernamePrefix, "oidc-username-prefix", "put before the user's name; default: the issuer's URL and #, unless the claim is email; -: nothing")
	text(&c.OIDCGroupsClaim, "oidc-groups-claim", "claim that lists the user's groups")
	text(&c.OIDCGroupsPrefix, "oidc-groups-prefix", "put before each group's name")
	many(&c.OIDCRequiredClaims, "oidc-required-claim", "key=value that must be among a token's claims")
	text(&c.OIDCCAFile, "oidc-ca-file", "authorities of the issuer's certificate; default: the system's")
	many(&c.OIDCSigningAlgs, "oidc-signing-algs", "algorithms with which tokens may be signed")
}

func (c *identityConfig) validate(clientCAFile string) error {
	if (c.ProxyClientCertFile == "") != (c.ProxyClientKeyFile == "") {
		return errors.New("--proxy-client-cert-file and --proxy-client-key-file go together")
	}
	if c.AuthenticationConfig != "" && c.OIDCIssuerURL+c.OIDCClientID != "" {
		return errors.New("authentication-config file and oidc-* flags are mutually exclusive")
	}
	if (c.OIDCIssuerURL == "") != (c.OIDCClientID == "") {
		return errors.New("--oidc-issuer-url and --oidc-client-id go together")
	}
	for _, claim := range c.OIDCRequiredClaims {
		if name, _, ok := strings.Cut(claim, "="); !ok || name == "" {
			return fmt.Errorf("--oidc-required-claim %q is not key=value", claim)
		}
	}
	if c.RequestheaderClientCAFile == "" || len(c.RequestheaderAllowedNames) > 0 {
		return nil
	}
	shared, err := shareAuthority(clientCAFile, c.RequestheaderClientCAFile)
	if err == nil && shared {
		return errors.New("--requestheader-client-ca-file has an authority of --client-ca-file, so any client could pose as anybody: give --requestheader-allowed-names")
	}
	return nil // what cannot be read is told when it is used
}

// shareAuthority reports whether two files have a certificate in common.
func shareAuthority(a, b string) (bool, error) {
	known := map[string]bool{}
	first, err := certificates(a)
	if err != nil {
		return false, err
	}
	for _, der := range first {
		known[string(der)] = true
	}
	second, err := certificates(b)
	for _, der := range second {
		if known[string(der)] {
			return true, nil
		}
	}
	return false, err
}

func certificates(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out = append(out, bytes.Clone(block.Bytes))
		}
	}
	return out, nil
}

// identity puts together who is known. If front proxies are, TLS accepts their authorities too.
func (c *config) identity(t *tls.Config, log *slog.Logger) (server.Identity, *tls.Config, error) {
	out := server.Identity{BootstrapTokens: c.EnableBootstrapTokenAuth, NoAnonymous: !c.AnonymousAuth}
	if c.AuthenticationConfig != "" {
		f, err := configured.Follow(configured.Config{Path: c.AuthenticationConfig, Disallowed: []string{c.ServiceAccountIssuer}, Now: time.Now, Log: log})
		if err != nil {
			return out, nil, fmt.Errorf("--authentication-config: %w", err)
		}
		if f.SaysAnonymous() && !c.AnonymousAuth {
			return out, nil, errors.New("--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file")
		}
		out.Configured = f
	}
	if c.OIDCIssuerURL != "" {
		issuer, err := c.oidc()
		if err != nil {
			return out, nil, err
		}
		out.OIDC = []authn.OIDCConfig{issuer}
	}
	if c.RequestheaderClientCAFile == "" {
		return out, t, nil
	}
	proxies, err := tlsconf.ReadAuthorities(c.RequestheaderClientCAFile)
	if err != nil {
		return out, nil, fmt.Errorf("--requestheader-client-ca-file: %w", err)
	}
	clients, err := tlsconf.ReadAuthorities(c.ClientCAFile)
	if err != nil {
		return out, nil, fmt.Errorf("--client-ca-file: %w", err)
	}
	out.Clients = clients.Pool
	out.Proxies = &authn.FrontProxy{
		Authorities: proxies.Pool, Names: c.RequestheaderAllowedNames, UserHeaders: c.RequestheaderUsernameHeaders, GroupHeaders: c.RequestheaderGroupHeaders,
		UIDHeaders: c.RequestheaderUIDHeaders, ExtraPrefixes: c.RequestheaderExtraHeadersPrefix,
	}
	return out, accepting(t, proxies), nil
}

// extension is how aggregated API servers know this one, and what they are told of whom to believe.
func (c *config) extension() (certificate func() (*tls.Certificate, error), trust *aggregator.Trust, err error) {
	clients, err := tlsconf.ReadAuthorities(c.ClientCAFile)
	if err != nil {
		return nil, nil, fmt.Errorf("--client-ca-file: %w", err)
	}
	trust = &aggregator.Trust{ClientCA: clients.PEM, ProxyNames: c.RequestheaderAllowedNames}
	if c.RequestheaderClientCAFile != "" {
		proxies, err := tlsconf.ReadAuthorities(c.RequestheaderClientCAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("--requestheader-client-ca-file: %w", err)
		}
		trust.ProxyCA = proxies.PEM
	}
	if c.ProxyClientCertFile == "" {
		return nil, trust, nil
	}
	follow, err := tlsconf.Follow(c.ProxyClientCertFile, c.ProxyClientKeyFile, "")
	if err != nil {
		return nil, nil, fmt.Errorf("--proxy-client-cert-file: %w", err)
	}
	certificate = func() (*tls.Certificate, error) {
		cfg, err := follow()
		if err != nil {
			return nil, err
		}
		return &cfg.Certificates[0], nil
	}
	return certificate, trust, nil
}

// accepting returns a server's configuration that lets clients of further authorities connect; who they are is decided later.
func accepting(t *tls.Config, more *tlsconf.Authorities) *tls.Config {
	var mu sync.Mutex
	var base, merged *tls.Config
	var with *x509.CertPool
	inner := t.GetConfigForClient
	out := t.Clone()
	out.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		cfg, err := inner(hello)
		if err != nil {
			return nil, err
		}
		pool, err := more.Pool()
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if merged != nil && base == cfg && with == pool { // the same configuration again, so that sessions resume
			return merged, nil
		}
		data, err := more.PEM()
		if err != nil {
			return nil, err
		}
		both := cfg.Clone()
		both.ClientCAs = cfg.ClientCAs.Clone()
		both.ClientCAs.AppendCertsFromPEM(data)
		base, with, merged = cfg, pool, both
		return merged, nil
	}
	return out
}

func (c *config) oidc() (authn.OIDCConfig, error) {
	out := authn.OIDCConfig{
		IssuerURL: c.OIDCIssuerURL, ClientID: c.OIDCClientID, UsernameClaim: c.OIDCUsernameClaim, UsernamePrefix: c.OIDCUsernamePrefix,
		GroupsClaim: c.OIDCGroupsClaim, GroupsPrefix: c.OIDCGroupsPrefix, SigningAlgorithms: c.OIDCSigningAlgs, RequiredClaims: map[string]string{},
	}
	for _, claim := range c.OIDCRequiredClaims {
		name, value, _ := strings.Cut(claim, "=")
		out.RequiredClaims[name] = value
	}
	if c.OIDCCAFile == "" {
		return out, nil
	}
	authorities, err := os.ReadFile(c.OIDCCAFile)
	if err == nil {
		out.Client, err = authn.IssuerClient(authorities)
	}
	if err != nil {
		return out, fmt.Errorf("--oidc-ca-file: %w", err)
	}
	return out, nil
}
