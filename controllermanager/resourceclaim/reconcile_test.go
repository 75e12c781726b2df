package resourceclaim

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// plans makes the plans of all pods and claims of a world.
func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		v := View{
			Claim: func(name string) *resourcev1.ResourceClaim {
				return plantest.Get[*resourcev1.ResourceClaim](w, plan.ResourceClaims, pod.Namespace, name)
			},
			Template: func(name string) *resourcev1.ResourceClaimTemplate {
				return plantest.Get[*resourcev1.ResourceClaimTemplate](w, plan.ResourceClaimTemplates, pod.Namespace, name)
			},
		}
		for _, c := range plantest.List[*resourcev1.ResourceClaim](w, plan.ResourceClaims) {
			if owner.UID(c) == pod.UID {
				v.Owned = append(v.Owned, c)
			}
		}
		out["pod "+pod.Name] = ReconcilePod(pod, v)
	}
	for _, c := range plantest.List[*resourcev1.ResourceClaim](w, plan.ResourceClaims) {
		out["claim "+c.Name] = ReconcileClaim(c, func(name string, uid types.UID) bool {
			pod := plantest.Get[*corev1.Pod](w, plan.Pods, c.Namespace, name)
			return pod == nil || pod.UID != uid || Ended(pod)
		})
	}
	return out
}

func template(name string) *resourcev1.ResourceClaimTemplate {
	return &resourcev1.ResourceClaimTemplate{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: resourcev1.ResourceClaimTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}},
			Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
				{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"}},
			}}},
		},
	}
}

func podWith(name string, templates ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	for _, t := range templates {
		pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, corev1.PodResourceClaim{Name: "for-" + t, ResourceClaimTemplateName: &t})
	}
	return pod
}

// Each entry with a template gets one claim, owned by the pod and noted in its status, whatever crashes and however old the view is;
// an entry whose template is missing is told of.
func TestMakesClaims(t *testing.T) {
	w := plantest.New()
	plantest.Put(w, plan.ResourceClaimTemplates, template("one"))
	plantest.Put(w, plan.ResourceClaimTemplates, template("two"))
	pod := podWith("p", "one", "two", "none")
	direct := "mine"
	pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, corev1.PodResourceClaim{Name: "direct", ResourceClaimName: &direct})
	pod = plantest.Put(w, plan.Pods, pod)
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}
	end := story.Run(t)
	claims := plantest.List[*resourcev1.ResourceClaim](end, plan.ResourceClaims)
	if len(claims) != 2 {
		t.Fatalf("%d claims", len(claims))
	}
	for i, entry := range []string{"for-one", "for-two"} {
		c := claims[i]
		if !strings.HasPrefix(c.Name, "p-"+entry+"-") || len(c.Name) != len("p-"+entry+"-")+5 || owner.UID(c) != pod.UID || c.Labels["a"] != "b" || c.Annotations["c"] != "d" ||
			c.Annotations[resourcev1.PodResourceClaimAnnotation] != entry || c.Spec.Devices.Requests[0].Name != "r" {
			t.Errorf("claim of %s: %+v", entry, c)
		}
		s := plantest.Get[*corev1.Pod](end, plan.Pods, "ns", "p").Status.ResourceClaimStatuses
		if len(s) != 2 || s[i].Name != entry || *s[i].ResourceClaimName != c.Name {
			t.Errorf("status %+v", s)
		}
	}
	const want = `PodResourceClaim for-none: resource claim template "none": resourceclaimtemplate.resource.k8s.io "none" not found`
	if ev := plans(end)["pod p"].Events; len(ev) != 1 || ev[0].Reason != "FailedResourceClaimCreation" || ev[0].Message != want {
		t.Errorf("events %+v", ev)
	}
	story.Crash(t)
	story.Stale(t, 1)
}

// Long names stay recognizable and within a label's length.
func TestLongNames(t *testing.T) {
	pod := podWith(strings.Repeat("p", 60), strings.Repeat("t", 60))
	p := ReconcilePod(pod, View{
		Claim:    func(string) *resourcev1.ResourceClaim { return nil },
		Template: func(name string) *resourcev1.ResourceClaimTemplate { return template(name) },
	})
	if name := p.Writes[0].Object.GetName(); len(name) > 63 || !strings.HasPrefix(name, "ppp") || !strings.Contains(name, "p-for-ttt") || name[len(name)-6] != '-' {
		t.Errorf("%d: %s", len(name), name)
	}
}

// allocated makes a claim that has a device and is reserved for pods.
func allocated(name string, users ...*corev1.Pod) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Finalizers: []string{resourcev1.Finalizer, "other"}}}
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Device: "d"}}}}
	for _, u := range users {
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: u.Name, UID: u.UID})
	}
	return c
}

// Reservations end with their pods, the allocation with the last of them, and the finalizer when the claim is being deleted; somebody
// else's reservation holds the claim.
func TestLetsGo(t *testing.T) {
	w := plantest.New()
	put := func(name string, phase corev1.PodPhase, node string) *corev1.Pod {
		pod := podWith(name)
		pod.Status.Phase, pod.Spec.NodeName = phase, node
		return plantest.Put(w, plan.Pods, pod)
	}
	running, ended := put("running", corev1.PodRunning, "n"), put("ended", corev1.PodSucceeded, "n")
	going := podWith("going")
	now := metav1.NewTime(w.Now)
	going.DeletionTimestamp = &now
	going = plantest.Put(w, plan.Pods, going)
	gone := podWith("gone")
	gone.UID = "gone"
	foreign := allocated("foreign", ended)
	foreign.Status.ReservedFor = append(foreign.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{APIGroup: "x", Resource: "pods", Name: "y", UID: "z"})
	deleted := allocated("deleted")
	deleted.DeletionTimestamp = &now
	deletedInUse := allocated("deleted-in-use", running, ended)
	deletedInUse.DeletionTimestamp = &now
	own := allocated("own", ended)
	own.Finalizers = []string{resourcev1.Finalizer}
	own.OwnerReferences = []metav1.OwnerReference{owner.Ref(plan.Pods, ended)}
	for _, c := range []*resourcev1.ResourceClaim{
		allocated("shared", running, ended, going, gone), allocated("last", ended), allocated("idle"), foreign, deleted, deletedInUse, own,
	} {
		plantest.Put(w, plan.ResourceClaims, c)
	}
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}
	end := story.Run(t)
	for name, want := range map[string]string{
		"shared": "allocated protected running", "last": "protected", "idle": "allocated protected", "foreign": "allocated protected y", "deleted": "",
		"deleted-in-use": "allocated protected running", "own": "none",
	} {
		got := "none"
		if c := plantest.Get[*resourcev1.ResourceClaim](end, plan.ResourceClaims, "ns", name); c != nil {
			var parts []string
			if c.Status.Allocation != nil {
				parts = append(parts, "allocated")
			}
			if c.Finalizers[0] == resourcev1.Finalizer {
				parts = append(parts, "protected")
			}
			for _, r := range c.Status.ReservedFor {
				parts = append(parts, r.Name)
			}
			got = strings.Join(parts, " ")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	story.Crash(t)
	story.Stale(t, 1)
}

// A pod that was bound without the scheduler has its allocated claims reserved, and only those.
func TestReserves(t *testing.T) {
	w := plantest.New()
	pod := podWith("p")
	pod.Spec.NodeName = "n"
	for _, name := range []string{"has", "has-none", "missing"} {
		pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, corev1.PodResourceClaim{Name: name, ResourceClaimName: &name})
	}
	plantest.Put(w, plan.Pods, pod)
	plantest.Put(w, plan.ResourceClaims, allocated("has"))
	plantest.Put(w, plan.ResourceClaims, &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "has-none"}})
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}
	end := story.Run(t)
	for name, want := range map[string]int{"has": 1, "has-none": 0} {
		if got := plantest.Get[*resourcev1.ResourceClaim](end, plan.ResourceClaims, "ns", name).Status.ReservedFor; len(got) != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	story.Crash(t)
}
