package ephemeral

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// Each ephemeral volume gets a claim that goes with the pod; somebody else's claim of the name is left alone, and named.
func TestReconcile(t *testing.T) {
	template := &corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}}
	source := corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: template}}
	w := plantest.New()
	pod := plantest.Put(w, plan.Pods, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"},
		Spec:       corev1.PodSpec{Volumes: []corev1.Volume{{Name: "one", VolumeSource: source}, {Name: "two", VolumeSource: source}, {Name: "plain"}}},
	})
	plantest.Put(w, plan.PVCs, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p-two"}})
	view := func(w *plantest.World) map[string]plan.Plan {
		return map[string]plan.Plan{"p": Reconcile(plantest.Get[*corev1.Pod](w, plan.Pods, "ns", "p"), func(name string) *corev1.PersistentVolumeClaim {
			return plantest.Get[*corev1.PersistentVolumeClaim](w, plan.PVCs, "ns", name)
		})}
	}
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: view}
	end := story.Run(t)
	one := plantest.Get[*corev1.PersistentVolumeClaim](end, plan.PVCs, "ns", "p-one")
	if one == nil || owner.UID(one) != pod.UID || one.Labels["a"] != "b" {
		t.Errorf("claim %+v", one)
	}
	const want = "ephemeral volume two: PVC ns/p-two was not created for pod ns/p (pod is not owner)"
	if ev := view(end)["p"].Events; len(ev) != 1 || ev[0].Message != want {
		t.Errorf("events %+v", ev)
	}
	story.Crash(t)
	story.Stale(t, 1)
	gone := pod.DeepCopy()
	now := metav1.Now()
	gone.DeletionTimestamp = &now
	if p := Reconcile(gone, func(string) *corev1.PersistentVolumeClaim { return nil }); !p.Empty() {
		t.Errorf("a pod that is going gets %+v", p.Writes)
	}
}
