package authn

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// secretMap is Secrets by name.
type secretMap map[string]*corev1.Secret

func (m secretMap) Secret(_ context.Context, namespace, name string) (*corev1.Secret, bool, error) {
	s, ok := m[namespace+"/"+name]
	return s, ok, nil
}

// A bootstrap token is good exactly if its Secret says so: type, id, secret, usage, expiration and groups.
func TestBootstrapTokens(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	secret := func(change func(*corev1.Secret)) *corev1.Secret {
		s := &corev1.Secret{Type: "bootstrap.kubernetes.io/token", Data: map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true"),
			"expiration": []byte("2026-01-02T03:04:06Z"), "auth-extra-groups": []byte("system:bootstrappers:workers, system:bootstrappers:x"),
		}}
		if change != nil {
			change(s)
		}
		return s
	}
	set := func(key, value string) *corev1.Secret {
		return secret(func(s *corev1.Secret) { s.Data[key] = []byte(value) })
	}
	for name, tc := range map[string]struct {
		secret *corev1.Secret
		token  string
		ok     bool
	}{
		"good":             {secret(nil), "abcdef.0123456789abcdef", true},
		"wrong secret":     {secret(nil), "abcdef.0123456789abcdee", false},
		"no such id":       {secret(nil), "abcdeg.0123456789abcdef", false},
		"expired":          {set("expiration", "2026-01-02T03:04:05Z"), "abcdef.0123456789abcdef", false},
		"no time":          {set("expiration", "tomorrow"), "abcdef.0123456789abcdef", false},
		"another usage":    {set("usage-bootstrap-authentication", "yes"), "abcdef.0123456789abcdef", false},
		"another id":       {set("token-id", "fedcba"), "abcdef.0123456789abcdef", false},
		"a foreign group":  {set("auth-extra-groups", "system:masters"), "abcdef.0123456789abcdef", false},
		"another type":     {secret(func(s *corev1.Secret) { s.Type = "Opaque" }), "abcdef.0123456789abcdef", false},
		"no secret at all": {set("token-secret", ""), "abcdef.0123456789abcdef", false},
	} {
		b := NewBootstrapTokens(secretMap{"kube-system/bootstrap-token-abcdef": tc.secret}, func() time.Time { return now })
		id, ok, err := b.Token(t.Context(), tc.token)
		if ok != tc.ok || ok != (err == nil) || err != nil && !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: %v %v", name, ok, err)
		}
		if ok && (id.Name != "system:bootstrap:abcdef" ||
			!slices.Equal(id.Groups, []string{"system:bootstrappers", "system:bootstrappers:workers", "system:bootstrappers:x", "system:authenticated"})) {
			t.Errorf("%s: %+v", name, id)
		}
	}
	b := NewBootstrapTokens(secretMap{}, time.Now)
	if _, ok, err := b.Token(t.Context(), "a.b.c"); ok || err != nil {
		t.Errorf("a token of another kind: %v %v", ok, err)
	}
}
