package nodelifecycle

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/pods"
)

func pod(name string, tolerations ...corev1.Toleration) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{NodeName: "n", Tolerations: tolerations},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func seconds(n int64) *int64 { return &n }

// Pods leave a tainted node when their tolerations end, and say why before they go; from a crash after any write too.
func TestEvict(t *testing.T) {
	w := plantest.New()
	at := metav1.NewTime(w.Now)
	node := plantest.Put(w, plan.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{
		{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at}, {Key: "other", Effect: corev1.TaintEffectNoSchedule},
	}}})
	plantest.Put(w, plan.Pods, pod("intolerant"))
	plantest.Put(w, plan.Pods, pod("forever", corev1.Toleration{Operator: corev1.TolerationOpExists}))
	plantest.Put(w, plan.Pods, pod("five-minutes", corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, TolerationSeconds: seconds(300)}))
	plantest.Put(w, plan.Pods, pod("negative", corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, TolerationSeconds: seconds(-1)}))
	evict := func(w *plantest.World) map[string]plan.Plan {
		return map[string]plan.Plan{"evict": Evict(node, plantest.List[*corev1.Pod](w, plan.Pods), func(corev1.Taint) time.Time { return w.Now }, w.Now)}
	}
	gone := func(w *plantest.World, name string) bool {
		p := plantest.Get[*corev1.Pod](w, plan.Pods, "ns", name)
		return p.DeletionTimestamp != nil && pods.Condition(p, corev1.DisruptionTarget).Reason == "DeletionByTaintManager"
	}
	story := plantest.Story{Start: w, Plans: evict}
	end := story.Run(t)
	if !gone(end, "intolerant") || !gone(end, "negative") || plantest.Get[*corev1.Pod](end, plan.Pods, "ns", "five-minutes").DeletionTimestamp != nil {
		t.Errorf("after no time:\n%s", end.Dump())
	}
	if after := evict(end)["evict"].After; after != 300*time.Second {
		t.Errorf("looks again after %v, want 300s", after)
	}
	story.Crash(t)
	story.Stale(t, 1, 2)
	end.Advance(300 * time.Second)
	end = plantest.Story{Start: end, Plans: evict}.Run(t)
	if !gone(end, "five-minutes") || plantest.Get[*corev1.Pod](end, plan.Pods, "ns", "forever").DeletionTimestamp != nil {
		t.Errorf("after five minutes:\n%s", end.Dump())
	}
}

// Pods of a node whose kubelet is silent stop being ready, once.
func TestUnready(t *testing.T) {
	w := plantest.New()
	plantest.Put(w, plan.Pods, pod("p"))
	node := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}}
	end := plantest.Story{Start: w, Plans: func(w *plantest.World) map[string]plan.Plan {
		return map[string]plan.Plan{"": Unready(node, plantest.List[*corev1.Pod](w, plan.Pods), w.Now)}
	}}.Run(t)
	if pods.Ready(plantest.Get[*corev1.Pod](end, plan.Pods, "ns", "p")) {
		t.Error("the pod is still ready")
	}
	node.Status.Conditions[0].Status = corev1.ConditionFalse
	if p := Unready(node, plantest.List[*corev1.Pod](w, plan.Pods), w.Now); !p.Empty() {
		t.Error("a kubelet that speaks is overruled")
	}
}

// Tolerations match as the API documents them.
func TestTolerates(t *testing.T) {
	taint := &corev1.Taint{Key: "k", Value: "5", Effect: corev1.TaintEffectNoExecute}
	for _, c := range []struct {
		tol  corev1.Toleration
		want bool
	}{
		{corev1.Toleration{Operator: corev1.TolerationOpExists}, true},
		{corev1.Toleration{Key: "k", Value: "5"}, true},
		{corev1.Toleration{Key: "k", Value: "6"}, false},
		{corev1.Toleration{Key: "other", Operator: corev1.TolerationOpExists}, false},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}, false},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpLt, Value: "6"}, true},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpGt, Value: "6"}, false},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpGt, Value: "x"}, false},
	} {
		if got := pods.Tolerates(&c.tol, taint); got != c.want {
			t.Errorf("%+v: %v", c.tol, got)
		}
	}
}
