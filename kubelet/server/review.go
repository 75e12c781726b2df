package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	"bareboat.dev/client"
)

// User is who asks.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string]authorizationv1.ExtraValue
}

// Access decides about those who are neither administrators nor the API server: scrapers with a ServiceAccount's token, or with a
// certificate of their own. [Reviewer] is one.
type Access interface {
	// Authenticate says whose token it is. [ErrUnknownToken] if it is nobody's.
	Authenticate(ctx context.Context, token string) (User, error)
	// Allowed says whether a user may do something to a part of this node, as in "get" and "metrics".
	Allowed(ctx context.Context, u User, verb, subresource string) (bool, error)
}

// ErrUnknownToken: the token is not one of this cluster, or no longer.
var ErrUnknownToken = errors.New("unknown token")

const (
	// How long answers of the API server are good: as in Kubernetes' kubelet, so that who is revoked is out after as long here as there.
	tokenAge, allowedAge, deniedAge = 2 * time.Minute, 5 * time.Minute, 30 * time.Second
	// cacheLimit bounds what is remembered: with so many answers it is forgotten, rather than that callers fill the memory. A scraper
	// needs two; 1,024 × about 500 bytes = 512 KiB.
	cacheLimit = 1024
)

// Reviewer asks the API server: TokenReview for who it is, SubjectAccessReview for what they may do; the rights
// are nodes/metrics, nodes/stats, nodes/proxy.
type Reviewer struct {
	tokens *client.Resource[*authenticationv1.TokenReview]
	access *client.Resource[*authorizationv1.SubjectAccessReview]
	node   string
	now    func() time.Time

	mu      sync.Mutex
	answers map[[sha256.Size]byte]answer
}

type answer struct {
	until   time.Time
	user    User
	allowed bool
}

// NewReviewer asks for the node of that name.
func NewReviewer(c *client.Client, node string) *Reviewer {
	return &Reviewer{
		tokens: client.Of(c, client.Kind[*authenticationv1.TokenReview]{Group: "authentication.k8s.io", Version: "v1", Resource: "tokenreviews",
			KindName: "TokenReview", New: func() *authenticationv1.TokenReview { return new(authenticationv1.TokenReview) }}),
		access: client.Of(c, client.Kind[*authorizationv1.SubjectAccessReview]{Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews",
			KindName: "SubjectAccessReview", New: func() *authorizationv1.SubjectAccessReview { return new(authorizationv1.SubjectAccessReview) }}),
		node: node, now: time.Now, answers: map[[sha256.Size]byte]answer{},
	}
}

// Authenticate implements [Access].
func (r *Reviewer) Authenticate(ctx context.Context, token string) (User, error) {
	key := sha256.Sum256([]byte("token\x00" + token))
	if a, ok := r.recall(key); ok {
		return a.user, nil
	}
	review, err := r.tokens.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}})
	if err != nil {
		return User{}, fmt.Errorf("review a token: %w", err)
	}
	if !review.Status.Authenticated {
		return User{}, ErrUnknownToken
	}
	info := review.Status.User
	u := User{Name: info.Username, UID: info.UID, Groups: info.Groups, Extra: map[string]authorizationv1.ExtraValue{}}
	for k, v := range info.Extra {
		u.Extra[k] = authorizationv1.ExtraValue(v)
	}
	r.remember(key, answer{until: r.now().Add(tokenAge), user: u})
	return u, nil
}

// Allowed implements [Access].
func (r *Reviewer) Allowed(ctx context.Context, u User, verb, subresource string) (bool, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "access\x00%q %q %q %q %q %q", u.Name, u.UID, u.Groups, u.Extra, verb, subresource))
	if a, ok := r.recall(key); ok {
		return a.allowed, nil
	}
	review, err := r.access.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: r.node},
	}})
	if err != nil {
		return false, fmt.Errorf("review access: %w", err)
	}
	age := deniedAge
	if review.Status.Allowed {
		age = allowedAge
	}
	r.remember(key, answer{until: r.now().Add(age), allowed: review.Status.Allowed})
	return review.Status.Allowed, nil
}

func (r *Reviewer) recall(key [sha256.Size]byte) (answer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.answers[key]
	return a, ok && r.now().Before(a.until)
}

func (r *Reviewer) remember(key [sha256.Size]byte, a answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) >= cacheLimit {
		clear(r.answers)
	}
	r.answers[key] = a
}

// subresources are the parts of the node that a path is, as RBAC rules for kubelets name them; the right to one is enough. Those of fine
// grain (KEP-2862) are of proxy, too.
func subresources(path string) []string {
	for _, s := range []struct {
		prefix string
		names  []string
	}{
		{"/stats", []string{"stats"}}, {"/metrics", []string{"metrics"}}, {"/logs", []string{"log"}}, {"/spec", []string{"spec"}},
		{"/pods", []string{"pods", "proxy"}}, {"/configz", []string{"configz", "proxy"}},
		{"/healthz", []string{"healthz", "proxy"}},
	} {
		if path == s.prefix || strings.HasPrefix(path, s.prefix+"/") {
			return s.names
		}
	}
	return []string{"proxy"}
}

// verb is what a method does, in RBAC's words.
func verb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return "get"
}

// caller is who a request is from, by its verified certificate or its token.
func caller(r *http.Request, access Access) (u User, cert *x509.Certificate, err error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		cert = r.TLS.VerifiedChains[0][0]
		return User{Name: cert.Subject.CommonName, Groups: append([]string{"system:authenticated"}, cert.Subject.Organization...)}, cert, nil
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" || access == nil {
		return User{}, nil, ErrUnknownToken
	}
	u, err = access.Authenticate(r.Context(), token)
	return u, nil, err
}
