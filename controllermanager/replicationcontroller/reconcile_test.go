package replicationcontroller

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/pods"
	"bareboat.dev/controllermanager/replicaset"
)

func controller(replicas int32) *corev1.ReplicationController {
	labels := map[string]string{"app": "web"}
	return &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: &replicas, Selector: labels, Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
	}
}

func get(w *plantest.World) *corev1.ReplicationController {
	return plantest.Get[*corev1.ReplicationController](w, plan.ReplicationControllers, "ns", "web")
}

func plans(w *plantest.World) map[string]plan.Plan {
	return map[string]plan.Plan{"web": Reconcile(Input{
		RC: get(w), Pods: plantest.List[*corev1.Pod](w, plan.Pods), Taken: func(name string) bool { return w.Exists(plan.Pods, "ns", name) },
	}, w.Now)}
}

// kubelet runs every pod and removes those that are to go.
func kubelet(w *plantest.World) {
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		switch {
		case pod.DeletionTimestamp != nil:
			w.Remove(plan.Pods, pod.Namespace, pod.Name)
		case !pods.Ready(pod):
			next := pod.DeepCopy()
			next.Spec.NodeName, next.Status.Phase = "node", corev1.PodRunning
			next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.Now)}}
			plantest.Put(w, plan.Pods, next)
		}
	}
}

// The right number of pods comes to be and goes, owned by the ReplicationController, with its status, whatever write the
// controller dies after.
func TestScale(t *testing.T) {
	w := plantest.New()
	plantest.Put(w, plan.ReplicationControllers, controller(4))
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet, Invariant: func(w *plantest.World) error {
		if n := len(plantest.List[*corev1.Pod](w, plan.Pods)); n > 4 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	}}
	end := story.Run(t)
	rc := get(end)
	if s := rc.Status; s.Replicas != 4 || s.ReadyReplicas != 4 || s.AvailableReplicas != 4 || s.FullyLabeledReplicas != 4 || s.ObservedGeneration != 1 {
		t.Errorf("status %+v", s)
	}
	for _, pod := range plantest.List[*corev1.Pod](end, plan.Pods) {
		if ref := pod.OwnerReferences[0]; owner.UID(pod) != rc.UID || ref.Kind != "ReplicationController" || ref.APIVersion != "v1" {
			t.Errorf("owner %+v", ref)
		}
	}
	story.Crash(t)
	story.Stale(t, 1, 2, 4)
	story.Lag(t, 10)

	plantest.Put(end, plan.ReplicationControllers, func() *corev1.ReplicationController {
		next := rc.DeepCopy()
		*next.Spec.Replicas = 1
		return next
	}())
	down := plantest.Story{Writes: Controller().Writes, Start: end, Plans: plans, Environment: kubelet}
	if n := len(plantest.List[*corev1.Pod](down.Run(t), plan.Pods)); n != 1 {
		t.Errorf("%d pods, want 1", n)
	}
	down.Crash(t)
}

// A failing creation is a condition, and an event about the ReplicationController itself.
func TestFailure(t *testing.T) {
	w := plantest.New()
	rc := plantest.Put(w, plan.ReplicationControllers, controller(1))
	p := Reconcile(Input{RC: rc, Taken: func(string) bool { return false }, Failure: &replicaset.Failure{Reason: "FailedCreate", Message: "quota exceeded"}}, w.Now)
	said := false
	for _, ev := range p.Events {
		said = said || ev.Reason == "FailedCreate" && ev.About == plan.Object(rc)
	}
	conditions := []corev1.ReplicationControllerCondition(nil)
	for _, x := range p.Writes {
		if next, ok := x.Object.(*corev1.ReplicationController); ok {
			conditions = next.Status.Conditions
		}
	}
	if !said || len(conditions) != 1 || conditions[0].Type != corev1.ReplicationControllerReplicaFailure {
		t.Errorf("events %+v, conditions %+v", p.Events, conditions)
	}
}
