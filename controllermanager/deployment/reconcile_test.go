package deployment

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/pods"
	"bareboat.dev/controllermanager/replicaset"
)

func web(replicas int32, surge, unavailable string) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	limit, deadline := int32(10), int32(600)
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, RevisionHistoryLimit: &limit, ProgressDeadlineSeconds: &deadline,
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
		},
	}
}

// plans are those of the Deployment and the ReplicaSet controller together.
func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	for _, d := range plantest.List[*appsv1.Deployment](w, plan.Deployments) {
		out["deployment "+d.Name] = Reconcile(input(w, d), w.Now)
	}
	for _, rs := range plantest.List[*appsv1.ReplicaSet](w, plan.ReplicaSets) {
		out["replicaset "+rs.Name] = replicaset.Reconcile(replicaset.Input{
			RS: rs, Pods: plantest.List[*corev1.Pod](w, plan.Pods), Taken: func(name string) bool { return w.Exists(plan.Pods, "ns", name) },
		}, w.Now)
	}
	return out
}

func input(w *plantest.World, d *appsv1.Deployment) Input {
	return Input{
		Deployment: d, ReplicaSets: plantest.List[*appsv1.ReplicaSet](w, plan.ReplicaSets),
		NameTaken: func(name string) *appsv1.ReplicaSet {
			return plantest.Get[*appsv1.ReplicaSet](w, plan.ReplicaSets, "ns", name)
		},
		OldPodsRunning: func(old []*appsv1.ReplicaSet) bool {
			for _, rs := range old {
				for _, pod := range podsOf(w, rs) {
					if !pods.Finished(pod) {
						return true
					}
				}
			}
			return false
		},
	}
}

func podsOf(w *plantest.World, rs *appsv1.ReplicaSet) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if owner.UID(pod) == rs.UID {
			out = append(out, pod)
		}
	}
	return out
}

// kubelet makes pods ready one at a time, except those of an image called "broken", and removes those that are to go.
func kubelet(w *plantest.World) {
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if pod.DeletionTimestamp != nil {
			w.Advance(time.Second)
			w.Remove(plan.Pods, pod.Namespace, pod.Name)
			return
		}
	}
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if !pods.Ready(pod) && pod.Spec.Containers[0].Image != "broken" {
			w.Advance(time.Second)
			next := pod.DeepCopy()
			next.Spec.NodeName, next.Status.Phase = "node", corev1.PodRunning
			next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.Now)}}
			plantest.Put(w, plan.Pods, next)
			return
		}
	}
}

func get(w *plantest.World) *appsv1.Deployment {
	return plantest.Get[*appsv1.Deployment](w, plan.Deployments, "ns", "web")
}

func edit(w *plantest.World, f func(*appsv1.Deployment)) {
	d := get(w).DeepCopy()
	f(d)
	plantest.Put(w, plan.Deployments, d)
}

func rolledOut(t *testing.T, d *appsv1.Deployment) *plantest.World {
	t.Helper()
	w := plantest.New()
	plantest.Put(w, plan.Deployments, d)
	return plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
}

func setOf(w *plantest.World, image string) *appsv1.ReplicaSet {
	for _, rs := range plantest.List[*appsv1.ReplicaSet](w, plan.ReplicaSets) {
		if rs.Spec.Template.Spec.Containers[0].Image == image {
			return rs
		}
	}
	return nil
}

func reason(w *plantest.World, t appsv1.DeploymentConditionType) string {
	if c := find(get(w).Status.Conditions, t); c != nil {
		return string(c.Status) + " " + c.Reason
	}
	return ""
}

// A new Deployment gets one ReplicaSet, its pods, the first revision, and a status that says so.
func TestFirstRollout(t *testing.T) {
	w := rolledOut(t, web(3, "25%", "25%"))
	d, rs := get(w), setOf(w, "v1")
	s := d.Status
	if s.Replicas != 3 || s.UpdatedReplicas != 3 || s.ReadyReplicas != 3 || s.AvailableReplicas != 3 || s.UnavailableReplicas != 0 || s.ObservedGeneration != 1 {
		t.Errorf("status %+v", s)
	}
	if got := reason(w, appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
		t.Errorf("Progressing %s", got)
	}
	if got := reason(w, appsv1.DeploymentAvailable); got != "True MinimumReplicasAvailable" {
		t.Errorf("Available %s", got)
	}
	if d.Annotations[RevisionAnnotation] != "1" || rs.Annotations[RevisionAnnotation] != "1" || rs.Annotations[MaxReplicasAnnotation] != "4" {
		t.Errorf("annotations %v and %v", d.Annotations, rs.Annotations)
	}
	hash := rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	if hash == "" || rs.Name != "web-"+hash || rs.Spec.Selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] != hash {
		t.Errorf("ReplicaSet %s with labels %v", rs.Name, rs.Labels)
	}
}

// During a rolling update there are never more pods than replicas+maxSurge nor fewer available ones than
// replicas-maxUnavailable, it ends with the new template only, and it does so from a crash after any write and with mirrors
// that lag.
func TestRollingUpdate(t *testing.T) {
	for _, c := range []struct {
		replicas           int32
		surge, unavailable string
	}{{3, "1", "0"}, {3, "0", "1"}, {4, "25%", "25%"}, {2, "100%", "0"}, {3, "0", "100%"}} {
		t.Run(fmt.Sprintf("%d pods, surge %s, unavailable %s", c.replicas, c.surge, c.unavailable), func(t *testing.T) {
			w := rolledOut(t, web(c.replicas, c.surge, c.unavailable))
			edit(w, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
			d := get(w)
			most, least := int(c.replicas+MaxSurge(d)), int(c.replicas-MaxUnavailable(d))
			bounds := func(most int) func(w *plantest.World) error {
				return func(w *plantest.World) error {
					there, available := 0, 0
					for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
						if pods.Active(pod) {
							there++
							if pods.Ready(pod) {
								available++
							}
						}
					}
					if there > most || available < least {
						return fmt.Errorf("%d pods, %d available; want at most %d and at least %d", there, available, most, least)
					}
					return nil
				}
			}
			story := plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet, Invariant: bounds(most)}
			end := story.Run(t)
			if v1, v2 := setOf(end, "v1"), setOf(end, "v2"); *v1.Spec.Replicas != 0 || *v2.Spec.Replicas != c.replicas || v2.Annotations[RevisionAnnotation] != "2" {
				t.Errorf("old %d, new %d, revision %s", *v1.Spec.Replicas, *v2.Spec.Replicas, v2.Annotations[RevisionAnnotation])
			}
			story.Crash(t)
			// What may be there is counted in what ReplicaSets ask for, so a ReplicaSet that is late may exceed it; what must be
			// available is never missed.
			story.Invariant = bounds(2 * most)
			story.Lag(t, 2)
		})
	}
}

// Recreate stops every old pod before it starts a new one, and waits for those that take their time.
func TestRecreate(t *testing.T) {
	d := web(3, "0", "0")
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	w := rolledOut(t, d)
	edit(w, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
	story := plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet, Invariant: func(w *plantest.World) error {
		images := map[string]bool{}
		for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
			images[pod.Spec.Containers[0].Image] = true
		}
		if len(images) > 1 {
			return fmt.Errorf("old and new pods at the same time")
		}
		return nil
	}}
	end := story.Run(t)
	if v2 := setOf(end, "v2"); v2 == nil || v2.Status.AvailableReplicas != 3 {
		t.Errorf("new ReplicaSet %+v", v2)
	}
	story.Crash(t)
}

// Going back to an old template uses its ReplicaSet again, gives it the newest revision and remembers its old one.
func TestRollback(t *testing.T) {
	w := rolledOut(t, web(2, "1", "0"))
	story := func(image string) {
		edit(w, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
		w = plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
	}
	story("v2")
	story("v1")
	rs := setOf(w, "v1")
	if len(plantest.List[*appsv1.ReplicaSet](w, plan.ReplicaSets)) != 2 || *rs.Spec.Replicas != 2 {
		t.Fatalf("ReplicaSets:\n%s", w.Dump())
	}
	if rs.Annotations[RevisionAnnotation] != "3" || rs.Annotations[RevisionHistoryAnnotation] != "1" || get(w).Annotations[RevisionAnnotation] != "3" {
		t.Errorf("revisions %v", rs.Annotations)
	}
	if got := reason(w, appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
		t.Errorf("Progressing %s", got)
	}
}

// The oldest revisions beyond the limit are deleted once the rollout is complete.
func TestHistoryLimit(t *testing.T) {
	d := web(1, "1", "0")
	*d.Spec.RevisionHistoryLimit = 2
	w := rolledOut(t, d)
	for i := 2; i <= 5; i++ {
		edit(w, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("v%d", i) })
		w = plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
	}
	var left []string
	for _, rs := range plantest.List[*appsv1.ReplicaSet](w, plan.ReplicaSets) {
		left = append(left, rs.Annotations[RevisionAnnotation])
	}
	if len(left) != 3 || setOf(w, "v3") == nil || setOf(w, "v4") == nil || setOf(w, "v5") == nil {
		t.Errorf("revisions %v are left", left)
	}
}

// A rollout that makes no progress for longer than its deadline says so, keeps the old pods that it must, and recovers.
func TestProgressDeadline(t *testing.T) {
	w := rolledOut(t, web(3, "1", "0"))
	w.Advance(time.Hour)
	edit(w, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "broken" })
	w = plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if got := reason(w, appsv1.DeploymentProgressing); got != "True ReplicaSetUpdated" {
		t.Errorf("Progressing %s", got)
	}
	p := plans(w)["deployment web"]
	if p.After < 599*time.Second || p.After > 602*time.Second {
		t.Errorf("looks again after %v, want about 600s", p.After)
	}
	w.Advance(p.After)
	w = plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if got := reason(w, appsv1.DeploymentProgressing); got != "False ProgressDeadlineExceeded" {
		t.Errorf("Progressing %s", got)
	}
	if v1 := setOf(w, "v1"); *v1.Spec.Replicas != 3 {
		t.Errorf("%d old pods, want 3", *v1.Spec.Replicas)
	}
	edit(w, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v3" })
	w = plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if got := reason(w, appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
		t.Errorf("Progressing %s", got)
	}
}

// A paused Deployment rolls nothing out but follows a change of size; resumed, it goes on.
func TestPause(t *testing.T) {
	w := rolledOut(t, web(2, "1", "0"))
	edit(w, func(d *appsv1.Deployment) {
		d.Spec.Paused = true
		d.Spec.Template.Spec.Containers[0].Image = "v2"
		*d.Spec.Replicas = 4
	})
	w = plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if setOf(w, "v2") != nil || *setOf(w, "v1").Spec.Replicas != 4 {
		t.Errorf("rolled out while paused:\n%s", w.Dump())
	}
	if got := reason(w, appsv1.DeploymentProgressing); got != "Unknown DeploymentPaused" {
		t.Errorf("Progressing %s", got)
	}
	edit(w, func(d *appsv1.Deployment) { d.Spec.Paused = false })
	w = plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if v2 := setOf(w, "v2"); v2 == nil || *v2.Spec.Replicas != 4 {
		t.Errorf("did not go on:\n%s", w.Dump())
	}
	if got := reason(w, appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
		t.Errorf("Progressing %s", got)
	}
}

// A change of size in the middle of a rollout is spread over the ReplicaSets in proportion to their sizes; the sums and shares
// are those of upstream's documentation example.
func TestProportionalScaling(t *testing.T) {
	for _, c := range []struct {
		name       string
		sizes      []int32 // old first, current last
		from, to   int32
		surge      string
		want       []int32
		annotation int32
	}{
		{"documentation", []int32{8, 5}, 10, 15, "3", []int32{11, 7}, 13},
		{"grow evenly", []int32{5, 5}, 10, 12, "0", []int32{6, 6}, 10},
		{"shrink evenly", []int32{5, 5}, 10, 6, "0", []int32{3, 3}, 10},
		{"the rest goes to the newest", []int32{5, 5, 5}, 15, 20, "0", []int32{6, 7, 7}, 15},
		{"to nothing", []int32{5, 5}, 10, 0, "5", []int32{0, 0}, 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := web(c.to, c.surge, "2")
			d.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("v%d", len(c.sizes))
			w := plantest.New()
			d = plantest.Put(w, plan.Deployments, d)
			for i, size := range c.sizes {
				template := d.Spec.Template.DeepCopy()
				template.Spec.Containers[0].Image = fmt.Sprintf("v%d", i+1)
				plantest.Put(w, plan.ReplicaSets, &appsv1.ReplicaSet{
					ObjectMeta: metav1.ObjectMeta{
						Namespace: "ns", Name: fmt.Sprintf("web-%d", i), Labels: d.Spec.Selector.MatchLabels,
						CreationTimestamp: metav1.NewTime(w.Now.Add(time.Duration(i) * time.Hour)), OwnerReferences: []metav1.OwnerReference{owner.Ref(plan.Deployments, d)},
						Annotations: map[string]string{RevisionAnnotation: strconv.Itoa(i + 1), DesiredReplicasAnnotation: strconv.Itoa(int(c.from)), MaxReplicasAnnotation: strconv.Itoa(int(c.annotation))},
					},
					Spec: appsv1.ReplicaSetSpec{Replicas: &size, Selector: d.Spec.Selector, Template: *template},
				})
			}
			p := Reconcile(input(w, d), w.Now)
			for _, x := range p.Writes {
				if err := w.Apply(x); err != nil {
					t.Fatal(err)
				}
			}
			var got []int32
			for _, rs := range plantest.List[*appsv1.ReplicaSet](w, plan.ReplicaSets) {
				got = append(got, *rs.Spec.Replicas)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%v become %v, want %v", c.sizes, got, c.want)
			}
		})
	}
}

// A ReplicaSet of another owner under the name that the template hashes to raises the collision count, which leads to
// another name.
func TestCollision(t *testing.T) {
	d := web(1, "1", "0")
	w := plantest.New()
	plantest.Put(w, plan.Deployments, d)
	name := "web-" + TemplateHash(&d.Spec.Template, nil)
	one := int32(0)
	plantest.Put(w, plan.ReplicaSets, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"app": "other"}},
		Spec:       appsv1.ReplicaSetSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}}},
	})
	w = plantest.Story{Writes: append(Controller().Writes, replicaset.Controller().Writes...), Start: w, Plans: plans, Environment: kubelet}.Run(t)
	s := get(w).Status
	if s.CollisionCount == nil || *s.CollisionCount != 1 || s.AvailableReplicas != 1 {
		t.Errorf("status %+v", s)
	}
}

// maxSurge is rounded up and maxUnavailable down, and both zero means that one pod may be unavailable.
func TestFenceposts(t *testing.T) {
	for _, c := range []struct {
		replicas                   int32
		surge, unavailable         string
		wantSurge, wantUnavailable int32
	}{
		{10, "25%", "25%", 3, 2}, {3, "25%", "25%", 1, 0}, {1, "25%", "25%", 1, 0}, {2, "0", "0%", 0, 1}, {2, "0", "25%", 0, 1}, {4, "3", "9", 3, 4}, {0, "1", "1", 1, 0},
	} {
		d := web(c.replicas, c.surge, c.unavailable)
		if s, u := MaxSurge(d), MaxUnavailable(d); s != c.wantSurge || u != c.wantUnavailable {
			t.Errorf("%d, %s, %s: surge %d, unavailable %d; want %d, %d", c.replicas, c.surge, c.unavailable, s, u, c.wantSurge, c.wantUnavailable)
		}
	}
}

// The history annotation drops its oldest revisions rather than growing without bound.
func TestHistoryIsBounded(t *testing.T) {
	h := ""
	for i := range 2000 {
		h = appendHistory(h, strconv.Itoa(i))
	}
	if len(h) > maxHistoryBytes || !strings.HasSuffix(h, ",1999") {
		t.Errorf("%d bytes, ends with %s", len(h), h[len(h)-10:])
	}
}
