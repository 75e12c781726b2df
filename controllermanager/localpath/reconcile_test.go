package localpath

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/claimprotection"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/persistentvolume"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/volumeprotection"
)

func claim(change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	class := ClassName
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", Annotations: map[string]string{persistentvolume.SelectedNode: "node-1"}, Finalizers: []string{claimprotection.Finalizer}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// view makes the plans of all that volumes depend on: binder, provisioner and both protections.
func view(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	classes := plantest.List[*storagev1.StorageClass](w, plan.StorageClasses)
	out["class"] = EnsureClass(classes)
	class := func(name string) *storagev1.StorageClass {
		return plantest.Get[*storagev1.StorageClass](w, plan.StorageClasses, "", name)
	}
	for _, c := range plantest.List[*corev1.PersistentVolumeClaim](w, plan.PVCs) {
		v := plantest.Get[*corev1.PersistentVolume](w, plan.PVs, "", c.Spec.VolumeName)
		name, _ := persistentvolume.ClassOf(c)
		out["bind "+c.Name] = persistentvolume.ReconcileClaim(persistentvolume.ClaimInput{
			Claim: c, Class: class, Classes: classes, Volumes: plantest.List[*corev1.PersistentVolume](w, plan.PVs), Volume: v, VolumeGone: v == nil,
		})
		out["provision "+c.Name] = Provision(ClaimInput{
			Claim: c, Class: class(name), Node: plantest.Get[*corev1.Node](w, plan.Nodes, "", c.Annotations[persistentvolume.SelectedNode]),
			Volume: plantest.Get[*corev1.PersistentVolume](w, plan.PVs, "", VolumeName(c)),
		})
		out["protect "+c.Name] = claimprotection.Reconcile(c, plantest.List[*corev1.Pod](w, plan.Pods))
	}
	for _, v := range plantest.List[*corev1.PersistentVolume](w, plan.PVs) {
		in := persistentvolume.VolumeInput{Volume: v}
		if ref := v.Spec.ClaimRef; ref != nil {
			if c := plantest.Get[*corev1.PersistentVolumeClaim](w, plan.PVCs, ref.Namespace, ref.Name); c != nil && c.UID == ref.UID {
				in.Claim = c
			}
			in.ClaimGone = in.Claim == nil
		}
		out["phase "+v.Name] = persistentvolume.ReconcileVolume(in)
		out["reclaim "+v.Name] = Reclaim(v, !w.Exists(plan.Nodes, "", v.Labels[NodeLabel]))
		out["protect "+v.Name] = volumeprotection.Reconcile(v)
	}
	return out
}

var writes = slices.Concat(Controller().Writes, persistentvolume.Controller().Writes, claimprotection.Controller().Writes, volumeprotection.Controller().Writes)

// kubelet takes its finalizer off volumes that are being deleted, as it does when the directory is gone.
func kubelet(w *plantest.World) {
	for _, v := range plantest.List[*corev1.PersistentVolume](w, plan.PVs) {
		if v.DeletionTimestamp != nil && slices.Contains(v.Finalizers, Finalizer) {
			p := Reclaim(v, true)
			if err := w.Apply(p.Writes[0]); err != nil {
				panic(err)
			}
		}
	}
}

func world(c *corev1.PersistentVolumeClaim) *plantest.World {
	w := plantest.New()
	plantest.Put(w, plan.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelHostname: "host-1"}}})
	plantest.Put(w, plan.StorageClasses, Class())
	plantest.Put(w, plan.PVCs, c)
	return w
}

func onlyVolume(w *plantest.World) *corev1.PersistentVolume {
	list := plantest.List[*corev1.PersistentVolume](w, plan.PVs)
	if len(list) != 1 {
		return nil
	}
	return list[0]
}

func get(w *plantest.World) *corev1.PersistentVolumeClaim {
	return plantest.Get[*corev1.PersistentVolumeClaim](w, plan.PVCs, "ns", "data")
}

// A claim whose node is selected gets one directory on that node and is bound to it, whatever write anybody dies after.
func TestProvision(t *testing.T) {
	w := world(claim())
	story := plantest.Story{Writes: writes, Start: w, Plans: view, Environment: kubelet, Invariant: func(w *plantest.World) error {
		if n := len(plantest.List[*corev1.PersistentVolume](w, plan.PVs)); n > 1 {
			return fmt.Errorf("%d volumes", n)
		}
		if c := get(w); c.Status.Phase == corev1.ClaimLost {
			return fmt.Errorf("the claim is lost")
		}
		return nil
	}}
	end := story.Run(t)
	c, v := get(end), onlyVolume(end)
	if c.Status.Phase != corev1.ClaimBound || v == nil || c.Spec.VolumeName != v.Name || v.Status.Phase != corev1.VolumeBound {
		t.Fatalf("claim %+v, volume %+v", c, v)
	}
	affinity := v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0]
	if v.Spec.Local.Path != "/var/lib/bareboat/volumes/pvc-"+string(c.UID) || affinity.Values[0] != "host-1" || v.Labels[NodeLabel] != "node-1" || v.Spec.StorageClassName != ClassName {
		t.Errorf("volume %+v", v)
	}
	story.Crash(t)
	story.Stale(t, 1, 2, 4, 8)
	story.Lag(t, 20)
}

// Once its claim is gone the volume goes, after the directory; with Retain it stays.
func TestReclaim(t *testing.T) {
	for policy, left := range map[corev1.PersistentVolumeReclaimPolicy]int{corev1.PersistentVolumeReclaimDelete: 0, corev1.PersistentVolumeReclaimRetain: 1} {
		w := world(claim())
		class := Class()
		class.ReclaimPolicy = &policy
		plantest.Put(w, plan.StorageClasses, class)
		w = plantest.Story{Writes: writes, Start: w, Plans: view, Environment: kubelet}.Run(t)
		c := get(w)
		if err := w.Apply(plan.Delete(plan.PVCs, c)); err != nil {
			t.Fatal(err)
		}
		story := plantest.Story{Writes: writes, Start: w, Plans: view, Environment: kubelet}
		end := story.Run(t)
		if n := len(plantest.List[*corev1.PersistentVolume](end, plan.PVs)); n != left || get(end) != nil {
			t.Errorf("%s: %d volumes left", policy, n)
		}
		story.Crash(t)
		story.Lag(t, 10)
	}
}

// A claim that a running pod uses stays, and its volume with it.
func TestInUse(t *testing.T) {
	w := world(claim())
	plantest.Put(w, plan.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "user"}, Spec: corev1.PodSpec{NodeName: "node-1"}})
	w = plantest.Story{Start: w, Plans: view, Environment: kubelet}.Run(t)
	if err := w.Apply(plan.Delete(plan.PVCs, get(w))); err != nil {
		t.Fatal(err)
	}
	end := plantest.Story{Start: w, Plans: view, Environment: kubelet}.Run(t)
	if get(end) == nil || onlyVolume(end).DeletionTimestamp != nil {
		t.Error("the claim or its volume went from under the pod")
	}
}

// A directory is waited for as long as its node belongs to the cluster, and not longer.
func TestNodeGone(t *testing.T) {
	w := world(claim())
	w = plantest.Story{Start: w, Plans: view}.Run(t)
	if err := w.Apply(plan.Delete(plan.PVCs, get(w))); err != nil {
		t.Fatal(err)
	}
	w = plantest.Story{Start: w, Plans: view}.Run(t)
	if v := onlyVolume(w); v == nil || v.DeletionTimestamp == nil {
		t.Fatalf("volume %+v", v)
	}
	w.Remove(plan.Nodes, "", "node-1")
	if end := (plantest.Story{Start: w, Plans: view}.Run(t)); onlyVolume(end) != nil {
		t.Error("the volume waits for a node that is gone")
	}
}

// What a directory cannot do is refused with a reason, and nothing is made.
func TestUnsupported(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for want, change := range map[string]func(*corev1.PersistentVolumeClaim){
		`failed to provision volume with StorageClass "local-path": block volumes are not supported`: func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = &block },
		`failed to provision volume with StorageClass "local-path": access mode ReadWriteMany is not supported: a directory is on one node`: func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		},
		`failed to provision volume with StorageClass "local-path": claim.Spec.Selector is not supported`: func(c *corev1.PersistentVolumeClaim) { c.Spec.Selector = &metav1.LabelSelector{} },
		`failed to get target node: node "node-9" not found`: func(c *corev1.PersistentVolumeClaim) {
			c.Annotations[persistentvolume.SelectedNode] = "node-9"
		},
	} {
		c := claim(change)
		c.UID, c.ResourceVersion = "u", "1"
		c.Annotations[persistentvolume.Provisioner] = Provisioner
		in := ClaimInput{Claim: c, Class: Class()}
		if c.Annotations[persistentvolume.SelectedNode] == "node-1" {
			in.Node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
		}
		p := Provision(in)
		if len(p.Events) != 1 || p.Events[0].Reason != "ProvisioningFailed" || p.Events[0].Message != want {
			t.Errorf("want %s, got %+v", want, p.Events)
		}
		for _, x := range p.Writes {
			if x.Verb == plan.VerbCreate {
				t.Errorf("%s, yet it makes %s", want, x.ID())
			}
		}
	}
}

// A larger request of a bound claim is noted in volume and claim.
func TestExpand(t *testing.T) {
	w := plantest.Story{Start: world(claim()), Plans: view, Environment: kubelet}.Run(t)
	c := get(w).DeepCopy()
	c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("3Gi")
	plantest.Put(w, plan.PVCs, c)
	story := plantest.Story{Writes: writes, Start: w, Plans: view, Environment: kubelet}
	end := story.Run(t)
	if got, size := get(end).Status.Capacity.Storage().String(), onlyVolume(end).Spec.Capacity.Storage().String(); got != "3Gi" || size != "3Gi" {
		t.Errorf("claim %s, volume %s", got, size)
	}
	story.Crash(t)
}

// The default class is made once, and not beside one of an administrator's that takes its place.
func TestEnsureClass(t *testing.T) {
	if p := EnsureClass(nil); len(p.Writes) != 1 {
		t.Errorf("plans %+v", p)
	}
	mine := Class()
	mine.Name = "fast"
	if p := EnsureClass([]*storagev1.StorageClass{mine}); !p.Empty() {
		t.Errorf("plans %+v", p)
	}
}

// The declarations of all that write volumes and claims agree.
func TestDeclarations(t *testing.T) {
	if _, err := engine.New(engine.Options{}, Controller(), persistentvolume.Controller(), claimprotection.Controller(), volumeprotection.Controller()); err != nil {
		t.Error(err)
	}
}
