// Package configured is authentication by the file of --authentication-config: upstream's AuthenticationConfiguration
// (apiserver.config.k8s.io/v1), which names issuers of JWTs, says by claims and CEL expressions who their subjects are, and which paths
// requests without credentials may ask for (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration).
//
//	f, err := configured.Follow(configured.Config{Path: path, Disallowed: []string{serviceAccountIssuer}, Now: time.Now, Log: log})
//	auth.Tokens, auth.Anonymous = append(auth.Tokens, f), f.Anonymous
//
// The file is followed: a change counts for requests that come a second later. One that is not good changes nothing, and is logged.
package configured

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"

	"bareboat.dev/apiserver/authn"
)

const (
	// lookEvery is how often requests have the file looked at: looking costs a microsecond.
	lookEvery = time.Second
	// maxFile bounds the file: upstream allows 64 issuers, each with some KiB of expressions and certificates.
	maxFile = 4 << 20
)

// Config is what a File is made of.
type Config struct {
	Path string
	// Disallowed are issuers that the file must not name: the server's own.
	Disallowed []string
	Now        func() time.Time
	Log        *slog.Logger
}

// File is the configuration as the file has it. It implements authn.TokenAuthenticator.
type File struct {
	cfg     Config
	current atomic.Pointer[state]

	mu sync.Mutex
	// looked is when the file was last looked at, and seen what it held then, good or not.
	looked atomic.Int64
	seen   []byte
}

// state is one good content of the file.
type state struct {
	anonymous *apiserver.AnonymousAuthConfig
	issuers   []*issuer
}

// issuer is one of the file's, with the keys that it has been asked for.
type issuer struct {
	of   apiserver.JWTAuthenticator
	oidc *authn.OIDC
}

// Follow reads a file, whose first content must be good, and reads it again when it has changed.
func Follow(cfg Config) (*File, error) {
	f := &File{cfg: cfg}
	data, err := read(cfg.Path)
	if err != nil {
		return nil, err
	}
	s, err := f.parse(data, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Path, err)
	}
	f.seen = data
	f.looked.Store(cfg.Now().UnixNano())
	f.current.Store(s)
	return f, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

// state returns the present content.
func (f *File) state() *state {
	now := f.cfg.Now().UnixNano()
	if now-f.looked.Load() < int64(lookEvery) || !f.mu.TryLock() {
		return f.current.Load()
	}
	defer f.mu.Unlock()
	f.looked.Store(now)
	data, err := read(f.cfg.Path)
	if err != nil || bytes.Equal(data, f.seen) {
		return f.current.Load() // a file that is being replaced is there again in a moment
	}
	f.seen = data
	next, err := f.parse(data, f.current.Load())
	if err != nil {
		f.cfg.Log.Error("the changed authentication configuration is not good, the one before stays", "file", f.cfg.Path, "error", err)
		return f.current.Load()
	}
	f.current.Store(next)
	f.cfg.Log.Info("the authentication configuration has changed", "file", f.cfg.Path, "issuers", len(next.issuers))
	return next
}

// Token implements authn.TokenAuthenticator.
func (f *File) Token(ctx context.Context, token string) (*authn.Identity, bool, error) {
	for _, i := range f.state().issuers {
		if id, ok, err := i.oidc.Token(ctx, token); ok || err != nil {
			return id, ok, err
		}
	}
	return nil, false, nil
}

// SaysAnonymous reports whether the file, rather than a flag, decides about requests without credentials.
func (f *File) SaysAnonymous() bool { return f.state().anonymous != nil }

// Anonymous reports whether a request without credentials may ask for a path.
func (f *File) Anonymous(path string) bool {
	a := f.state().anonymous
	if a == nil {
		return true
	}
	if !a.Enabled {
		return false
	}
	for _, c := range a.Conditions {
		if c.Path == path {
			return true
		}
	}
	return len(a.Conditions) == 0
}

// Decode reads a configuration strictly: what it does not know is an error.
func Decode(data []byte) (*apiserver.AuthenticationConfiguration, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	obj, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, err
	}
	c, ok := obj.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("expected AuthenticationConfiguration, got %T", obj)
	}
	return c, nil
}

// parse makes a state of the file's content. Issuers that are as they were keep what they know.
func (f *File) parse(data []byte, before *state) (*state, error) {
	c, err := Decode(data)
	if err != nil {
		return nil, err
	}
	compiler := authenticationcel.NewDefaultCompiler()
	if err := validation.ValidateAuthenticationConfiguration(compiler, c, f.cfg.Disallowed).ToAggregate(); err != nil {
		return nil, err
	}
	s := &state{anonymous: c.Anonymous}
	for k := range c.JWT {
		one, err := f.issuer(compiler, c.JWT[k], before)
		if err != nil {
			return nil, fmt.Errorf("jwt[%d]: %w", k, err)
		}
		s.issuers = append(s.issuers, one)
	}
	return s, nil
}

var errEgress = errors.New("issuer.egressSelectorType: this server has no egress selectors")

func (f *File) issuer(compiler authenticationcel.Compiler, of apiserver.JWTAuthenticator, before *state) (*issuer, error) {
	if before != nil {
		for _, have := range before.issuers {
			if equality.Semantic.DeepEqual(have.of, of) {
				return have, nil
			}
		}
	}
	if of.Issuer.EgressSelectorType != "" {
		return nil, errEgress
	}
	expressions, errs := validation.CompileAndValidateJWTAuthenticator(compiler, of, f.cfg.Disallowed)
	if err := errs.ToAggregate(); err != nil {
		return nil, err
	}
	client, err := authn.IssuerClient([]byte(of.Issuer.CertificateAuthority))
	if err != nil {
		return nil, err
	}
	m := mapping{of, expressions}
	o, err := authn.NewOIDC(authn.OIDCConfig{
		IssuerURL: of.Issuer.URL, DiscoveryURL: of.Issuer.DiscoveryURL, Audiences: of.Issuer.Audiences, SigningAlgorithms: authn.AsymmetricAlgorithms(),
		Client: client, Now: f.cfg.Now, Map: m.identity,
	})
	return &issuer{of, o}, err
}
