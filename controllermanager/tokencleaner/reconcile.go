// Package tokencleaner deletes bootstrap tokens when their time is over. A token that a machine joins with is a Secret of type
// bootstrap.kubernetes.io/token in kube-system; its "expiration" is an RFC 3339 time.
package tokencleaner

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/controllermanager/plan"
)

const (
	namespace     = "kube-system"
	expirationKey = "expiration"
)

// Reconcile plans the deletion of a token, or when to look again. A time that cannot be read counts as over: a token must not
// live for ever by a typing error.
func Reconcile(s *corev1.Secret, now time.Time) plan.Plan {
	var p plan.Plan
	value, ok := s.Data[expirationKey]
	if s.Type != corev1.SecretTypeBootstrapToken || !ok || len(value) == 0 || s.DeletionTimestamp != nil {
		return p
	}
	if at, err := time.Parse(time.RFC3339, string(value)); err == nil && at.After(now) {
		p.LookAgain(now, at)
		return p
	}
	p.Add(plan.Delete(plan.Secrets, s))
	return p
}
