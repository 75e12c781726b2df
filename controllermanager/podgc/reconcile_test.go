package podgc

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// Each pod that nobody else will end goes, after its reason could be read; all others stay. From a crash after any write too.
func TestReconcile(t *testing.T) {
	w := plantest.New()
	deleted := metav1.NewTime(w.Now)
	pod := func(name, node string, phase corev1.PodPhase, deleting bool, age time.Duration) {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.NewTime(w.Now.Add(-age))},
			Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase},
		}
		if deleting {
			p.DeletionTimestamp = &deleted
		}
		plantest.Put(w, plan.Pods, p)
	}
	node := func(name string, ready corev1.ConditionStatus, taints ...corev1.Taint) {
		plantest.Put(w, plan.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: taints}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}})
	}
	node("up", corev1.ConditionTrue)
	node("out", corev1.ConditionUnknown, corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
	pod("running", "up", corev1.PodRunning, false, 0)
	pod("terminating", "up", corev1.PodRunning, true, 0)
	pod("pending", "", corev1.PodPending, false, 0)
	pod("gone-unscheduled", "", corev1.PodPending, true, 0)
	pod("gone-orphan", "lost", corev1.PodRunning, false, 0)
	pod("young-orphan", "just-lost", corev1.PodRunning, false, 0)
	pod("gone-out", "out", corev1.PodRunning, true, 0)
	pod("still-out", "out", corev1.PodRunning, false, 0)
	for i := range 4 {
		name := fmt.Sprintf("done-%d", i)
		if i >= 2 {
			name = "gone-" + name
		}
		pod(name, "up", corev1.PodSucceeded, false, time.Duration(i)*time.Hour)
	}
	story := plantest.Story{Writes: Controller(0).Writes, Start: w, Plans: func(w *plantest.World) map[string]plan.Plan {
		return map[string]plan.Plan{"": Reconcile(Input{
			Pods: plantest.List[*corev1.Pod](w, plan.Pods), Threshold: 2,
			Node:    func(name string) *corev1.Node { return plantest.Get[*corev1.Node](w, plan.Nodes, "", name) },
			Missing: map[string]time.Time{"lost": w.Now.Add(-Quarantine), "just-lost": w.Now.Add(-Quarantine / 2)},
		}, w.Now)}
	}}
	end := story.Run(t)
	var names []string
	for _, p := range plantest.List[*corev1.Pod](end, plan.Pods) {
		names = append(names, p.Name)
	}
	if got := fmt.Sprint(names); got != "[done-0 done-1 pending running still-out terminating young-orphan]" {
		t.Errorf("left %s", got)
	}
	story.Crash(t)
	story.Stale(t, 1, 2)
}

// TestUnscheduledIsFailed shows that a pod which was deleted before it had a node ends as failed, not as disrupted: its Job, whose finalizer
// holds it, waits for the outcome.
func TestUnscheduledIsFailed(t *testing.T) {
	now := time.Unix(1000, 0)
	deleted := metav1.NewTime(now)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", DeletionTimestamp: &deleted, Finalizers: []string{"batch.kubernetes.io/job-tracking"}},
		Status: corev1.PodStatus{Phase: corev1.PodPending}}
	got := Reconcile(Input{Pods: []*corev1.Pod{pod}, Node: func(string) *corev1.Node { return nil }}, now)
	if len(got.Writes) != 1 {
		t.Fatalf("%+v", got.Writes)
	}
	if p, ok := got.Writes[0].Object.(*corev1.Pod); !ok || p.Status.Phase != corev1.PodFailed || len(p.Status.Conditions) != 0 {
		t.Errorf("%+v", got.Writes[0])
	}
}
