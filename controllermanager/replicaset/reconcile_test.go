package replicaset

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/pods"
)

func set(name string, replicas int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": name}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
	}
}

func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	for _, rs := range plantest.List[*appsv1.ReplicaSet](w, plan.ReplicaSets) {
		out[rs.Name] = Reconcile(Input{
			Kind: plan.ReplicaSets, RS: rs, Pods: plantest.List[*corev1.Pod](w, plan.Pods),
			Taken: func(name string) bool { return w.Exists(plan.Pods, rs.Namespace, name) },
		}, w.Now)
	}
	return out
}

// kubelet runs every pod and removes those that are to go.
func kubelet(w *plantest.World) {
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		switch {
		case pod.DeletionTimestamp != nil:
			w.Remove(plan.Pods, pod.Namespace, pod.Name)
		case pod.Spec.NodeName == "" || !pods.Ready(pod):
			next := pod.DeepCopy()
			next.Spec.NodeName = "node"
			next.Status.Phase = corev1.PodRunning
			next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.Now)}}
			plantest.Put(w, plan.Pods, next)
		}
	}
}

func owned(w *plantest.World, rs *appsv1.ReplicaSet) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if owner.UID(pod) == rs.UID && pods.Active(pod) {
			out = append(out, pod)
		}
	}
	return out
}

// The right number of pods comes to be, whatever write the controller dies after and however old a second one's view is, and
// there are never too many on the way.
func TestScaleUp(t *testing.T) {
	w := plantest.New()
	rs := plantest.Put(w, plan.ReplicaSets, set("web", 5))
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet, Invariant: func(w *plantest.World) error {
		if n := len(owned(w, rs)); n > 5 {
			return fmt.Errorf("%d pods, want at most 5", n)
		}
		return nil
	}}
	end := story.Run(t)
	got := plantest.Get[*appsv1.ReplicaSet](end, plan.ReplicaSets, "ns", "web").Status
	if got.Replicas != 5 || got.ReadyReplicas != 5 || got.AvailableReplicas != 5 || got.FullyLabeledReplicas != 5 || got.ObservedGeneration != 1 {
		t.Errorf("status %+v", got)
	}
	story.Crash(t)
	story.Stale(t, 1, 2, 3, 5)
	story.Lag(t, 20)
}

// A scale-down removes exactly what is too much, never more, whatever write the controller dies after.
func TestScaleDown(t *testing.T) {
	w := plantest.New()
	rs := plantest.Put(w, plan.ReplicaSets, set("web", 6))
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}.Run(t)
	next := plantest.Get[*appsv1.ReplicaSet](w, plan.ReplicaSets, "ns", "web").DeepCopy()
	*next.Spec.Replicas = 2
	plantest.Put(w, plan.ReplicaSets, next)
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet, Invariant: func(w *plantest.World) error {
		if n := len(owned(w, rs)); n < 2 {
			return fmt.Errorf("%d pods, want at least 2", n)
		}
		return nil
	}}
	if n := len(owned(story.Run(t), rs)); n != 2 {
		t.Errorf("%d pods, want 2", n)
	}
	story.Crash(t)
	story.Stale(t, 1, 2, 3)
	story.Lag(t, 20)
}

// Matching orphans are adopted instead of replaced, pods that stopped matching are released and replaced, and other
// controllers' pods are left alone.
func TestAdoptAndRelease(t *testing.T) {
	w := plantest.New()
	rs := plantest.Put(w, plan.ReplicaSets, set("web", 2))
	pod := func(name, app string, ref ...metav1.OwnerReference) {
		plantest.Put(w, plan.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"app": app}, OwnerReferences: ref}})
	}
	yes := true
	pod("orphan", "web")
	pod("strayed", "other", owner.Ref(plan.ReplicaSets, rs))
	pod("foreign", "web", metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "x", UID: "x", Controller: &yes})
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}
	end := story.Run(t)
	if len(owned(end, rs)) != 2 {
		t.Errorf("owns %d pods, want 2", len(owned(end, rs)))
	}
	if got := plantest.Get[*corev1.Pod](end, plan.Pods, "ns", "orphan"); owner.UID(got) != rs.UID {
		t.Error("the orphan was not adopted")
	}
	if got := plantest.Get[*corev1.Pod](end, plan.Pods, "ns", "strayed"); len(got.OwnerReferences) != 0 {
		t.Error("the pod that stopped matching was not released")
	}
	if got := plantest.Get[*corev1.Pod](end, plan.Pods, "ns", "foreign"); owner.UID(got) != "x" {
		t.Error("another controller's pod was touched")
	}
	story.Crash(t)
}

// A ReplicaSet that is being deleted makes and adopts nothing.
func TestDeleting(t *testing.T) {
	w := plantest.New()
	rs := set("web", 3)
	rs.Finalizers = []string{"foregroundDeletion"}
	at := metav1.NewTime(w.Now)
	rs.DeletionTimestamp = &at
	plantest.Put(w, plan.ReplicaSets, rs)
	plantest.Put(w, plan.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "orphan", Labels: map[string]string{"app": "web"}}})
	for _, p := range plans(w) {
		for _, x := range p.Writes {
			if x.Kind == plan.Pods {
				t.Errorf("plans to %s %s", x.Verb, x.ID())
			}
		}
	}
}

// A failed creation becomes a condition that does not change while the failure lasts, and goes with it.
func TestFailureCondition(t *testing.T) {
	w := plantest.New()
	rs := plantest.Put(w, plan.ReplicaSets, set("web", 1))
	in := Input{Kind: plan.ReplicaSets, RS: rs, Taken: func(string) bool { return false }, Failure: &Failure{"FailedCreate", "quota exceeded"}}
	status := func(p plan.Plan) *appsv1.ReplicaSet {
		for _, x := range p.Writes {
			if x.Subresource == "status" {
				return x.Object.(*appsv1.ReplicaSet)
			}
		}
		return nil
	}
	next := status(Reconcile(in, w.Now))
	if next == nil || len(next.Status.Conditions) != 1 || next.Status.Conditions[0].Reason != "FailedCreate" || next.Status.Conditions[0].Message != "quota exceeded" {
		t.Fatalf("status %+v", next)
	}
	in.RS = next
	if again := status(Reconcile(in, w.Now.Add(time.Minute))); again != nil {
		t.Errorf("the same failure is written again: %+v", again.Status)
	}
	in.Failure = nil
	if healed := status(Reconcile(in, w.Now)); healed == nil || len(healed.Status.Conditions) != 0 {
		t.Errorf("the condition stays: %+v", healed)
	}
}

// A pod that is ready but not yet available is looked at again exactly when it will be.
func TestMinReadySeconds(t *testing.T) {
	w := plantest.New()
	rs := set("web", 1)
	rs.Spec.MinReadySeconds = 30
	plantest.Put(w, plan.ReplicaSets, rs)
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}.Run(t)
	w.Advance(10 * time.Second)
	if p := plans(w)["web"]; p.After != 20*time.Second {
		t.Errorf("looks again after %v, want 20s", p.After)
	}
	w.Advance(20 * time.Second)
	end := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}.Run(t)
	if got := plantest.Get[*appsv1.ReplicaSet](end, plan.ReplicaSets, "ns", "web").Status.AvailableReplicas; got != 1 {
		t.Errorf("available %d, want 1", got)
	}
}
