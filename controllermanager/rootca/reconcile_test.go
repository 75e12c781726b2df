package rootca

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// Every namespace gets the certificates, a changed copy is put right, and namespaces that go get nothing.
func TestReconcile(t *testing.T) {
	w := plantest.New()
	for _, name := range []string{"a", "b", "going"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name == "going" {
			ns.Status.Phase = corev1.NamespaceTerminating
		}
		plantest.Put(w, plan.Namespaces, ns)
	}
	plantest.Put(w, plan.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: Name}, Data: map[string]string{Key: "forged", "more": "x"}})
	story := plantest.Story{Writes: Controller("pem").Writes, Start: w, Plans: func(w *plantest.World) map[string]plan.Plan {
		out := map[string]plan.Plan{}
		for _, ns := range plantest.List[*corev1.Namespace](w, plan.Namespaces) {
			out[ns.Name] = Reconcile(ns, plantest.Get[*corev1.ConfigMap](w, plan.ConfigMaps, ns.Name, Name), "pem")
		}
		return out
	}}
	end := story.Run(t)
	all := plantest.List[*corev1.ConfigMap](end, plan.ConfigMaps)
	if len(all) != 2 || len(all[1].Data) != 1 || all[0].Data[Key] != "pem" || all[1].Data[Key] != "pem" {
		t.Errorf("published:\n%s", end.Dump())
	}
	story.Crash(t)
	story.Stale(t, 1)
}
