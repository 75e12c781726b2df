package loop

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestReportOfAGeneration shows that a condition says which generation of the pod could not be placed, and is written again for the next.
func TestReportOfAGeneration(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Generation: 3}}
	r := newReports()
	r.add(p, "no room", "")
	if got := string(conditionPatch(r.waiting["u"], metav1.Time{})); !strings.Contains(got, `"observedGeneration":3`) {
		t.Error(got)
	}
	p.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "no room", ObservedGeneration: 3,
	}}
	r.drop("u")
	r.add(p, "no room", "")
	if len(r.waiting) != 0 {
		t.Error("what the pod says already is said again")
	}
	p.Generation = 4
	r.add(p, "no room", "")
	if len(r.waiting) != 1 {
		t.Error("nothing is said of the next generation")
	}
}
