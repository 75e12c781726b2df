package disruption

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func podList(ready, unready int) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range ready + unready {
		status := corev1.ConditionTrue
		if i >= ready {
			status = corev1.ConditionFalse
		}
		out = append(out, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(i)},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
		})
	}
	return out
}

func budget(minAvailable, maxUnavailable string) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b", Generation: 3, UID: "b", ResourceVersion: "1"}}
	if minAvailable != "" {
		v := intstr.Parse(minAvailable)
		b.Spec.MinAvailable = &v
	}
	if maxUnavailable != "" {
		v := intstr.Parse(maxUnavailable)
		b.Spec.MaxUnavailable = &v
	}
	return b
}

func sized(n int32) func(*corev1.Pod) (string, int32, error) {
	return func(*corev1.Pod) (string, int32, error) { return "d", n, nil }
}

// What may be evicted follows from what is healthy and what is asked for, in numbers and in per cent.
func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		min, max                           string
		ready, unready                     int
		size                               int32
		allowed, desired, expected, health int32
	}{
		{"2", "", 3, 0, 3, 1, 2, 3, 3},
		{"2", "", 2, 1, 3, 0, 2, 3, 2},
		{"50%", "", 4, 0, 5, 1, 3, 5, 4},
		{"", "1", 3, 0, 3, 1, 2, 3, 3},
		{"", "1", 2, 1, 3, 0, 2, 3, 2},
		{"", "30%", 10, 0, 10, 3, 7, 10, 10},
		{"", "100%", 2, 0, 2, 2, 0, 2, 2},
		{"", "5", 2, 0, 2, 2, 0, 2, 2},
		{"100%", "", 3, 0, 3, 0, 3, 3, 3},
		{"0", "", 0, 0, 0, 0, 0, 0, 0},
	} {
		p := Reconcile(Input{Budget: budget(c.min, c.max), Pods: podList(c.ready, c.unready), Scale: sized(c.size)}, now)
		s := p.Writes[0].Object.(*policyv1.PodDisruptionBudget).Status
		if s.DisruptionsAllowed != c.allowed || s.DesiredHealthy != c.desired || s.ExpectedPods != c.expected || s.CurrentHealthy != c.health || s.ObservedGeneration != 3 {
			t.Errorf("%+v: status %+v", c, s)
		}
		if again := Reconcile(Input{Budget: p.Writes[0].Object.(*policyv1.PodDisruptionBudget), Pods: podList(c.ready, c.unready), Scale: sized(c.size)}, now.Add(time.Minute)); !again.Empty() {
			t.Errorf("%+v: the same status is written again", c)
		}
	}
}

// A granted eviction that cannot be seen yet counts as carried out, for two minutes.
func TestDisruptedPods(t *testing.T) {
	b := budget("1", "")
	b.Status.DisruptedPods = map[string]metav1.Time{"0": metav1.NewTime(now.Add(-time.Minute)), "gone": metav1.NewTime(now)}
	p := Reconcile(Input{Budget: b, Pods: podList(3, 0)}, now)
	s := p.Writes[0].Object.(*policyv1.PodDisruptionBudget).Status
	if s.CurrentHealthy != 2 || s.DisruptionsAllowed != 1 || len(s.DisruptedPods) != 1 || p.After != time.Minute {
		t.Errorf("status %+v, looks again after %v", s, p.After)
	}
	p = Reconcile(Input{Budget: b, Pods: podList(3, 0)}, now.Add(time.Minute))
	if s := p.Writes[0].Object.(*policyv1.PodDisruptionBudget).Status; s.CurrentHealthy != 3 || p.Events[0].Reason != "NotDeleted" {
		t.Errorf("status %+v, events %v", s, p.Events)
	}
}

// What cannot be computed allows nothing and says why.
func TestSyncFailed(t *testing.T) {
	b := budget("", "1")
	b.Status.DisruptionsAllowed = 5
	p := Reconcile(Input{Budget: b, Pods: podList(1, 0), Scale: func(*corev1.Pod) (string, int32, error) { return "", 0, errors.New("no size") }}, now)
	s := p.Writes[0].Object.(*policyv1.PodDisruptionBudget).Status
	if s.DisruptionsAllowed != 0 || s.Conditions[0].Reason != policyv1.SyncFailedReason {
		t.Errorf("status %+v", s)
	}
}
