package persistentvolume

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

func volume(name, size string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumePending},
	}
	for _, f := range change {
		f(v)
	}
	return v
}

func claim(name, size string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	none := ""
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &none,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func inClass(name string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &name }
}

// view makes both cores' plans from a world.
func view(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	classes := plantest.List[*storagev1.StorageClass](w, plan.StorageClasses)
	volumes := plantest.List[*corev1.PersistentVolume](w, plan.PVs)
	for _, c := range plantest.List[*corev1.PersistentVolumeClaim](w, plan.PVCs) {
		v := plantest.Get[*corev1.PersistentVolume](w, plan.PVs, "", c.Spec.VolumeName)
		class, _ := ClassOf(c)
		out["claim "+c.Name] = ReconcileClaim(ClaimInput{
			Claim: c, Classes: classes, Volume: v, VolumeGone: v == nil,
			Class: func(name string) *storagev1.StorageClass {
				return plantest.Get[*storagev1.StorageClass](w, plan.StorageClasses, "", name)
			},
			Volumes: slices.DeleteFunc(slices.Clone(volumes), func(v *corev1.PersistentVolume) bool {
				return VolumeClass(v) != class && (v.Spec.ClaimRef == nil || v.Spec.ClaimRef.Name != c.Name)
			}),
			Pods: plantest.List[*corev1.Pod](w, plan.Pods),
		})
	}
	for _, v := range volumes {
		in := VolumeInput{Volume: v}
		if ref := v.Spec.ClaimRef; ref != nil {
			if c := plantest.Get[*corev1.PersistentVolumeClaim](w, plan.PVCs, ref.Namespace, ref.Name); c != nil && c.UID == ref.UID {
				in.Claim = c
			}
			in.ClaimGone = in.Claim == nil
		}
		out["volume "+v.Name] = ReconcileVolume(in)
	}
	return out
}

// oneEach holds if no two claims have one volume and nobody lost any.
func oneEach(w *plantest.World) error {
	by := map[string]string{}
	for _, c := range plantest.List[*corev1.PersistentVolumeClaim](w, plan.PVCs) {
		if c.Spec.VolumeName != "" && by[c.Spec.VolumeName] != "" {
			return fmt.Errorf("%s and %s have %s", by[c.Spec.VolumeName], c.Name, c.Spec.VolumeName)
		}
		by[c.Spec.VolumeName] = c.Name
		if c.Status.Phase == corev1.ClaimLost {
			return fmt.Errorf("%s is lost", c.Name)
		}
	}
	for _, v := range plantest.List[*corev1.PersistentVolume](w, plan.PVs) {
		if v.Status.Phase == corev1.VolumeReleased || v.Status.Phase == corev1.VolumeFailed {
			return fmt.Errorf("%s is %s", v.Name, v.Status.Phase)
		}
	}
	return nil
}

func getClaim(w *plantest.World, name string) *corev1.PersistentVolumeClaim {
	return plantest.Get[*corev1.PersistentVolumeClaim](w, plan.PVCs, "ns", name)
}

func getVolume(w *plantest.World, name string) *corev1.PersistentVolume {
	return plantest.Get[*corev1.PersistentVolume](w, plan.PVs, "", name)
}

// A claim gets the smallest volume that satisfies it in size, mode, class, labels and access, whatever write the binder dies
// after and however old the view of a second one is.
func TestSmallestFit(t *testing.T) {
	w := plantest.New()
	block := corev1.PersistentVolumeBlock
	for _, v := range []*corev1.PersistentVolume{
		volume("big", "10Gi"), volume("fits", "5Gi"), volume("fits-too", "5Gi"), volume("small", "1Gi"),
		volume("block", "4Gi", func(v *corev1.PersistentVolume) { v.Spec.VolumeMode = &block }),
		volume("other-class", "4Gi", func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "other" }),
		volume("read-only", "4Gi", func(v *corev1.PersistentVolume) {
			v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}
		}),
		volume("taken", "4Gi", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "somebody"}
		}),
	} {
		plantest.Put(w, plan.PVs, v)
	}
	plantest.Put(w, plan.PVCs, claim("data", "4Gi"))
	// Volumes become Available in an order of their own, and only those that are can be chosen.
	for _, v := range plantest.List[*corev1.PersistentVolume](w, plan.PVs) {
		v = v.DeepCopy()
		v.Status.Phase = corev1.VolumeAvailable
		plantest.Put(w, plan.PVs, v)
	}
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: view}
	start := story.Run(t)
	for _, v := range plantest.List[*corev1.PersistentVolume](start, plan.PVs) {
		if want := map[string]corev1.PersistentVolumePhase{"fits": corev1.VolumeBound}[v.Name]; want == "" && v.Status.Phase != corev1.VolumeAvailable {
			t.Errorf("%s is %s", v.Name, v.Status.Phase)
		}
	}
	c := getClaim(start, "data")
	if c.Spec.VolumeName != "fits" || c.Status.Phase != corev1.ClaimBound || c.Status.Capacity.Storage().String() != "5Gi" || c.Annotations[BindCompleted] != yes {
		t.Errorf("claim %+v %+v", c.Spec, c.Status)
	}
	v := getVolume(start, "fits")
	if v.Status.Phase != corev1.VolumeBound || v.Spec.ClaimRef.UID != c.UID || v.Annotations[BoundByController] != yes {
		t.Errorf("volume %+v %+v", v.Spec, v.Status)
	}
	story.Invariant = oneEach
	story.Crash(t)
	story.Stale(t, 1, 2, 4)
}

// Claims that compete for volumes get one each; who comes too late stays pending.
func TestCompetition(t *testing.T) {
	w := plantest.New()
	for i := range 3 {
		v := volume(fmt.Sprintf("v%d", i), "1Gi")
		v.Status.Phase = corev1.VolumeAvailable
		plantest.Put(w, plan.PVs, v)
		plantest.Put(w, plan.PVCs, claim(fmt.Sprintf("c%d", i), "1Gi"))
	}
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: view, Invariant: oneEach}
	for i := range 3 {
		if c := getClaim(story.Run(t), fmt.Sprintf("c%d", i)); c.Status.Phase != corev1.ClaimBound {
			t.Errorf("%s is %s", c.Name, c.Status.Phase)
		}
	}
	story.Stale(t, 1, 2, 3)
}

// What users bind by hand, from either side, is bound; what does not match is not, and an event says why.
func TestBoundByHand(t *testing.T) {
	w := plantest.New()
	named := func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "a"}
	}
	wants := func(name string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = name }
	}
	plantest.Put(w, plan.PVs, volume("for-a", "100Gi", named))
	plantest.Put(w, plan.PVs, volume("smaller", "1Gi"))
	plantest.Put(w, plan.PVs, volume("for-b", "2Gi"))
	plantest.Put(w, plan.PVs, volume("too-small", "1Mi"))
	plantest.Put(w, plan.PVCs, claim("a", "1Gi"))
	plantest.Put(w, plan.PVCs, claim("b", "1Gi", wants("for-b")))
	plantest.Put(w, plan.PVCs, claim("c", "1Gi", wants("too-small")))
	plantest.Put(w, plan.PVCs, claim("d", "1Gi", wants("for-a")))
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: view, Invariant: nil}
	end := story.Run(t)
	if v := getVolume(end, "for-a"); getClaim(end, "a").Spec.VolumeName != "for-a" || v.Annotations[BoundByController] != "" || v.Status.Phase != corev1.VolumeBound {
		t.Errorf("volume for a: %+v %s", v.Spec.ClaimRef, v.Status.Phase)
	}
	if c := getClaim(end, "b"); c.Status.Phase != corev1.ClaimBound || c.Annotations[BoundByController] != "" {
		t.Errorf("claim b: %s %v", c.Status.Phase, c.Annotations)
	}
	for name, want := range map[string]string{
		"claim c": `VolumeMismatch: Cannot bind to requested volume "too-small": requested PV is too small`,
		"claim d": `FailedBinding: volume "for-a" already bound to a different claim.`,
	} {
		ev := view(end)[name].Events
		if len(ev) != 1 || ev[0].Reason+": "+ev[0].Message != want {
			t.Errorf("%s: %+v", name, ev)
		}
	}
	story.Crash(t)
}

// When a claim goes, its volume is released and kept; with Delete but nobody who could delete it, and with Recycle, it fails
// with an event.
func TestRelease(t *testing.T) {
	for policy, want := range map[corev1.PersistentVolumeReclaimPolicy]corev1.PersistentVolumePhase{
		corev1.PersistentVolumeReclaimRetain: corev1.VolumeReleased, corev1.PersistentVolumeReclaimDelete: corev1.VolumeFailed, corev1.PersistentVolumeReclaimRecycle: corev1.VolumeFailed,
	} {
		w := plantest.New()
		plantest.Put(w, plan.PVs, volume("v", "1Gi", func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = policy }))
		plantest.Put(w, plan.PVCs, claim("c", "1Gi"))
		end := plantest.Story{Writes: Controller().Writes, Start: w, Plans: view, Invariant: oneEach}.Run(t)
		end.Remove(plan.PVCs, "ns", "c")
		plantest.Put(end, plan.PVCs, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.UID = "another of the name" }))
		story := plantest.Story{Writes: Controller().Writes, Start: end, Plans: view}
		end = story.Run(t)
		if v := getVolume(end, "v"); v.Status.Phase != want {
			t.Errorf("%s: %s %s", policy, v.Status.Phase, v.Status.Message)
		}
		if c := getClaim(end, "c"); c.Status.Phase != corev1.ClaimPending || c.Spec.VolumeName != "" {
			t.Errorf("%s: the new claim of the name is %s with %q", policy, c.Status.Phase, c.Spec.VolumeName)
		}
		story.Crash(t)
	}
}

// A volume is not released, nor a claim lost, while nothing but a mirror says that the other side is gone.
func TestNothingIsGoneUnlessConfirmed(t *testing.T) {
	v := volume("v", "1Gi", func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "c", UID: "u"}
		v.Status.Phase = corev1.VolumeBound
	})
	if p := ReconcileVolume(VolumeInput{Volume: v}); !p.Empty() {
		t.Errorf("plans %+v", p.Writes)
	}
	c := claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Annotations, c.Status.Phase = "v", map[string]string{BindCompleted: yes}, corev1.ClaimBound
	})
	if p := ReconcileClaim(ClaimInput{Claim: c}); !p.Empty() {
		t.Errorf("plans %+v", p.Writes)
	}
}

// Bound claims whose volume is gone, or is somebody else's, are lost, and say so once.
func TestLost(t *testing.T) {
	bound := func(c *corev1.PersistentVolumeClaim) {
		c.UID, c.ResourceVersion = "u", "1"
		c.Spec.VolumeName, c.Annotations, c.Status.Phase = "v", map[string]string{BindCompleted: yes}, corev1.ClaimBound
	}
	other := volume("v", "1Gi", func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "c", UID: types.UID("another")}
	})
	for reason, in := range map[string]ClaimInput{
		"ClaimLost":     {Claim: claim("c", "1Gi", bound), VolumeGone: true},
		"ClaimMisbound": {Claim: claim("c", "1Gi", bound), Volume: other},
	} {
		p := ReconcileClaim(in)
		if len(p.Writes) != 1 || len(p.Events) != 1 || p.Events[0].Reason != reason {
			t.Fatalf("%s: %+v", reason, p)
		}
		in.Claim = p.Writes[0].Object.(*corev1.PersistentVolumeClaim)
		if again := ReconcileClaim(in); in.Claim.Status.Phase != corev1.ClaimLost || !again.Empty() || len(again.Events) > 0 {
			t.Errorf("%s: then %+v", reason, again)
		}
	}
}

// Claims of a class wait for a consumer or ask the class's provisioner, and say what they wait for; those without a class get
// the default one.
func TestClasses(t *testing.T) {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	class := func(name, provisioner string, change ...func(*storagev1.StorageClass)) *storagev1.StorageClass {
		c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner}
		for _, f := range change {
			f(c)
		}
		return c
	}
	lazy := func(c *storagev1.StorageClass) { c.VolumeBindingMode = &wait }
	selected := func(c *corev1.PersistentVolumeClaim) { c.Annotations = map[string]string{SelectedNode: "n"} }
	w := plantest.New()
	plantest.Put(w, plan.StorageClasses, class("eager", "csi.example.org"))
	plantest.Put(w, plan.StorageClasses, class("lazy", "csi.example.org", lazy, func(c *storagev1.StorageClass) {
		c.Annotations = map[string]string{isDefault: "true"}
	}))
	plantest.Put(w, plan.StorageClasses, class("manual", "kubernetes.io/no-provisioner"))
	plantest.Put(w, plan.PVs, volume("lazy-static", "1Gi", func(v *corev1.PersistentVolume) {
		v.Spec.StorageClassName, v.Status.Phase = "lazy", corev1.VolumeAvailable
	}))
	for name, change := range map[string][]func(*corev1.PersistentVolumeClaim){
		"eager": {inClass("eager")}, "lazy": {inClass("lazy")}, "chosen": {inClass("lazy"), selected}, "manual": {inClass("manual")}, "unknown": {inClass("nope")},
		"none": nil, "default": {func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }},
	} {
		plantest.Put(w, plan.PVCs, claim(name, "1Gi", change...))
	}
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: view}
	end := story.Run(t)
	for name, want := range map[string]string{
		"eager": "ExternalProvisioning", "chosen": "ExternalProvisioning", "lazy": "WaitForFirstConsumer", "default": "WaitForFirstConsumer",
		"manual": "ProvisioningFailed", "unknown": "ProvisioningFailed", "none": "FailedBinding",
	} {
		c := getClaim(end, name)
		if ev := view(end)["claim "+name].Events; len(ev) != 1 || ev[0].Reason != want || c.Status.Phase != corev1.ClaimPending {
			t.Errorf("%s is %s: %+v", name, c.Status.Phase, ev)
		}
		if asked := c.Annotations[Provisioner] == "csi.example.org"; asked != (want == "ExternalProvisioning") {
			t.Errorf("%s: annotations %v", name, c.Annotations)
		}
	}
	if c := getClaim(end, "default"); *c.Spec.StorageClassName != "lazy" {
		t.Errorf("the claim without a class has %s", *c.Spec.StorageClassName)
	}
	story.Crash(t)
}

// A volume that was made for a claim which meanwhile got another one goes; one that the binder chose becomes free again.
func TestElsewhere(t *testing.T) {
	c := claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.UID, c.Spec.VolumeName = "u", "other" })
	ref := ClaimRef(c)
	made := volume("made", "1Gi", func(v *corev1.PersistentVolume) {
		v.Annotations, v.Spec.PersistentVolumeReclaimPolicy = map[string]string{ProvisionedBy: "x"}, corev1.PersistentVolumeReclaimDelete
		v.Spec.ClaimRef = ref
	})
	if p := ReconcileVolume(VolumeInput{Volume: made, Claim: c}); p.Writes[0].Object.(*corev1.PersistentVolume).Status.Phase != corev1.VolumeReleased {
		t.Errorf("made: %+v", p.Writes)
	}
	chosen := volume("chosen", "1Gi", func(v *corev1.PersistentVolume) {
		v.Annotations, v.Spec.ClaimRef = map[string]string{BoundByController: yes}, ref
	})
	if p := ReconcileVolume(VolumeInput{Volume: chosen, Claim: c}); p.Writes[0].Object.(*corev1.PersistentVolume).Spec.ClaimRef != nil {
		t.Errorf("chosen: %+v", p.Writes)
	}
	byHand := volume("by-hand", "1Gi", func(v *corev1.PersistentVolume) { v.Spec.ClaimRef = ref.DeepCopy() })
	if p := ReconcileVolume(VolumeInput{Volume: byHand, Claim: c}); p.Writes[0].Object.(*corev1.PersistentVolume).Spec.ClaimRef.UID != "" {
		t.Errorf("by hand: %+v", p.Writes)
	}
}
