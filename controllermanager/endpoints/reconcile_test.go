package endpoints

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

func pod(i int, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("p%04d", i)},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.0.%d.%d", i/250, i%250), Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
}

func world(pods ...*corev1.Pod) *plantest.World {
	w := plantest.New()
	plantest.Put(w, plan.Services, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	})
	for _, p := range pods {
		plantest.Put(w, plan.Pods, p)
	}
	return w
}

func get(w *plantest.World) *corev1.Endpoints {
	return plantest.Get[*corev1.Endpoints](w, plan.Endpoints, "ns", "web")
}

func plans(w *plantest.World) map[string]plan.Plan {
	return map[string]plan.Plan{"web": Reconcile(plantest.Get[*corev1.Service](w, plan.Services, "ns", "web"), plantest.List[*corev1.Pod](w, plan.Pods), get(w))}
}

// Ready and not ready pods stand apart, terminating and finished ones nowhere; the object goes with its service.
func TestReconcile(t *testing.T) {
	terminating, finished := pod(3, true), pod(4, true)
	now := metav1.Now()
	terminating.DeletionTimestamp, finished.Status.Phase = &now, corev1.PodSucceeded
	w := world(pod(2, true), pod(1, false), terminating, finished, pod(5, true))
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}
	end := story.Run(t)
	s := get(end).Subsets
	if len(s) != 1 || len(s[0].Addresses) != 2 || len(s[0].NotReadyAddresses) != 1 || s[0].Addresses[0].TargetRef.Name != "p0002" || s[0].Ports[0].Port != 80 {
		t.Errorf("subsets %+v", s)
	}
	story.Crash(t)
	story.Stale(t, 1)
	end.Remove(plan.Services, "ns", "web")
	if end = (plantest.Story{Writes: Controller().Writes, Start: end, Plans: plans}).Run(t); get(end) != nil {
		t.Error("the object outlives its service")
	}
}

// Endpoints made by hand for a service that does not exist are left alone.
func TestForeign(t *testing.T) {
	w := plantest.New()
	plantest.Put(w, plan.Endpoints, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}})
	if p := plans(w)["web"]; !p.Empty() {
		t.Errorf("plans %+v", p)
	}
}

// Beyond a thousand addresses ready ones come first, and an annotation says that some are missing.
func TestCapacity(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 1200 {
		pods = append(pods, pod(i, i%2 == 1))
	}
	end := plantest.Story{Writes: Controller().Writes, Start: world(pods...), Plans: plans}.Run(t)
	e := get(end)
	if len(e.Subsets[0].Addresses) != 600 || len(e.Subsets[0].NotReadyAddresses) != 400 || e.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("%d ready, %d not, annotations %v", len(e.Subsets[0].Addresses), len(e.Subsets[0].NotReadyAddresses), e.Annotations)
	}
}
