package loop_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
)

const selectedNode = "volume.kubernetes.io/selected-node"

// claim puts a claim of class "lazy", whose claims wait for their first consumer, or "eager".
func (r *rig) claim(name, class string) {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	clienttest.Put(r.s, client.StorageClasses(), &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "lazy"}, Provisioner: "x", VolumeBindingMode: &wait})
	clienttest.Put(r.s, client.StorageClasses(), &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "eager"}, Provisioner: "x"})
	clienttest.Put(r.s, client.PersistentVolumeClaims(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	})
}

func (r *rig) getClaim(name string) *corev1.PersistentVolumeClaim {
	r.t.Helper()
	c, err := client.Of(r.s.Client(), client.PersistentVolumeClaims()).Get(r.t.Context(), "default", name)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// bindClaim does what provisioner and binder do: a volume on a node, and the claim bound to it.
func (r *rig) bindClaim(name, node string) {
	c := r.getClaim(name).DeepCopy()
	clienttest.Put(r.s, client.PersistentVolumes(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: "lazy", ClaimRef: &corev1.ObjectReference{Namespace: "default", Name: name, UID: c.UID},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound},
	})
	c.Spec.VolumeName, c.Status.Phase = "pv-"+name, corev1.ClaimBound
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations["pv.kubernetes.io/bind-completed"] = "yes"
	clienttest.Put(r.s, client.PersistentVolumeClaims(), c)
}

func (r *rig) createWithClaim(name, claim string) {
	r.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	if _, err := client.Of(r.s.Client(), client.Pods()).Create(r.t.Context(), pod); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) failures(pod string) (messages []string) {
	r.t.Helper()
	evs, _, err := client.Of(r.s.Client(), client.Events()).List(r.t.Context(), "default", client.ListOptions{FieldSelector: "reason=FailedScheduling,involvedObject.name=" + pod})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, ev := range evs {
		messages = append(messages, ev.Message)
	}
	return messages
}

// Shows that a pod's node is written into the claims that wait for it, that the pod is bound once they are, not before, and that
// a scheduler which takes over in between goes on with the same node.
func TestWaitsForItsVolumes(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		r.node("b", 10)
		r.claim("data", "lazy")
		stop := r.scheduler()
		r.createWithClaim("p", "data")
		time.Sleep(time.Second)
		node := r.getClaim("data").Annotations[selectedNode]
		if node == "" {
			t.Fatal("no node was selected")
		}
		time.Sleep(time.Minute)
		r.expect("p=")
		stop()
		stop = r.scheduler()
		time.Sleep(time.Second)
		r.expect("p=")
		r.bindClaim("data", node)
		time.Sleep(time.Second)
		r.expect("p=" + node)
		if got := r.failures("p"); got != nil {
			t.Errorf("failures: %q", got)
		}
		stop()
	})
}

// Shows that a claim that does not wait is waited for, with kube-scheduler's words, and that its binding wakes the pod.
func TestUnboundImmediateClaim(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		r.claim("data", "eager")
		stop := r.scheduler()
		r.createWithClaim("p", "data")
		time.Sleep(5 * time.Second)
		const want = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
		if got := r.failures("p"); len(got) != 1 || got[0] != want {
			t.Errorf("failures: %q", got)
		}
		r.bindClaim("data", "a")
		time.Sleep(5 * time.Second) // the volume alone may have woken the pod once more in vain
		r.expect("p=a")
		stop()
	})
}

// Shows that a provisioner that gives the node back gets another choice, and that a pod whose volumes do not come is let go after
// ten minutes.
func TestVolumesThatDoNotCome(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		r.claim("data", "lazy")
		stop := r.scheduler()
		r.createWithClaim("p", "data")
		time.Sleep(time.Second)
		c := r.getClaim("data").DeepCopy()
		delete(c.Annotations, selectedNode)
		clienttest.Put(r.s, client.PersistentVolumeClaims(), c)
		time.Sleep(3 * time.Second)
		if got := r.getClaim("data").Annotations[selectedNode]; got != "a" {
			t.Errorf("after a reset the node is %q", got)
		}
		if got := r.failures("p"); len(got) != 1 || got[0] != "binding volumes: provisioning failed for PVC" {
			t.Errorf("failures: %q", got)
		}
		time.Sleep(11 * time.Minute)
		if got := r.failures("p"); len(got) != 2 || got[1] != "binding volumes: timed out waiting for the condition" {
			t.Errorf("failures: %q", got)
		}
		r.bindClaim("data", "a")
		time.Sleep(15 * time.Second)
		r.expect("p=a")
		stop()
	})
}

// Shows that a free volume is bound to the claim, and the pod follows.
func TestBindsFreeVolumes(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		r.node("b", 10)
		r.claim("data", "lazy")
		clienttest.Put(r.s, client.PersistentVolumes(), &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "free"},
			Spec: corev1.PersistentVolumeSpec{
				StorageClassName: "lazy", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			},
			Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
		})
		stop := r.scheduler()
		r.createWithClaim("p", "data")
		time.Sleep(time.Second)
		v, err := client.Of(r.s.Client(), client.PersistentVolumes()).Get(t.Context(), "", "free")
		if err != nil || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != r.getClaim("data").UID || v.Annotations["pv.kubernetes.io/bound-by-controller"] != "yes" {
			t.Fatalf("volume %+v, %v", v, err)
		}
		if got := r.getClaim("data").Annotations[selectedNode]; got != "" {
			t.Errorf("a volume is to be made on %s, too", got)
		}
		c := r.getClaim("data").DeepCopy()
		c.Spec.VolumeName, c.Annotations, c.Status.Phase = "free", map[string]string{"pv.kubernetes.io/bind-completed": "yes"}, corev1.ClaimBound
		clienttest.Put(r.s, client.PersistentVolumeClaims(), c)
		time.Sleep(time.Second)
		if got := r.where(); got != "p=a" && got != "p=b" {
			t.Errorf("pods: %s", got)
		}
		stop()
	})
}

// Shows that preemption spares what a PodDisruptionBudget protects, if there is another choice.
func TestPreemptionRespectsBudgets(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 1)
		r.node("b", 1)
		stop := r.scheduler()
		low, high := int32(1), int32(10)
		create := func(name, app string, priority *int32) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": app}}}
			pod.Spec.Containers, pod.Spec.Priority = []corev1.Container{{Name: "c", Image: "i"}}, priority
			if _, err := client.Of(r.s.Client(), client.Pods()).Create(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
		}
		higher := low + 1
		create("guarded", "guarded", &low)
		create("other", "other", &higher) // more important, so that only the budget can speak for the guarded one
		time.Sleep(time.Second)
		clienttest.Put(r.s, client.PodDisruptionBudgets(), &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "guard"},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "guarded"}}},
		})
		time.Sleep(time.Second)
		create("urgent", "urgent", &high)
		time.Sleep(time.Second)
		pods := client.Of(r.s.Client(), client.Pods())
		if p, err := pods.Get(t.Context(), "default", "guarded"); err != nil || p.DeletionTimestamp != nil {
			t.Errorf("the guarded pod was preempted: %v", err)
		}
		if p, err := pods.Get(t.Context(), "default", "other"); err == nil && p.DeletionTimestamp == nil {
			t.Error("nothing was preempted")
		}
		stop()
	})
}
