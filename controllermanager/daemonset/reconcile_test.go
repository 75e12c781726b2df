package daemonset

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/pods"
)

func agent(unavailable, surge string) *appsv1.DaemonSet {
	labels := map[string]string{"app": "agent"}
	u, s := intstr.Parse(unavailable), intstr.Parse(surge)
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "agent"},
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: labels},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &u, MaxSurge: &s}},
			Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
		},
	}
}

func world(set *appsv1.DaemonSet, nodes int) *plantest.World {
	w := plantest.New()
	plantest.Put(w, plan.DaemonSets, set)
	for i := range nodes {
		plantest.Put(w, plan.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i), Labels: map[string]string{"disk": fmt.Sprint(i % 2)}}})
	}
	return w
}

func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	for _, set := range plantest.List[*appsv1.DaemonSet](w, plan.DaemonSets) {
		out[set.Name] = Reconcile(Input{
			Set: set, Nodes: plantest.List[*corev1.Node](w, plan.Nodes), Pods: plantest.List[*corev1.Pod](w, plan.Pods),
			Revisions: plantest.List[*appsv1.ControllerRevision](w, plan.ControllerRevision),
			PodTaken:  func(name string) bool { return w.Exists(plan.Pods, "ns", name) }, RevisionTaken: func(string) bool { return false },
			NotBefore: func(string) time.Time { return time.Time{} },
		}, w.Now)
	}
	return out
}

// others schedule and run pods, one at a time.
func others(w *plantest.World) {
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		switch {
		case pod.DeletionTimestamp != nil:
			w.Remove(plan.Pods, pod.Namespace, pod.Name)
			return
		case pods.Active(pod) && !pods.Ready(pod):
			next := pod.DeepCopy()
			next.Spec.NodeName, next.Status.Phase = target(pod), corev1.PodRunning
			next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.Now)}}
			plantest.Put(w, plan.Pods, next)
			return
		}
	}
}

func where(w *plantest.World) map[string]string {
	out := map[string]string{}
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		out[target(p)] += p.Spec.Containers[0].Image
	}
	return out
}

// Every node that fits has one pod, also from a crash after any write and beside a controller with an old view; nodes that come
// get one, and pods of nodes that stop fitting go.
func TestOnePerNode(t *testing.T) {
	set := agent("1", "0")
	set.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "1"}
	w := world(set, 6)
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: others, Invariant: func(w *plantest.World) error {
		for node, got := range where(w) {
			if got != "v1" {
				return fmt.Errorf("%s has %s", node, got)
			}
		}
		return nil
	}}
	end := story.Run(t)
	if got := fmt.Sprint(where(end)); got != "map[n1:v1 n3:v1 n5:v1]" {
		t.Errorf("pods %s", got)
	}
	s := plantest.Get[*appsv1.DaemonSet](end, plan.DaemonSets, "ns", "agent").Status
	if s.DesiredNumberScheduled != 3 || s.CurrentNumberScheduled != 3 || s.NumberReady != 3 || s.NumberAvailable != 3 || s.UpdatedNumberScheduled != 3 || s.NumberMisscheduled != 0 {
		t.Errorf("status %+v", s)
	}
	story.Crash(t)
	story.Stale(t, 1, 2, 4)
	story.Lag(t, 5)
	plantest.Put(end, plan.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n0", Labels: map[string]string{"disk": "1"}}})
	plantest.Put(end, plan.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	end = plantest.Story{Writes: Controller().Writes, Start: end, Plans: plans, Environment: others}.Run(t)
	if got := fmt.Sprint(where(end)); got != "map[n0:v1 n3:v1 n5:v1]" {
		t.Errorf("pods %s", got)
	}
}

// Taints keep new pods away unless tolerated, NoExecute ones take running pods too, and the node's own troubles do neither.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		taint     corev1.Taint
		run, stay bool
	}{
		{corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoSchedule}, false, true},
		{corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoExecute}, false, false},
		{corev1.Taint{Key: "x", Effect: corev1.TaintEffectPreferNoSchedule}, true, true},
		{corev1.Taint{Key: "mine", Effect: corev1.TaintEffectNoExecute}, true, true},
		{corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}, true, true},
		{corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}, true, true},
		{corev1.Taint{Key: corev1.TaintNodeNetworkUnavailable, Effect: corev1.TaintEffectNoSchedule}, false, true},
	} {
		set := agent("1", "0")
		set.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "mine", Operator: corev1.TolerationOpExists}}
		run, stay := Fits(set, &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{c.taint}}})
		if run != c.run || stay != c.stay {
			t.Errorf("%v: run %v, stay %v", c.taint, run, stay)
		}
	}
}

// A rollout misses no more pods than maxUnavailable, has no more than maxSurge extra, and ends on the new template; from a crash
// after any write and with lagging mirrors too.
func TestRollingUpdate(t *testing.T) {
	for _, c := range []struct {
		unavailable, surge string
		least, most        int
	}{{"1", "0", 3, 4}, {"50%", "0", 2, 4}, {"0", "1", 4, 5}, {"0", "50%", 4, 6}} {
		t.Run(c.unavailable+" "+c.surge, func(t *testing.T) {
			w := plantest.Story{Writes: Controller().Writes, Start: world(agent(c.unavailable, c.surge), 4), Plans: plans, Environment: others}.Run(t)
			set := plantest.Get[*appsv1.DaemonSet](w, plan.DaemonSets, "ns", "agent").DeepCopy()
			set.Spec.Template.Spec.Containers[0].Image = "v2"
			plantest.Put(w, plan.DaemonSets, set)
			story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: others, Invariant: func(w *plantest.World) error {
				ready, there := 0, 0
				for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
					if p.DeletionTimestamp != nil {
						continue
					}
					there++
					if pods.Ready(p) {
						ready++
					}
				}
				if ready < c.least || there > c.most {
					return fmt.Errorf("%d ready of %d, want at least %d of at most %d", ready, there, c.least, c.most)
				}
				return nil
			}}
			end := story.Run(t)
			if got := fmt.Sprint(where(end)); got != "map[n0:v2 n1:v2 n2:v2 n3:v2]" {
				t.Errorf("pods %s", got)
			}
			oneRevision(t, end)
			story.Crash(t)
			story.Lag(t, 3)
		})
	}
}

// oneRevision requires that the label of each pod finds its revision, by which clients tell what a pod runs.
func oneRevision(t *testing.T, w *plantest.World) {
	t.Helper()
	const label = "controller-revision-hash"
	revisions := map[string]int{}
	for _, rev := range plantest.List[*appsv1.ControllerRevision](w, plan.ControllerRevision) {
		revisions[rev.Labels[label]]++
	}
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if hash := p.Labels[label]; hash == "" || revisions[hash] != 1 {
			t.Errorf("pod %s is of revision %q; there are %v", p.Name, hash, revisions)
		}
	}
}

// A failed pod is replaced when its back-off is over, and an event says so; a pod for a node that is gone is withdrawn.
func TestFailedAndLost(t *testing.T) {
	w := plantest.Story{Writes: Controller().Writes, Start: world(agent("1", "0"), 2), Plans: plans, Environment: others}.Run(t)
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		next := p.DeepCopy()
		if target(p) == "n0" {
			next.Status.Phase = corev1.PodFailed
		} else {
			next.Spec.NodeName, next.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
		}
		plantest.Put(w, plan.Pods, next)
	}
	w.Remove(plan.Nodes, "", "n1")
	p := plans(w)["agent"]
	if len(p.Events) == 0 || p.Events[0].Reason != "FailedDaemonPod" {
		t.Errorf("events %v", p.Events)
	}
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: others}.Run(t)
	if got := fmt.Sprint(where(w)); got != "map[n0:v1]" {
		t.Errorf("pods %s", got)
	}
}
