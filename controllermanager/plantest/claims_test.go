package plantest

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// A change of a field that no claim covers is found, one that a claim covers is not.
func TestUnclaimed(t *testing.T) {
	before := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{"a": "1"}}}
	after := before.DeepCopy()
	after.ResourceVersion, after.Annotations["a"], after.Status.Phase = "2", "2", corev1.PodFailed
	for claims, ok := range map[string]bool{"status metadata.annotations": true, "status.phase metadata.annotations[a]": true, "status metadata.annotations[b]": false, "status": false, "spec": false} {
		var list []engine.Claim
		for _, field := range strings.Fields(claims) {
			list = append(list, engine.Claim{Kind: plan.Pods, Field: field})
		}
		if err := unclaimed(list, plan.Pods, before, after); (err == nil) != ok {
			t.Errorf("%s: %v", claims, err)
		}
	}
}

// The model keeps the API's rules: preconditions, status and spec apart, generations, graceful deletion, finalizers.
func TestWorld(t *testing.T) {
	w := New()
	pod := Put(w, plan.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n"}})
	if err := w.Apply(plan.Create(plan.Pods, pod)); err != ErrExists {
		t.Errorf("second creation: %v", err)
	}
	next := pod.DeepCopy()
	next.Spec.Hostname, next.Status.Phase = "h", corev1.PodRunning
	if err := w.Apply(plan.Update(plan.Pods, next)); err != nil {
		t.Fatal(err)
	}
	if got := Get[*corev1.Pod](w, plan.Pods, "ns", "p"); got.Status.Phase != "" || got.Spec.Hostname != "h" || got.Generation != 2 {
		t.Errorf("an update wrote %+v", got)
	}
	if err := w.Apply(plan.UpdateStatus(plan.Pods, next)); err != ErrConflict {
		t.Errorf("old version: %v", err)
	}
	pod = Get[*corev1.Pod](w, plan.Pods, "ns", "p")
	if err := w.Apply(plan.Delete(plan.Pods, pod)); err != nil || Get[*corev1.Pod](w, plan.Pods, "ns", "p").DeletionTimestamp == nil {
		t.Errorf("graceful deletion: %v", err)
	}
	if err := w.Apply(plan.DeleteNow(plan.Pods, Get[*corev1.Pod](w, plan.Pods, "ns", "p"))); err != nil || w.Exists(plan.Pods, "ns", "p") {
		t.Errorf("deletion: %v", err)
	}
	if err := w.Apply(plan.Delete(plan.Pods, pod)); err != ErrNotFound {
		t.Errorf("deletion of what is gone: %v", err)
	}
}
