package attachdetach

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// noon is since when no pod has used what is attached.
var noon = plantest.New().Now

func volume(modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "v"},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: modes, PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "x", VolumeHandle: "h"}},
		},
	}
}

func pod(w *plantest.World, name, node string, phase corev1.PodPhase) {
	plantest.Put(w, plan.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}})
}

func view(w *plantest.World) map[string]plan.Plan {
	return map[string]plan.Plan{"v": Reconcile(Input{
		Volume: plantest.Get[*corev1.PersistentVolume](w, plan.PVs, "", "v"), Driver: plantest.Get[*storagev1.CSIDriver](w, plan.CSIDrivers, "", "x"),
		Pods: plantest.List[*corev1.Pod](w, plan.Pods), Attachments: plantest.List[*storagev1.VolumeAttachment](w, plan.VolumeAttachments),
		NodeGone: func(name string) bool { return !w.Exists(plan.Nodes, "", name) },
		Node:     func(name string) *corev1.Node { return plantest.Get[*corev1.Node](w, plan.Nodes, "", name) },
		Unused:   func(*storagev1.VolumeAttachment) time.Time { return noon },
	}, w.Now)}
}

func world(v *corev1.PersistentVolume) *plantest.World {
	w := plantest.New()
	plantest.Put(w, plan.PVs, v)
	plantest.Put(w, plan.CSIDrivers, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	for _, n := range []string{"a", "b"} {
		plantest.Put(w, plan.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n}})
	}
	return w
}

func nodes(w *plantest.World) (out []string) {
	for _, a := range plantest.List[*storagev1.VolumeAttachment](w, plan.VolumeAttachments) {
		out = append(out, a.Spec.NodeName)
	}
	return out
}

func settle(t *testing.T, w *plantest.World) *plantest.World {
	t.Helper()
	story := plantest.Story{Start: w, Plans: view}
	story.Crash(t)
	story.Stale(t, 1)
	return story.Run(t)
}

// A volume is attached where a pod uses it, under the name that kubelets look for, and detached when the last pod there is gone, not
// while a finished one is left.
func TestAttach(t *testing.T) {
	w := world(volume(corev1.ReadWriteOnce))
	pod(w, "p", "a", corev1.PodPending)
	w = settle(t, w)
	a := plantest.Get[*storagev1.VolumeAttachment](w, plan.VolumeAttachments, "", Name("h", "x", "a"))
	if a == nil || a.Spec.Attacher != "x" || *a.Spec.Source.PersistentVolumeName != "v" {
		t.Fatalf("attachment %+v", a)
	}
	pod(w, "p", "a", corev1.PodSucceeded)
	if w = settle(t, w); len(nodes(w)) != 1 {
		t.Error("detached from under a pod that may not be unmounted")
	}
	w.Remove(plan.Pods, "ns", "p")
	if w = settle(t, w); len(nodes(w)) != 0 {
		t.Errorf("attached to %v without a pod", nodes(w))
	}
}

// A volume for one node is not attached to a second before the first has let go, and the pod is told; one for many is.
func TestMultiAttach(t *testing.T) {
	for mode, want := range map[corev1.PersistentVolumeAccessMode]string{corev1.ReadWriteOnce: "[a]", corev1.ReadWriteMany: "[a b]"} {
		w := world(volume(mode))
		pod(w, "p", "a", corev1.PodRunning)
		w = settle(t, w)
		pod(w, "q", "b", corev1.PodPending)
		w = settle(t, w)
		got := nodes(w)
		if len(got) == 2 && got[0] == "b" {
			got[0], got[1] = got[1], got[0]
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: attached to %v", mode, got)
		}
		ev := view(w)["v"].Events
		if told := len(ev) == 1 && ev[0].Message == `Multi-Attach error for volume "v" Volume is already used by pod(s) p`; told != (mode == corev1.ReadWriteOnce) {
			t.Errorf("%s: %+v", mode, ev)
		}
		w.Remove(plan.Pods, "ns", "p")
		if w = settle(t, w); fmt.Sprint(nodes(w)) != "[b]" {
			t.Errorf("%s: then attached to %v", mode, nodes(w))
		}
	}
}

// Drivers that need no attachment get none, nor do those that nobody has described; a node that is gone holds nothing.
func TestNotAttached(t *testing.T) {
	no := false
	w := world(volume(corev1.ReadWriteOnce))
	plantest.Put(w, plan.CSIDrivers, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: storagev1.CSIDriverSpec{AttachRequired: &no}})
	pod(w, "p", "a", corev1.PodPending)
	if w = settle(t, w); len(nodes(w)) != 0 {
		t.Errorf("attached to %v", nodes(w))
	}
	w = world(volume(corev1.ReadWriteOnce))
	pod(w, "p", "a", corev1.PodRunning)
	w = settle(t, w)
	w.Remove(plan.Nodes, "", "a")
	if w = settle(t, w); len(nodes(w)) != 0 {
		t.Errorf("attached to a node that is gone")
	}
}

// What a node says is in use stays attached though its pod was removed by force: until the node lets go, has been unwell for six
// minutes since, or is out of service.
func TestHeldVolumes(t *testing.T) {
	for name, c := range map[string]struct {
		ready  corev1.ConditionStatus
		inUse  bool
		taints []corev1.Taint
		after  time.Duration
		detach bool
		again  time.Duration
	}{
		"let go":          {corev1.ConditionTrue, false, nil, 0, true, 0},
		"in use":          {corev1.ConditionTrue, true, nil, time.Hour, false, 0},
		"unwell":          {corev1.ConditionUnknown, true, nil, time.Minute, false, 5 * time.Minute},
		"unwell for long": {corev1.ConditionUnknown, true, nil, ForceAfter, true, 0},
		"out of service":  {corev1.ConditionUnknown, true, []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}, 0, true, 0},
	} {
		w := world(volume(corev1.ReadWriteOnce))
		pod(w, "p", "a", corev1.PodRunning)
		w = settle(t, w)
		w.Remove(plan.Pods, "ns", "p")
		node := plantest.Get[*corev1.Node](w, plan.Nodes, "", "a").DeepCopy()
		node.Spec.Taints = c.taints
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: c.ready}}
		if c.inUse {
			node.Status.VolumesInUse = []corev1.UniqueVolumeName{"kubernetes.io/csi/x^h"}
		}
		plantest.Put(w, plan.Nodes, node)
		w.Now = noon.Add(c.after)
		p := view(w)["v"]
		if detaches := len(p.Writes) == 1 && p.Writes[0].Verb == plan.VerbDelete; detaches != c.detach || p.After != c.again {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
