package authn

import (
	"context"
	"crypto/subtle"
	"fmt"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Names that Kubernetes gives to bootstrap tokens
// (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/).
const (
	BootstrapUserPrefix = "system:bootstrap:"
	Bootstrappers       = "system:bootstrappers"

	bootstrapSecretType   = "bootstrap.kubernetes.io/token"
	bootstrapSecretPrefix = "bootstrap-token-"
	bootstrapNamespace    = "kube-system"
)

// Secrets finds Secrets.
type Secrets interface {
	// Secret returns the current Secret, or ok=false if there is none.
	Secret(ctx context.Context, namespace, name string) (s *corev1.Secret, ok bool, err error)
}

// BootstrapTokens knows the tokens by which nodes join: "<id>.<secret>", each kept in a Secret of kube-system.
type BootstrapTokens struct {
	secrets      Secrets
	now          func() time.Time
	token, group *regexp.Regexp
}

// NewBootstrapTokens returns an authenticator that looks tokens up.
func NewBootstrapTokens(secrets Secrets, now func() time.Time) *BootstrapTokens {
	return &BootstrapTokens{
		secrets: secrets, now: now,
		token: regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`),
		group: regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`),
	}
}

// Token implements TokenAuthenticator.
func (b *BootstrapTokens) Token(ctx context.Context, token string) (*Identity, bool, error) {
	parts := b.token.FindStringSubmatch(token)
	if parts == nil {
		return nil, false, nil
	}
	id, secret := parts[1], parts[2]
	s, ok, err := b.secrets.Secret(ctx, bootstrapNamespace, bootstrapSecretPrefix+id)
	if err != nil {
		return nil, false, fmt.Errorf("looking up bootstrap token %s: %w", id, err)
	}
	if !ok {
		return nil, false, fmt.Errorf("%w: there is no bootstrap token %s", ErrUnauthenticated, id)
	}
	if reason := b.refuse(s, id, secret); reason != "" {
		return nil, false, fmt.Errorf("%w: bootstrap token %s %s", ErrUnauthenticated, id, reason)
	}
	groups := []string{Bootstrappers}
	for _, g := range strings.Split(string(s.Data["auth-extra-groups"]), ",") {
		if g = strings.TrimSpace(g); g == "" {
			continue
		}
		if !b.group.MatchString(g) {
			return nil, false, fmt.Errorf("%w: bootstrap token %s names the group %q, which is not one for bootstrap tokens", ErrUnauthenticated, id, g)
		}
		groups = append(groups, g)
	}
	return &Identity{Name: BootstrapUserPrefix + id, Groups: append(groups, AllAuthenticated)}, true, nil
}

// refuse says why a Secret does not vouch for a token, or nothing.
func (b *BootstrapTokens) refuse(s *corev1.Secret, id, secret string) string {
	switch {
	case s.DeletionTimestamp != nil:
		return "is being deleted"
	case s.Type != bootstrapSecretType:
		return "is in a Secret of another type"
	case subtle.ConstantTimeCompare(s.Data["token-secret"], []byte(secret)) != 1:
		return "does not match"
	case string(s.Data["token-id"]) != id:
		return "has another id than its Secret's name says"
	case string(s.Data["usage-bootstrap-authentication"]) != "true":
		return "is not for authentication"
	}
	expires := string(s.Data["expiration"])
	if expires == "" {
		return ""
	}
	at, err := time.Parse(time.RFC3339, expires)
	if err != nil {
		return "has an expiration that is no time" // as in Kubernetes, what cannot be read has expired
	}
	if !b.now().Before(at) {
		return "has expired"
	}
	return ""
}
