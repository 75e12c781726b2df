package tokencleaner

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Expired and unreadable tokens go, others stay until their time, and other secrets are not touched.
func TestReconcile(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	token := func(kind corev1.SecretType, expiration string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "t", UID: "u", ResourceVersion: "1"}, Type: kind, Data: map[string][]byte{}}
		if expiration != "" {
			s.Data[expirationKey] = []byte(expiration)
		}
		return s
	}
	for _, c := range []struct {
		kind       corev1.SecretType
		expiration string
		deleted    bool
		after      time.Duration
	}{
		{corev1.SecretTypeBootstrapToken, "2025-12-31T23:59:59Z", true, 0},
		{corev1.SecretTypeBootstrapToken, "tomorrow", true, 0},
		{corev1.SecretTypeBootstrapToken, "2026-01-01T01:00:00Z", false, time.Hour},
		{corev1.SecretTypeBootstrapToken, "", false, 0},
		{corev1.SecretTypeOpaque, "2025-12-31T23:59:59Z", false, 0},
	} {
		p := Reconcile(token(c.kind, c.expiration), now)
		if (len(p.Writes) == 1) != c.deleted || p.After != c.after {
			t.Errorf("%+v: %d writes, looks again after %v", c, len(p.Writes), p.After)
		}
	}
}
