package serviceaccount

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A namespace without the account gets one, unless it is going away.
func TestReconcile(t *testing.T) {
	now := metav1.Now()
	for _, c := range []struct {
		ns     corev1.Namespace
		exists bool
		want   int
	}{
		{corev1.Namespace{}, false, 1}, {corev1.Namespace{}, true, 0},
		{corev1.Namespace{Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}, false, 0},
		{corev1.Namespace{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, false, 0},
	} {
		if p := Reconcile(&c.ns, c.exists); len(p.Writes) != c.want {
			t.Errorf("%+v: %d writes", c, len(p.Writes))
		}
	}
}
