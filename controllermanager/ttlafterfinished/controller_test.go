package ttlafterfinished

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Job goes when it has been finished for its TTL, with everything it owns, and not before.
func TestReconcile(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ttl := int32(100)
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j", UID: "u", ResourceVersion: "1"}, Spec: batchv1.JobSpec{TTLSecondsAfterFinished: &ttl}}
	if p := Reconcile(j, now); !p.Empty() || p.After != 0 {
		t.Errorf("running: %+v", p)
	}
	j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now)}}
	if p := Reconcile(j, now.Add(40*time.Second)); !p.Empty() || p.After != 60*time.Second {
		t.Errorf("after 40s: %d writes, looks again after %v", len(p.Writes), p.After)
	}
	if p := Reconcile(j, now.Add(100*time.Second)); len(p.Writes) != 1 {
		t.Errorf("after 100s: %+v", p)
	}
}
