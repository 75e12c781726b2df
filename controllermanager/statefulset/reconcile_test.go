package statefulset

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/controllermanager/history"
	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/pods"
)

func db(replicas int32, f func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	labels := map[string]string{"app": "db"}
	limit := int32(10)
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: labels}, RevisionHistoryLimit: &limit,
			PodManagementPolicy: appsv1.OrderedReadyPodManagement, UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
			Template:             corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}},
		},
	}
	if f != nil {
		f(set)
	}
	return set
}

func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	for _, set := range plantest.List[*appsv1.StatefulSet](w, plan.StatefulSets) {
		out[set.Name] = Reconcile(Input{
			Set: set, Pods: plantest.List[*corev1.Pod](w, plan.Pods), Revisions: plantest.List[*appsv1.ControllerRevision](w, plan.ControllerRevision),
			Claim: func(name string) *corev1.PersistentVolumeClaim {
				return plantest.Get[*corev1.PersistentVolumeClaim](w, plan.PVCs, "ns", name)
			},
			PodTaken:      func(string) bool { return false },
			RevisionTaken: func(string) bool { return false },
		}, w.Now)
	}
	return out
}

// kubelet advances one pod at a time.
func kubelet(w *plantest.World) {
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if pod.DeletionTimestamp != nil {
			w.Remove(plan.Pods, pod.Namespace, pod.Name)
			return
		}
		if !pods.Ready(pod) && pod.Spec.Containers[0].Image != "broken" {
			next := pod.DeepCopy()
			next.Spec.NodeName, next.Status.Phase = "node", corev1.PodRunning
			next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.Now)}}
			plantest.Put(w, plan.Pods, next)
			return
		}
	}
}

func settled(t *testing.T, set *appsv1.StatefulSet) *plantest.World {
	t.Helper()
	w := plantest.New()
	plantest.Put(w, plan.StatefulSets, set)
	return plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}.Run(t)
}

func edit(w *plantest.World, f func(*appsv1.StatefulSet)) {
	set := plantest.Get[*appsv1.StatefulSet](w, plan.StatefulSets, "ns", "db").DeepCopy()
	f(set)
	plantest.Put(w, plan.StatefulSets, set)
}

func status(w *plantest.World) appsv1.StatefulSetStatus {
	return plantest.Get[*appsv1.StatefulSet](w, plan.StatefulSets, "ns", "db").Status
}

func images(w *plantest.World) string {
	var out []string
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		out = append(out, p.Name+"="+p.Spec.Containers[0].Image)
	}
	return strings.Join(out, " ")
}

// Pods come in order, each with its name, volume and labels, none before the one below it is ready; from a crash after any
// write and beside a controller with an old view too.
func TestOrderedCreation(t *testing.T) {
	w := plantest.New()
	plantest.Put(w, plan.StatefulSets, db(3, nil))
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet, Invariant: func(w *plantest.World) error {
		for i := 1; i < 3; i++ {
			if w.Exists(plan.Pods, "ns", fmt.Sprintf("db-%d", i)) && !pods.Ready(plantest.Get[*corev1.Pod](w, plan.Pods, "ns", fmt.Sprintf("db-%d", i-1))) {
				return fmt.Errorf("db-%d exists before db-%d is ready", i, i-1)
			}
		}
		return nil
	}}
	end := story.Run(t)
	s := status(end)
	if s.Replicas != 3 || s.ReadyReplicas != 3 || s.AvailableReplicas != 3 || s.CurrentReplicas != 3 || s.UpdatedReplicas != 3 || s.CurrentRevision != s.UpdateRevision || s.CurrentRevision == "" {
		t.Errorf("status %+v", s)
	}
	pod := plantest.Get[*corev1.Pod](end, plan.Pods, "ns", "db-1")
	if pod.Spec.Hostname != "db-1" || pod.Spec.Subdomain != "db" || pod.Labels[appsv1.PodIndexLabel] != "1" || pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName != "data-db-1" {
		t.Errorf("pod %+v", pod)
	}
	if !end.Exists(plan.PVCs, "ns", "data-db-2") {
		t.Error("a claim is missing")
	}
	story.Crash(t)
	story.Stale(t, 1, 2, 4)
	story.Lag(t, 5)
}

// Shrinking takes the highest numbers first, one at a time; claims stay unless the policy says otherwise.
func TestScaleDown(t *testing.T) {
	w := settled(t, db(4, nil))
	edit(w, func(s *appsv1.StatefulSet) { *s.Spec.Replicas = 1 })
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet, Invariant: func(w *plantest.World) error {
		going := 0
		for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
			if p.DeletionTimestamp != nil {
				going++
			}
		}
		if going > 1 {
			return fmt.Errorf("%d pods go at once", going)
		}
		return nil
	}}
	end := story.Run(t)
	if images(end) != "db-0=v1" || len(plantest.List[*corev1.PersistentVolumeClaim](end, plan.PVCs)) != 4 {
		t.Errorf("left:\n%s", end.Dump())
	}
	story.Crash(t)
	story.Lag(t, 5)

	w = settled(t, db(2, func(s *appsv1.StatefulSet) {
		s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
		}
	}))
	pod := plantest.Get[*corev1.Pod](w, plan.Pods, "ns", "db-1")
	edit(w, func(s *appsv1.StatefulSet) { *s.Spec.Replicas = 1 })
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}.Run(t)
	kept := plantest.Get[*corev1.PersistentVolumeClaim](w, plan.PVCs, "ns", "data-db-0").OwnerReferences
	going := plantest.Get[*corev1.PersistentVolumeClaim](w, plan.PVCs, "ns", "data-db-1").OwnerReferences
	if len(kept) != 1 || kept[0].Kind != "StatefulSet" || len(going) != 1 || going[0].UID != pod.UID {
		t.Errorf("owners of claims: %v and %v", kept, going)
	}
}

// A rolling update replaces one pod at a time from the highest number down, stops at the partition and at a pod that does not
// become ready, and its revision becomes the current one.
func TestRollingUpdate(t *testing.T) {
	w := settled(t, db(3, nil))
	update := func(image string, part int32) *plantest.World {
		w := w.Clone()
		edit(w, func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].Image = image
			s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &part}
		})
		return w
	}
	one := func(w *plantest.World) error {
		ready := 0
		for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
			if pods.Ready(p) && p.DeletionTimestamp == nil {
				ready++
			}
		}
		if ready < 2 {
			return fmt.Errorf("only %d ready", ready)
		}
		return nil
	}
	story := plantest.Story{Writes: Controller().Writes, Start: update("v2", 0), Plans: plans, Environment: kubelet, Invariant: one}
	end := story.Run(t)
	if got := images(end); got != "db-0=v2 db-1=v2 db-2=v2" {
		t.Errorf("pods %s", got)
	}
	if s := status(end); s.CurrentRevision != s.UpdateRevision || s.UpdatedReplicas != 3 || s.CurrentReplicas != 3 {
		t.Errorf("status %+v", s)
	}
	story.Crash(t)
	story.Lag(t, 5)

	end = plantest.Story{Writes: Controller().Writes, Start: update("v2", 2), Plans: plans, Environment: kubelet, Invariant: one}.Run(t)
	if s := status(end); images(end) != "db-0=v1 db-1=v1 db-2=v2" || s.CurrentReplicas != 2 || s.UpdatedReplicas != 1 || s.CurrentRevision == s.UpdateRevision {
		t.Errorf("pods %s, status %+v", images(end), status(end))
	}
	// A pod below the partition that is lost comes back as it was.
	end.Remove(plan.Pods, "ns", "db-0")
	end = plantest.Story{Writes: Controller().Writes, Start: end, Plans: plans, Environment: kubelet}.Run(t)
	if got := images(end); got != "db-0=v1 db-1=v1 db-2=v2" {
		t.Errorf("pods %s", got)
	}

	end = plantest.Story{Writes: Controller().Writes, Start: update("broken", 0), Plans: plans, Environment: kubelet, Invariant: one}.Run(t)
	if got := images(end); got != "db-0=v1 db-1=v1 db-2=broken" {
		t.Errorf("pods %s", got)
	}
	// Going back makes the old revision the newest again; the pod that hangs has to be deleted by hand, as documented.
	edit(end, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "v1" })
	end.Remove(plan.Pods, "ns", "db-2")
	end = plantest.Story{Writes: Controller().Writes, Start: end, Plans: plans, Environment: kubelet}.Run(t)
	if got := images(end); got != "db-0=v1 db-1=v1 db-2=v1" {
		t.Errorf("pods %s", got)
	}
	if revs := plantest.List[*appsv1.ControllerRevision](end, plan.ControllerRevision); len(revs) != 2 {
		t.Errorf("%d revisions, want 2", len(revs))
	}
}

// OnDelete replaces only what someone else deleted; Parallel does not wait.
func TestOtherPolicies(t *testing.T) {
	w := settled(t, db(2, func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType }))
	edit(w, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "v2" })
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if got := images(w); got != "db-0=v1 db-1=v1" {
		t.Errorf("pods %s", got)
	}
	w.Remove(plan.Pods, "ns", "db-1")
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if got := images(w); got != "db-0=v1 db-1=v2" {
		t.Errorf("pods %s", got)
	}
	w = plantest.New()
	plantest.Put(w, plan.StatefulSets, db(3, func(s *appsv1.StatefulSet) {
		s.Spec.PodManagementPolicy, s.Spec.Template.Spec.Containers[0].Image = appsv1.ParallelPodManagement, "broken"
		s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5}
	}))
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if got := images(w); got != "db-5=broken db-6=broken db-7=broken" {
		t.Errorf("pods %s", got)
	}
}

// Shows that a step's writes are bounded whatever the size asked for and whichever numbers exist, and that a later step goes on.
func TestHugeSize(t *testing.T) {
	w := plantest.New()
	set := db(100_000, func(s *appsv1.StatefulSet) {
		s.Spec.PodManagementPolicy, s.Spec.VolumeClaimTemplates = appsv1.ParallelPodManagement, nil
	})
	plantest.Put(w, plan.StatefulSets, set)
	created := func() (names []string) {
		for _, x := range plans(w)["db"].Writes {
			if x.Verb == plan.VerbCreate && x.Kind == plan.Pods {
				names = append(names, x.Object.GetName())
			}
			_ = w.Apply(x)
		}
		return names
	}
	created() // writes the revision
	for _, want := range []string{"db-0 db-499", "db-500 db-999"} {
		names := created()
		if len(names) != Burst || names[0]+" "+names[Burst-1] != want {
			t.Fatalf("%d pods created, want %d: %s", len(names), Burst, want)
		}
	}
	w.Remove(plan.Pods, "ns", "db-3")
	if names := created(); len(names) != Burst || names[0] != "db-3" || names[Burst-1] != "db-1498" {
		t.Errorf("%d pods created, from %s on", len(names), names[0])
	}
}

// maxUnavailable pods are replaced at once.
func TestMaxUnavailable(t *testing.T) {
	w := settled(t, db(5, nil))
	two := intstr.FromString("40%")
	edit(w, func(s *appsv1.StatefulSet) {
		s.Spec.Template.Spec.Containers[0].Image = "v2"
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: &two}
	})
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: func(w *plantest.World) map[string]plan.Plan { return nil }}.Run(t)
	p := plans(w)["db"] // writes the revision
	for _, x := range p.Writes {
		_ = w.Apply(x)
	}
	gone := 0
	for _, x := range plans(w)["db"].Writes {
		if x.Verb == plan.VerbDelete && x.Kind == plan.Pods {
			gone++
		}
	}
	if gone != 2 {
		t.Errorf("%d pods replaced at once, want 2", gone)
	}
}

// A finished pod is made anew, a pod is not counted as available before minReadySeconds, and foreign names are not touched.
func TestOddPods(t *testing.T) {
	w := settled(t, db(1, func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = 10 }))
	w.Advance(time.Second)
	if s, p := status(w), plans(w)["db"]; s.AvailableReplicas != 0 || s.ReadyReplicas != 1 || p.After != 9*time.Second {
		t.Errorf("status %+v, looks again after %v", s, p.After)
	}
	failed := plantest.Get[*corev1.Pod](w, plan.Pods, "ns", "db-0").DeepCopy()
	failed.Status = corev1.PodStatus{Phase: corev1.PodFailed}
	plantest.Put(w, plan.Pods, failed)
	plantest.Put(w, plan.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db-x", Labels: map[string]string{"app": "db"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "other"}}}})
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: kubelet}.Run(t)
	if pod := plantest.Get[*corev1.Pod](w, plan.Pods, "ns", "db-0"); pod.Status.Phase != corev1.PodRunning {
		t.Errorf("pod %+v", pod.Status)
	}
	if pod := plantest.Get[*corev1.Pod](w, plan.Pods, "ns", "db-x"); owner.UID(pod) != "" {
		t.Error("a pod without a number was adopted")
	}
}

// A revision holds the template in the form that kubectl's undo applies.
func TestRevisionData(t *testing.T) {
	w := settled(t, db(1, nil))
	rev := plantest.List[*appsv1.ControllerRevision](w, plan.ControllerRevision)[0]
	if !strings.Contains(string(rev.Data.Raw), `"$patch":"replace"`) || rev.Revision != 1 || rev.Labels["app"] != "db" {
		t.Errorf("revision %+v with %s", rev, rev.Data.Raw)
	}
	template, err := history.Template(rev)
	if err != nil || template.Spec.Containers[0].Image != "v1" {
		t.Errorf("template %v, %v", template, err)
	}
}

// Whoever reads the generation of a changed template in the status reads its revision there, too, after every single write.
func TestObservedGenerationComesWithItsRevision(t *testing.T) {
	w := settled(t, db(2, nil))
	old := plantest.List[*appsv1.StatefulSet](w, plan.StatefulSets)[0]
	next := old.DeepCopy()
	next.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "another"}}
	changed := plantest.Put(w, plan.StatefulSets, next)
	story := plantest.Story{Start: w, Plans: plans, Environment: kubelet, Invariant: func(w *plantest.World) error {
		s := plantest.List[*appsv1.StatefulSet](w, plan.StatefulSets)[0].Status
		if s.ObservedGeneration == changed.Generation && s.UpdateRevision == old.Status.UpdateRevision {
			return fmt.Errorf("generation %d is observed with revision %s", s.ObservedGeneration, s.UpdateRevision)
		}
		return nil
	}}
	story.Run(t)
	story.Crash(t)
}
