package devicetaint

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
	"bareboat.dev/controllermanager/pods"
)

const driver = "d.example.com"

func ptr[T any](v T) *T { return &v }

// hold puts a pod that runs into a world, with a claim that has a device of its name.
func hold(w *plantest.World, name string, tolerations ...resourcev1.DeviceToleration) {
	pod := plantest.Put(w, plan.Pods, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       corev1.PodSpec{NodeName: "n", ResourceClaims: []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: ptr(name)}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	})
	plantest.Put(w, plan.ResourceClaims, &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Status: resourcev1.ResourceClaimStatus{
			ReservedFor: []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: name, UID: pod.UID}},
			Allocation: &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
				{Request: "r", Driver: driver, Pool: "pool", Device: name, Tolerations: tolerations},
			}}},
		},
	})
}

// slice publishes devices of the names, tainted since the given time.
func slice(w *plantest.World, effect resourcev1.DeviceTaintEffect, since time.Time, names ...string) {
	s := &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "slice"},
		Spec:       resourcev1.ResourceSliceSpec{Driver: driver, Pool: resourcev1.ResourcePool{Name: "pool", Generation: 1, ResourceSliceCount: 1}},
	}
	for _, name := range names {
		s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: name, Taints: []resourcev1.DeviceTaint{{Key: "broken", Effect: effect, TimeAdded: ptr(metav1.NewTime(since))}}})
	}
	plantest.Put(w, plan.ResourceSlices, s)
}

func rule(w *plantest.World, effect resourcev1.DeviceTaintEffect, selector *resourcev1.DeviceTaintSelector) {
	plantest.Put(w, plan.DeviceTaintRules, &resourcev1.DeviceTaintRule{
		ObjectMeta: metav1.ObjectMeta{Name: "rule"},
		Spec:       resourcev1.DeviceTaintRuleSpec{DeviceSelector: selector, Taint: resourcev1.DeviceTaint{Key: "broken", Effect: effect, TimeAdded: ptr(metav1.NewTime(w.Now))}},
	})
}

func view(w *plantest.World) View {
	return View{
		Claim: func(namespace, name string) *resourcev1.ResourceClaim {
			if !w.Exists(plan.ResourceClaims, namespace, name) {
				return nil
			}
			return plantest.Get[*resourcev1.ResourceClaim](w, plan.ResourceClaims, namespace, name)
		},
		Device: func(_, _, name string) *resourcev1.Device {
			return Device(plantest.List[*resourcev1.ResourceSlice](w, plan.ResourceSlices), name)
		},
		Rules: plantest.List[*resourcev1.DeviceTaintRule](w, plan.DeviceTaintRules),
	}
}

func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	v, all := view(w), plantest.List[*corev1.Pod](w, plan.Pods)
	for _, pod := range all {
		out["pod "+pod.Name] = ReconcilePod(pod, v, w.Now)
	}
	for _, r := range v.Rules {
		out["rule "+r.Name] = ReconcileRule(r, all, v, func() Devices {
			d := Devices{Published: published(plantest.List[*resourcev1.ResourceSlice](w, plan.ResourceSlices), r)}
			for _, c := range plantest.List[*resourcev1.ResourceClaim](w, plan.ResourceClaims) {
				d.Allocated += allocated(c, r)
			}
			return d
		}, w.Now)
	}
	return out
}

// left names the pods that are not being deleted.
func left(w *plantest.World) string {
	var names []string
	for _, pod := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if pod.DeletionTimestamp == nil {
			names = append(names, pod.Name)
		} else if c := pods.Condition(pod, corev1.DisruptionTarget); c == nil || c.Reason != "DeletionByDeviceTaintManager" {
			names = append(names, pod.Name+" without a reason")
		}
	}
	return strings.Join(names, " ")
}

// Pods go when their device's taint is no longer tolerated, whoever put it there, and say why; others stay. So it is after a crash
// behind any write, and from any stale view.
func TestEviction(t *testing.T) {
	exists := func(seconds *int64) resourcev1.DeviceToleration {
		return resourcev1.DeviceToleration{Operator: resourcev1.DeviceTolerationOpExists, TolerationSeconds: seconds}
	}
	for name, taint := range map[string]func(w *plantest.World){
		"by the driver": func(w *plantest.World) {
			slice(w, resourcev1.DeviceTaintEffectNoExecute, w.Now, "bare", "forever", "minute")
		},
		"by a rule": func(w *plantest.World) {
			rule(w, resourcev1.DeviceTaintEffectNoExecute, &resourcev1.DeviceTaintSelector{Driver: ptr(driver), Pool: ptr("pool")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := plantest.New()
			hold(w, "bare")
			hold(w, "forever", exists(nil))
			hold(w, "minute", exists(ptr(int64(60))), exists(ptr(int64(300))))
			taint(w)
			story := plantest.Story{Start: w, Plans: plans, Writes: Controller().Writes}
			end := story.Run(t)
			if got := left(end); got != "forever minute" {
				t.Errorf("at once there are left %q", got)
			}
			if p := plans(end)["pod minute"]; p.After != time.Minute {
				t.Errorf("looks again after %v", p.After)
			}
			story.Crash(t)
			story.Stale(t, 1, 2)
			end.Advance(time.Minute)
			if got := left(plantest.Story{Start: end, Plans: plans}.Run(t)); got != "forever" {
				t.Errorf("after a minute there are left %q", got)
			}
		})
	}
}

// Nobody goes for another effect, another device, a rule without a selector, a claim that is reserved for somebody else, or an old
// generation of slices.
func TestStays(t *testing.T) {
	for name, change := range map[string]func(w *plantest.World){
		"NoSchedule":   func(w *plantest.World) { slice(w, resourcev1.DeviceTaintEffectNoSchedule, w.Now, "a") },
		"other device": func(w *plantest.World) { slice(w, resourcev1.DeviceTaintEffectNoExecute, w.Now, "b") },
		"no selector":  func(w *plantest.World) { rule(w, resourcev1.DeviceTaintEffectNoExecute, nil) },
		"other pool": func(w *plantest.World) {
			rule(w, resourcev1.DeviceTaintEffectNoExecute, &resourcev1.DeviceTaintSelector{Pool: ptr("other")})
		},
		"not reserved": func(w *plantest.World) {
			slice(w, resourcev1.DeviceTaintEffectNoExecute, w.Now, "a")
			c := plantest.Get[*resourcev1.ResourceClaim](w, plan.ResourceClaims, "ns", "a").DeepCopy()
			c.Status.ReservedFor[0].UID = "other"
			plantest.Put(w, plan.ResourceClaims, c)
		},
		"old generation": func(w *plantest.World) {
			slice(w, resourcev1.DeviceTaintEffectNoExecute, w.Now, "a")
			newer := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "newer"}, Spec: resourcev1.ResourceSliceSpec{
				Driver: driver, Pool: resourcev1.ResourcePool{Name: "pool", Generation: 2, ResourceSliceCount: 1}, Devices: []resourcev1.Device{{Name: "a"}},
			}}
			plantest.Put(w, plan.ResourceSlices, newer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := plantest.New()
			hold(w, "a")
			change(w)
			if got := left(plantest.Story{Start: w, Plans: plans}.Run(t)); got != "a" {
				t.Errorf("left: %q", got)
			}
		})
	}
}

// A rule's condition counts the pods that must go, ends as Completed, is not written more often than every ten seconds, and with no
// effect tells what an eviction would do.
func TestRuleStatus(t *testing.T) {
	w := plantest.New()
	hold(w, "a")
	hold(w, "b")
	slice(w, resourcev1.DeviceTaintEffectNone, w.Now, "a", "b", "c")
	said := func(w *plantest.World) string {
		c := plantest.Get[*resourcev1.DeviceTaintRule](w, plan.DeviceTaintRules, "", "rule").Status.Conditions[0]
		return fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message)
	}
	onlyRules := func(w *plantest.World) map[string]plan.Plan {
		return map[string]plan.Plan{"rule": plans(w)["rule rule"]}
	}
	rule(w, resourcev1.DeviceTaintEffectNone, &resourcev1.DeviceTaintSelector{Driver: ptr(driver)})
	end := plantest.Story{Start: w, Plans: plans}.Run(t)
	if got := said(end); !strings.HasPrefix(got, "False NoEffect 3 published devices selected. 2 allocated devices selected. 2 pods would be evicted in 1 namespace if") {
		t.Error(got)
	}
	rule(end, resourcev1.DeviceTaintEffectNoExecute, &resourcev1.DeviceTaintSelector{Driver: ptr(driver)})
	end = plantest.Story{Start: end, Plans: onlyRules}.Run(t)
	if got := said(end); got != "True PodsPendingEviction 2 pods need to be evicted in 1 namespace." {
		t.Error(got)
	}
	end = plantest.Story{Start: end, Plans: plans}.Run(t)
	if got, p := said(end), plans(end)["rule rule"]; !strings.HasPrefix(got, "True PodsPendingEviction 2") || p.After != statusPeriod {
		t.Errorf("within the period: %s, looks again after %v", got, p.After)
	}
	end.Advance(statusPeriod)
	if got := said(plantest.Story{Start: end, Plans: plans}.Run(t)); got != "False Completed " {
		t.Error(got)
	}
}
