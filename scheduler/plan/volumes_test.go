package plan

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// disks is a cluster of nodes n1 to n3 in zones z1 to z3, with classes "lazy" (has volumes made), "static" (has not) and "eager".
func disks(t *testing.T) *Cluster {
	t.Helper()
	c := New()
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		c.SetNode(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("z%d", i+1)}},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
				"cpu": resource.MustParse("8"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("10"),
			}},
		})
	}
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	for name, provisioner := range map[string]string{"lazy": "x", "static": noProvisioner} {
		c.SetStorageClass(name, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &wait})
	}
	c.SetStorageClass("eager", &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "eager"}, Provisioner: "x"})
	return c
}

func diskClaim(name, class, volume string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, VolumeName: volume, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	if volume != "" {
		claim.Annotations, claim.Status.Phase = map[string]string{bindCompleted: "yes"}, corev1.ClaimBound
	}
	for _, f := range change {
		f(claim)
	}
	return claim
}

func disk(name, class, size, node string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	if node != "" {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}}}
	}
	for _, f := range change {
		f(v)
	}
	return v
}

func diskPod(name string, claims ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	for _, claim := range claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
	return p
}

// Claims that cannot be used refuse a pod whatever the node, in kube-scheduler's words, and preemption does not help.
func TestUnusableClaims(t *testing.T) {
	now := metav1.Now()
	for want, claim := range map[string]*corev1.PersistentVolumeClaim{
		`persistentvolumeclaim "c" not found`:                                     nil,
		`pod has unbound immediate PersistentVolumeClaims`:                        diskClaim("c", "eager", ""),
		`persistentvolumeclaim "c" is being deleted`:                              diskClaim("c", "lazy", "", func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &now }),
		`persistentvolumeclaim "c" bound to non-existent persistentvolume "gone"`: diskClaim("c", "lazy", "gone", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost }),
	} {
		c := disks(t)
		if claim != nil {
			c.SetClaim(claim)
		}
		pod := diskPod("p", "c")
		d := c.Schedule(pod)
		if d.Node != "" {
			t.Fatalf("%s: goes to %s", want, d.Node)
		}
		d.Why.Preemption = c.Preempt(pod, nil).Why
		full := "0/3 nodes are available: " + want + ". preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
		if got := d.Why.String(); got != full || d.Why.Plugins != VolumeBinding {
			t.Errorf("got  %s (%s)\nwant %s", got, d.Why.Plugins, full)
		}
	}
}

// A pod goes where all its volumes can be used: to the node that a bound one is on, in its zone.
func TestBoundVolumes(t *testing.T) {
	c := disks(t)
	c.SetVolume(disk("v", "lazy", "1Gi", "n2"))
	c.SetVolume(disk("zonal", "lazy", "1Gi", "", func(v *corev1.PersistentVolume) {
		v.Labels = map[string]string{corev1.LabelTopologyZone: "z2__z3"}
	}))
	c.SetVolume(disk("far", "lazy", "1Gi", "n9"))
	for claim, volume := range map[string]string{"a": "v", "b": "zonal", "far": "far", "lost": "nowhere"} {
		c.SetClaim(diskClaim(claim, "lazy", volume))
	}
	if d := c.Schedule(diskPod("p", "a", "b")); d.Node != "n2" || len(d.Volumes) != 0 {
		t.Errorf("goes to %q with %v: %v", d.Node, d.Volumes, d.Why)
	}
	for claim, want := range map[string]string{
		"far":  "0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity.",
		"lost": "0/3 nodes are available: 3 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
	} {
		if d := c.Schedule(diskPod("q", claim)); d.Why == nil || d.Why.String() != want {
			t.Errorf("%s: %v", claim, d.Why)
		}
	}
	c.SetVolume(disk("zonal", "lazy", "1Gi", "", func(v *corev1.PersistentVolume) {
		v.Labels = map[string]string{corev1.LabelTopologyZone: "z9"}
	}))
	if d := c.Schedule(diskPod("q", "b")); d.Why == nil || d.Why.String() != "0/3 nodes are available: 3 node(s) had no available volume zone." {
		t.Errorf("zone: %v", d.Why)
	}
}

// Claims that wait get the smallest volume there is on the node, which no other pod gets, and else one that is made there. What
// is decided holds for all pods of the claim, until it is undone.
func TestWaitingClaims(t *testing.T) {
	c := disks(t)
	c.SetVolume(disk("big", "static", "9Gi", "n3"))
	c.SetVolume(disk("small", "static", "2Gi", "n3"))
	c.SetVolume(disk("tiny", "static", "1Mi", "n1"))
	for _, name := range []string{"a", "b", "d"} {
		c.SetClaim(diskClaim(name, "static", ""))
	}
	chosen := func(d Decision) string {
		if len(d.Volumes) != 1 || d.Volumes[0].Volume == nil {
			return fmt.Sprint(d.Node, d.Why)
		}
		return d.Volumes[0].Volume.Name
	}
	if got := chosen(c.Schedule(diskPod("a", "a"))); got != "small" {
		t.Errorf("a gets %s", got)
	}
	if got := chosen(c.Schedule(diskPod("b", "b"))); got != "big" {
		t.Errorf("b gets %s", got)
	}
	if d := c.Schedule(diskPod("d", "d")); d.Why == nil || d.Why.String() != "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind." || d.Why.Plugins != VolumeBinding {
		t.Errorf("d: %v", d.Why)
	}
	if d := c.Schedule(diskPod("a2", "a")); d.Node != "n3" || len(d.Volumes) != 0 {
		t.Errorf("a second pod of a's claim goes to %q with %v", d.Node, d.Volumes)
	}
	c.Forget("a")
	c.Forget("a2")
	if got := chosen(c.Schedule(diskPod("d", "d"))); got != "small" {
		t.Errorf("d gets %s after a gave up", got)
	}

	c.SetClaim(diskClaim("made", "lazy", ""))
	first := c.Schedule(diskPod("m1", "made"))
	second := c.Schedule(diskPod("m2", "made"))
	if first.Node == "" || len(first.Volumes) != 1 || first.Volumes[0].Volume != nil || second.Node != first.Node {
		t.Errorf("first %+v, second %+v", first, second)
	}
	c.SetClaim(diskClaim("elsewhere", "lazy", "", func(c *corev1.PersistentVolumeClaim) {
		c.Annotations = map[string]string{SelectedNode: "n2"}
	}))
	if d := c.Schedule(diskPod("e", "elsewhere")); d.Node != "n2" {
		t.Errorf("a claim whose node was selected before goes to %q: %v", d.Node, d.Why)
	}
	if d := c.Schedule(diskPod("both", "elsewhere", "d")); d.Node != "" {
		t.Errorf("a pod with volumes on two nodes goes to %s", d.Node)
	}
}

// A class's allowed topologies say where a volume can be made.
func TestAllowedTopologies(t *testing.T) {
	c := disks(t)
	class := *c.volumes.classes["lazy"]
	class.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelTopologyZone, Values: []string{"z2"}}}}}
	c.SetStorageClass("lazy", &class)
	c.SetClaim(diskClaim("a", "lazy", ""))
	if d := c.Schedule(diskPod("p", "a")); d.Node != "n2" {
		t.Errorf("goes to %q: %v", d.Node, d.Why)
	}
}

// A claim for one pod has one pod; one of lower priority may be preempted for it.
func TestReadWriteOncePod(t *testing.T) {
	c := disks(t)
	c.SetVolume(disk("v", "lazy", "1Gi", "n2"))
	c.SetClaim(diskClaim("a", "lazy", "v", func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}))
	low := diskPod("low", "a")
	if d := c.Schedule(low); d.Node != "n2" {
		t.Fatalf("goes to %q: %v", d.Node, d.Why)
	}
	high := diskPod("high", "a")
	priority := int32(10)
	high.Spec.Priority = &priority
	const want = "0/3 nodes are available: 3 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."
	if d := c.Schedule(high); d.Why == nil || d.Why.String() != want || d.Why.Plugins != VolumeRestrictions {
		t.Errorf("%v", d.Why)
	}
	if p := c.Preempt(high, nil); p.Node != "n2" || len(p.Victims) != 1 || p.Victims[0] != low {
		t.Errorf("preempts %+v", p)
	}
	c.Forget("low")
	if d := c.Schedule(high); d.Node != "n2" {
		t.Errorf("goes to %q: %v", d.Node, d.Why)
	}
}

// No more of a driver's volumes go to a node than can be attached to it; one that is there already costs nothing.
func TestAttachLimits(t *testing.T) {
	c := disks(t)
	for i := range 3 {
		name := fmt.Sprintf("v%d", i)
		c.SetVolume(disk(name, "lazy", "1Gi", "n2", func(v *corev1.PersistentVolume) {
			v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "x", VolumeHandle: name}
		}))
		c.SetClaim(diskClaim(name, "lazy", name))
	}
	c.SetAttachLimits("n2", map[string]int{"x": 2})
	for i, want := range []string{"n2", "n2", ""} {
		name := fmt.Sprintf("v%d", i)
		if d := c.Schedule(diskPod("p"+name, name)); d.Node != want {
			t.Errorf("%s goes to %q: %v", name, d.Node, d.Why)
		}
	}
	if d := c.Schedule(diskPod("q", "v2")); d.Why == nil || d.Why.Reasons["node(s) exceed max volume count"] != 1 {
		t.Errorf("%v", d.Why)
	}
	if d := c.Schedule(diskPod("again", "v0")); d.Node != "n2" {
		t.Errorf("goes to %q: %v", d.Node, d.Why)
	}
}

// The pod may be bound once all its claims are and their volumes can be used on its node; a volume that cannot is an error.
func TestVolumesBound(t *testing.T) {
	c := disks(t)
	c.SetClaim(diskClaim("a", "lazy", ""))
	pod := diskPod("p", "a")
	if ok, err := c.VolumesBound(pod, "n2"); ok || err != nil {
		t.Errorf("unbound: %t %v", ok, err)
	}
	c.SetClaim(diskClaim("a", "lazy", "v"))
	if ok, err := c.VolumesBound(pod, "n2"); ok || err != nil {
		t.Errorf("volume not seen yet: %t %v", ok, err)
	}
	c.SetVolume(disk("v", "lazy", "1Gi", "n2"))
	if ok, err := c.VolumesBound(pod, "n2"); !ok || err != nil {
		t.Errorf("bound: %t %v", ok, err)
	}
	if ok, err := c.VolumesBound(pod, "n1"); ok || err == nil {
		t.Errorf("bound elsewhere: %t %v", ok, err)
	}
}
